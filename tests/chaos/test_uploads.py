"""Files of every bad kind are refused by name and the worker goes on; a sound one has pictures to choose from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory: pytest.TempPathFactory, samples: Path, clip: Path) -> dict[str, tuple[Path, str]]:
    """Code of the refusal → file and role."""
    folder = tmp_path_factory.mktemp("bad")
    photo = (samples / "astronaut.jpg").read_bytes()
    files: dict[str, tuple[Path, str]] = {"source_not_photo": (clip, "source")}
    for code, name, content in (
        ("not_media", "notes.txt", b"These are notes, and no picture at all. " * 50),
        ("format_mismatch", "notes.jpg", b"These are notes, and no picture at all. " * 50),
        ("truncated", "half.jpg", photo[: len(photo) // 2]),
        ("format_unsupported", "drawing.gif", b"GIF89a" + bytes(200)),
    ):
        (folder / name).write_bytes(content)
        files[code] = (folder / name, "target")
    noise = np.random.default_rng(7).integers(90, 160, (512, 512, 3), np.uint8)
    Image.fromarray(cv2.GaussianBlur(noise, (0, 0), 6)).save(folder / "wall.png")
    files["no_face"] = (folder / "wall.png", "target")
    return files


def test_each_bad_file_is_refused_by_its_name_and_our_own_output_is_recognised(
    house: Any, samples: Path, bad_files: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    house.start_worker()
    uploads = {code: house.do("upload", path=str(path), role=role) for code, (path, role) in bad_files.items()}

    def ended(asset_id: str) -> Any:
        state = house.do("asset", asset_id=asset_id)
        return state if state["state"] not in {"uploaded", "screening"} else None

    results = {code: house.wait(lambda asset_id=asset_id: ended(asset_id)) for code, asset_id in uploads.items()}
    found = {code: (state["state"], (state["failure"] or {}).get("code")) for code, state in results.items()}
    assert found == {code: ("refused", code) for code in bad_files}

    source = house.upload_ready(samples / "astronaut.jpg", "source")
    target = house.upload_ready(samples / "grace_hopper.jpg", "target")
    faces = house.do("asset", asset_id=target)["faces"]
    assert faces[0]["index"] == 0
    assert faces[0]["size"] > 64
    assert "descriptor" not in faces[0]
    picture = house.do("preview", asset_id=target, face=0, dest=str(tmp_path / "preview.jpg"))
    assert picture["format"] == "JPEG"
    assert max(picture["size"]) <= 640

    donor = house.do("ask", role="face_donor", source=source)
    person = house.do("ask", role="target_person", target=target)
    job_id = house.do("submit", source=source, target=target, donor=donor, person=person)
    house.wait_job(job_id, "succeeded")
    # Re-encoded, so that the manifest is gone and only the mark is left to tell.
    house.do("output", job_id=job_id, dest=str(tmp_path / "out.jpg"))
    Image.open(tmp_path / "out.jpg").convert("RGB").save(tmp_path / "again.jpg", quality=85)
    again = house.do("upload", path=str(tmp_path / "again.jpg"), role="target")
    state = house.wait(lambda: ended(again))
    assert (state["state"], state["failure"]["code"]) == ("refused", "is_our_output")
    house.wait(lambda: house.do("work_folders") == 0)


def test_without_a_profile_nothing_is_let_through(open_house: Any, samples: Path) -> None:
    house = open_house()
    house.start_worker("ctl", beat=True)
    house.start_worker(IMPRIMATUR_PROFILE="")
    asset_id = house.do("upload", path=str(samples / "astronaut.jpg"), role="source")

    def ended() -> Any:
        state = house.do("asset", asset_id=asset_id)
        return state if state["state"] not in {"uploaded", "screening"} else None

    state = house.wait(ended)
    assert (state["state"], state["failure"]["code"]) == ("failed", "profile_missing")


def test_in_the_standard_profile_a_moderator_releases_what_was_not_screened(open_house: Any, samples: Path) -> None:
    house = open_house(IMPRIMATUR_PROFILE="standard")
    house.start_worker("ctl", beat=True)
    house.start_worker()
    asset_id = house.do("upload", path=str(samples / "astronaut.jpg"), role="source")
    house.wait(lambda: house.do("asset", asset_id=asset_id)["state"] == "in_review")
    reasons = house.do("release_all")
    assert "not_screened_age" in reasons[0]  # the licence of the age network is the operator's to confirm
    assert house.do("asset", asset_id=asset_id)["state"] == "ready"
