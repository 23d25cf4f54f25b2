"""Two people swapped with each other in one picture, through real processes; whoever is not named stays untouched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import c2pa
import numpy as np
from PIL import Image

from watermark.credentials import CONSENT_LABEL

SIDE = 512
PORTRAITS = next(
    (found for one in Path(__file__).parents if (found := one / "shared" / "media" / "portraits").is_dir()), None
)


def group(samples: Path, path: Path) -> int:
    """The two samples beside each other, and where there is one a third portrait that nobody names; how many."""
    people = [samples / "astronaut.jpg", samples / "grace_hopper.jpg"]
    if PORTRAITS is not None:
        people.append(sorted(PORTRAITS.glob("*.jpg"))[0])
    whole = Image.new("RGB", (SIDE * len(people), SIDE))
    for place, person in enumerate(people):
        with Image.open(person) as picture:
            side = min(picture.size)
            square = picture.convert("RGB").crop((0, 0, side, side)).resize((SIDE, SIDE))
        whole.paste(square, (SIDE * place, 0))
    whole.save(path, quality=97, subsampling=0)
    return len(people)


def manifest_of(path: Path) -> Any:
    with path.open("rb") as file, c2pa.Reader("image/jpeg", file) as reader:
        report = json.loads(reader.json())
    return report["manifests"][report["active_manifest"]]


def changed(before: Path, after: Path, box: list[float]) -> float:
    """Mean difference in the middle of a face, in levels of 255."""
    x, y, width, height = box
    middle = (int(x + width / 4), int(y + height / 4), int(x + width * 3 / 4), int(y + height * 3 / 4))
    pair = [np.asarray(Image.open(path).convert("RGB").crop(middle), np.float64) for path in (before, after)]
    return float(np.abs(pair[0] - pair[1]).mean())


def test_two_people_swapped_with_each_other_are_both_named_and_a_third_is_untouched(
    house: Any, samples: Path, tmp_path: Path
) -> None:
    house.start_worker()
    count = group(samples, tmp_path / "group.jpg")
    target = house.upload_ready(tmp_path / "group.jpg", "target")
    faces = house.do("asset", asset_id=target)["faces"]
    assert len(faces) == count
    places = sorted(range(count), key=lambda place: faces[place]["box"][0])  # from left to right
    names = ("grace_hopper.jpg", "astronaut.jpg")  # whose face comes onto the astronaut's, and onto hers
    pairs = []
    for place, name in zip(places, names, strict=False):
        source = house.upload_ready(samples / name, "source")
        donor = house.do("ask", role="face_donor", source=source, target=target, place=place)
        person = house.do("ask", role="target_person", target=target, place=place, give=False)
        pairs.append([source, place, donor, person])
    job_id = house.do("submit_pairs", target=target, pairs=pairs)
    for _, _, _, person in pairs:
        assert house.wait_job(job_id, "awaiting_consent")["output"] is None
        house.do("agree", consent_id=person)
    found = house.wait_job(job_id, "succeeded")
    output = house.do("output", job_id=job_id, dest=str(tmp_path / "out.jpg"))
    assert (output["credentials"], output["mark_in_manifest"]) == ("trusted", [output["mark_recorded"]])
    for _, place, _, _ in pairs:
        measured = found["quality"][str(faces[place]["index"])]
        assert measured["distance_to_source"] < 0.6 < measured["target_source_before"]
        assert changed(tmp_path / "group.jpg", tmp_path / "out.jpg", faces[place]["box"]) > 10
    for place in places[2:]:
        assert str(faces[place]["index"]) not in found["quality"]
        assert changed(tmp_path / "group.jpg", tmp_path / "out.jpg", faces[place]["box"]) < 5
    active = manifest_of(tmp_path / "out.jpg")
    said = next(one["data"] for one in active["assertions"] if one["label"] == CONSENT_LABEL)
    roles = ("face_donor", "target_person")
    expected = [(consent, role) for pair in pairs for consent, role in zip(pair[2:], roles, strict=True)]
    assert [(each["record"], each["role"]) for each in said["records"]] == expected
    assert [each["relationship"] for each in active["ingredients"]] == ["parentOf", "componentOf", "componentOf"]
    for consent, _ in expected:
        assert house.do("uses", consent_id=consent) == {"counted": 1}
    house.do("withdraw", consent_id=pairs[1][3])
    assert house.do("output_refused", job_id=job_id) == "output_withdrawn"
