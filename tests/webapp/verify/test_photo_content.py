"""The comparison of a photo with its record, and what the answer says when it cannot be told."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.webapp import cast
from watermark import image
from watermark.fingerprint import take
from watermark.payload import new_mark_id
from webapp import keys_of_house
from webapp.verify import services
from webapp.verify.content import Recorded, match_photo


def record_of(*pictures: NDArray[np.uint8]) -> dict[str, object]:
    frames = [{"seconds": float(at), "fingerprint": take(rgb).to_json()} for at, rgb in enumerate(pictures)]
    return {"kind": "photo", "frames": frames}


def test_a_photo_is_compared_with_every_entry_and_the_best_counts(
    astronaut: NDArray[np.uint8], grace: NDArray[np.uint8]
) -> None:
    recorded = Recorded.read(record_of(astronaut, grace))
    assert recorded is not None
    assert match_photo(recorded, grace, None).matches
    assert match_photo(recorded, np.ascontiguousarray(grace[::-1]), None).judged == "differs"


@pytest.fixture
def wall(cleo: cast.Account, tmp_path: Path) -> Path:
    """A re-encoded copy of a published picture of nothing."""
    mark = new_mark_id()
    grain = np.random.Generator(np.random.PCG64(1)).normal(128, 2, (600, 800, 3))
    rgb = image.embed(np.clip(grain, 0, 255).astype(np.uint8), mark, keys_of_house.mark_keys()[0])
    cast.published(cleo, mark_id=mark, fingerprint=record_of(rgb))
    path = tmp_path / "copy.jpg"
    assert cv2.imwrite(str(path), rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    return path


@pytest.mark.django_db
def test_a_mark_on_a_picture_of_nothing_is_not_taken_for_proof(wall: Path) -> None:
    found = services.verify_file(wall)
    assert found.evidence.mark is not None
    assert (found.code, found.reason) == ("disagree", "too_plain")


@pytest.mark.django_db
def test_a_copy_with_another_face_is_told_apart_from_a_copied_mark(
    cleo: cast.Account, grace: NDArray[np.uint8], astronaut: NDArray[np.uint8], tmp_path: Path
) -> None:
    """What was edited after publishing is still recovered; a mark moved to another picture is not believed."""
    mark = new_mark_id()
    rgb = image.embed(grace, mark, keys_of_house.mark_keys()[0])
    cast.published(cleo, mark_id=mark, fingerprint=record_of(rgb))
    edited = rgb.copy()
    height, width = rgb.shape[:2]
    face = astronaut[20:220, 130:330]
    edited[height // 4 : height // 2, width // 3 : 2 * width // 3] = cv2.resize(
        face, (2 * width // 3 - width // 3, height // 2 - height // 4), interpolation=cv2.INTER_AREA
    )
    other = cv2.resize(astronaut, (width, height), interpolation=cv2.INTER_AREA).astype(np.int64)
    forged = np.clip(other + rgb - grace.astype(np.int64), 0, 255).astype(np.uint8)
    for picture, answer in ((edited, ("ours_recovered", "")), (forged, ("disagree", "content_mismatch"))):
        path = tmp_path / "copy.png"
        assert cv2.imwrite(str(path), picture[..., ::-1])
        found = services.verify_file(path)
        assert (found.code, found.reason) == answer
