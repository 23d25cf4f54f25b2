"""The comparison of a video with its record: whole, cut, or another one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from watermark.fingerprint import take
from webapp.verify.content import Recorded, match_video, times_to_compare


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


def test_frames_too_plain_to_tell_have_no_voice(
    film: list[tuple[float, NDArray[np.uint8]]], recorded: Recorded
) -> None:
    black = np.zeros((512, 512, 3), np.uint8)
    plain = [{"seconds": 8.0 + at, "fingerprint": take(black).to_json()} for at in range(6)]
    frames = [{"seconds": at, "fingerprint": one.to_json()} for at, one in recorded.frames]
    with_credits = Recorded.read({"frames": frames + plain})
    assert with_credits is not None
    shown = [*film[5:7], *((8.0 + at, black) for at in range(6))]
    found = match_video(with_credits, shown, None)
    assert found is not None
    assert found.judged == "ours"
    nothing = match_video(with_credits, shown[2:], None)
    assert nothing is not None
    assert nothing.judged == "unknown"


def pan(picture: NDArray[np.uint8], seconds: float) -> NDArray[np.uint8]:
    """A camera that moves by a quarter of the picture per second."""
    return np.ascontiguousarray(np.roll(picture, round(-128 * seconds), axis=1))


def test_a_moving_film_that_was_cut_between_seconds_matches(
    astronaut: NDArray[np.uint8], grace: NDArray[np.uint8]
) -> None:
    raw = {"frames": [{"seconds": at, "fingerprint": take(pan(astronaut, at)).to_json()} for at in range(12)]}
    recorded = Recorded.read(raw)
    assert recorded is not None
    times = times_to_compare(8.0)
    found = match_video(recorded, ((at, pan(astronaut, at + 2.55)) for at in times), None)
    assert found is not None
    assert found.judged == "ours"
    other = np.ascontiguousarray(grace[:512])
    found = match_video(recorded, ((at, pan(other, at + 2.55)) for at in times), None)
    assert found is not None
    assert found.judged == "differs"


def test_a_clip_shorter_than_a_second_is_looked_at_once() -> None:
    assert times_to_compare(0.7) == [0.0, 0.25, 0.5, 0.75]
    assert times_to_compare(0.0) == [0.0, 0.25, 0.5, 0.75]
