"""The comparison of a video with its record: whole, cut, or another one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from watermark.fingerprint import take
from webapp.verify.content import Recorded, match_video


@pytest.fixture(scope="module")
def film(astronaut: NDArray[np.uint8], grace: NDArray[np.uint8]) -> list[tuple[float, NDArray[np.uint8]]]:
    """Eight seconds, a frame per second, each unlike the others."""
    frames = []
    for second in range(8):
        picture = np.roll(astronaut if second % 2 else grace[:512], 60 * second, axis=1)
        frames.append((float(second), np.ascontiguousarray(picture)))
    return frames


@pytest.fixture(scope="module")
def recorded(film: list[tuple[float, NDArray[np.uint8]]]) -> Recorded:
    raw = {"frames": [{"seconds": at, "fingerprint": take(rgb).to_json()} for at, rgb in film]}
    found = Recorded.read(raw)
    assert found is not None
    return found


def test_the_same_film_matches(film: list[tuple[float, NDArray[np.uint8]]], recorded: Recorded) -> None:
    found = match_video(recorded, film[1:7:2], None)
    assert found is not None
    assert found.matches


def test_a_film_whose_beginning_was_cut_off_matches(
    film: list[tuple[float, NDArray[np.uint8]]], recorded: Recorded
) -> None:
    found = match_video(recorded, [(at - 3.0, rgb) for at, rgb in film[3:]], None)
    assert found is not None
    assert found.matches


def test_another_film_does_not_match(film: list[tuple[float, NDArray[np.uint8]]], recorded: Recorded) -> None:
    found = match_video(recorded, [(at, np.ascontiguousarray(rgb[::-1])) for at, rgb in film], None)
    assert found is not None
    assert not found.matches


def test_one_frame_of_ours_in_another_film_is_not_enough(
    film: list[tuple[float, NDArray[np.uint8]]], recorded: Recorded
) -> None:
    foreign = [(at, np.ascontiguousarray(rgb[::-1])) for at, rgb in film[1:]]
    found = match_video(recorded, [film[0], *foreign], None)
    assert found is not None
    assert not found.matches


def test_a_record_that_is_no_fingerprint_compares_nothing() -> None:
    assert Recorded.read({"frames": [{"seconds": 0, "fingerprint": {"v": 9}}]}) is None
    assert Recorded.read({}) is None
