"""What was withdrawn cannot be sent in again: as it is, encoded anew, cut, mirrored or turned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from consent import services as consents
from tests.webapp import cast, publishing
from tests.worker.gate import pictures
from tests.worker.gate.clean import clean_upload
from webapp import keys_of_house
from webapp.jobs import services as jobs
from webapp.jobs.models import Output
from webapp.screening import stay_down
from webapp.screening.models import StayDown, StayDownPicture
from webapp.screening.stay_down import StayDownList
from worker.gate import measure, policy, profiles, signals
from worker.gate.looks import stay_down as gate
from worker.gate.looks.looking import look_at
from worker.gate.looks.own_mark import MarkLook
from worker.gate.looks.sampling import samples
from worker.gate.upload import Upload
from worker.media import image

pytestmark = pytest.mark.django_db

RGB = NDArray[np.uint8]


@pytest.fixture
def published(stage: Any, tmp_path: Path, astronaut: RGB) -> tuple[Output, RGB]:
    """An output of real pixels with a real mark, and its picture as it went out."""
    job = publishing.at_work(stage)
    made = publishing.marked_photo(tmp_path / "marked.png", "image/png", astronaut, bytes(job.mark_id))
    output, path = publishing.published(stage, job, made)
    with path.open("rb") as file:
        bgr = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)
    assert bgr is not None
    return output, np.ascontiguousarray(bgr[..., ::-1])


def found(path: Path, *, marks: bool = True, sha256: str = "f" * 64) -> str:
    """What the gate finds in a file; without `marks` as if every mark in it had been destroyed."""
    info = measure.probe(path, path.name, "target", measure.SizeLimits(1 << 30, 1 << 30))
    upload, listed = Upload.of(path, info), StayDownList(sha256)
    analysis = pictures.analysis(path.parent, (info.width, info.height), [(0.0, [])], kind=info.kind)
    seen = []
    if marks:
        seen.append(MarkLook(upload, analysis, keys_of_house.mark_keys(), pictures.NoOutputs()).read())
    signal = gate.known(seen, listed)
    if signal is None:
        (signal,) = look_at(samples(upload, analysis), [gate.StayDownLook(listed, info.duration or 0.0)])
    return str(signal.value["found"])


def saved(rgb: RGB, path: Path, mime: str = "image/jpeg", quality: int = 80) -> Path:
    image.write(np.ascontiguousarray(rgb), path, mime, quality=quality)
    return path


def test_a_withdrawn_output_is_refused_in_every_guise_and_other_pictures_are_not(
    published: tuple[Output, RGB], tmp_path: Path, grace: RGB, astronaut: RGB
) -> None:
    output, rgb = published
    as_is = saved(rgb, tmp_path / "as-is.png", "image/png")
    assert found(as_is) == ""  # permission is in force: that it is ours is another rule's business
    consents.withdraw_consent(cast.donor(output.job))
    guises = {
        "as it is": (as_is, "mark"),
        "encoded anew": (saved(rgb, tmp_path / "again.jpg", quality=60), "mark"),
        "cut": (saved(rgb[40:460, 30:470], tmp_path / "cut.jpg", quality=85), "mark"),
        "mirrored": (saved(rgb[:, ::-1], tmp_path / "mirrored.jpg", quality=85), "mark"),
    }
    for name, (path, expected) in guises.items():
        assert found(path) == expected, name
    bare = {
        "encoded anew": saved(rgb, tmp_path / "bare.jpg", quality=35),
        "mirrored": saved(rgb[:, ::-1], tmp_path / "bare-mirrored.jpg", quality=50),
        "turned": saved(np.rot90(rgb), tmp_path / "bare-turned.jpg", quality=50),
        "smaller": saved(cv2.resize(rgb, (300, 300), interpolation=cv2.INTER_AREA), tmp_path / "bare-small.jpg"),
    }
    for name, path in bare.items():
        assert found(path, marks=False) == "picture", name
    assert found(saved(grace, tmp_path / "another.jpg")) == ""
    # The very file it was made from may be used again, in a job with a permission of its own.
    original = saved(astronaut, tmp_path / "original.png", "image/png")
    assert found(original, sha256=output.job.target.sha256) == ""


def test_the_gate_refuses_and_says_why_without_naming_anybody() -> None:
    def decided(value: str) -> policy.GateDecision:
        found = clean_upload(
            own_mark=signals.own_mark(b"\x01" * 8 if value == "mark" else None, "full"),
            stay_down=signals.stay_down(value, 1),
        )
        return policy.decide_asset(found, profiles.named("evaluation"), "target")

    assert decided("").decision == "accept"
    for value in ("mark", "picture"):
        refused = decided(value)
        assert (refused.decision, refused.reasons[0]) == ("reject", "stay_down")
        assert "permission ended" in refused.message
    assert (decided("alike").decision, decided("alike").reasons) == ("review", ("stay_down_unsure",))


def test_the_list_outlives_everything_it_came_from(published: tuple[Output, RGB], tmp_path: Path) -> None:
    output, rgb = published
    consents.revoke_consent(cast.donor(output.job), reason="wrong_person")
    entry = StayDown.objects.get()
    assert (entry.reason, bytes(entry.mark_id)) == ("revoked", bytes(output.mark_id))
    assert not [field for field in StayDown._meta.get_fields() if field.many_to_one]
    grid = bytes(output.fingerprint["frames"][0]["fingerprint"]["grid"], "ascii")
    assert all(grid not in bytes(each.grid_sealed) for each in StayDownPicture.objects.all())
    mark_id = bytes(output.mark_id)
    Output.objects.all().delete()
    assert StayDownList("f" * 64).holds_mark(mark_id)
    assert found(saved(rgb, tmp_path / "again.jpg"), marks=False) == "picture"


def test_a_taken_down_output_stays_down_too_and_twice_is_once(stage: Any, published: tuple[Output, RGB]) -> None:
    output, _ = published
    jobs.take_down_output(output, stage.mod, "law")
    consents.withdraw_consent(cast.donor(output.job))
    stay_down.enter([output])
    assert [entry.reason for entry in StayDown.objects.all()] == ["taken_down"]
    assert StayDownPicture.objects.count() == 1


def test_a_grid_that_cannot_be_read_sends_to_a_person(published: tuple[Output, RGB], tmp_path: Path) -> None:
    output, rgb = published
    consents.withdraw_consent(cast.donor(output.job))
    StayDownPicture.objects.update(grid_sealed=b"rotten")
    assert found(saved(rgb, tmp_path / "again.jpg"), marks=False) == "alike"
