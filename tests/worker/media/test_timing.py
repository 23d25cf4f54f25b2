"""Trim, frame rate and scale: exact first frames, no drift, nothing past the limits."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.media.encode import EncoderChoice, VideoWriter
from worker.media.errors import MediaError
from worker.media.planes import Planes
from worker.media.scaling import output_size
from worker.media.timing import Timeline, Window, exact_rate, first_frame
from worker.media.types import MAX_VIDEO_SIDE
from worker.media.video import Stamp, VideoReader


def _stamps(times: list[int], base: Fraction) -> list[Stamp]:
    return [Stamp(index, pts, float((pts - times[0]) * base)) for index, pts in enumerate(times)]


def _timeline(times: list[int], base: Fraction, window: Window | None = None, fps: Fraction | None = None) -> Timeline:
    window = window or Window()
    kept = next((one for one in _stamps(times, base) if window.holds(one.seconds)), None)
    first = None if kept is None or not window.start else kept.pts * base
    return Timeline(origin=times[0] * base, time_base=base, rate=Fraction(25), window=window, first=first, fps=fps)


def _shown(timeline: Timeline, stamps: list[Stamp]) -> list[tuple[int, int]]:
    """(time in the result, index of the source's frame), as the stream of frames gives it."""
    pairs = timeline.items(("picture", (stamp, None)) for stamp in stamps)
    return [(pts, shown.stamp.index) for _, (shown, _) in pairs for pts in shown.pts]


def test_without_wishes_every_time_stays_as_it_is():
    times = [90, 130, 131, 400]
    timeline = _timeline(times, Fraction(1, 1000))
    assert [pts for pts, _ in _shown(timeline, _stamps(times, Fraction(1, 1000)))] == times
    assert (timeline.shift, timeline.time_base) == (0, Fraction(1, 1000))


@given(
    gaps=st.lists(st.integers(1, 400), min_size=2, max_size=60),
    fps=st.sampled_from([Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(60), Fraction(7)]),
    start=st.integers(0, 500),
)
@settings(max_examples=60, deadline=None)
def test_a_new_rate_has_no_gaps_and_each_picture_is_the_nearest_at_its_time(gaps, fps, start):
    base = Fraction(1, 1000)
    times = [start + sum(gaps[:count]) for count in range(len(gaps) + 1)]
    shown = _shown(_timeline(times, base, fps=fps), _stamps(times, base))
    assert [pts for pts, _ in shown] == list(range(len(shown)))
    for tick, index in shown[:-1]:
        at = tick / fps
        own = (times[index] - times[0]) * base
        assert own <= at + 1 / fps / 2
        if index + 1 < len(times) and tick:  # the first tick is the first frame's, however near the second is
            assert (times[index + 1] - times[0]) * base > at - 1 / fps / 2
    assert abs(len(shown) / fps - (times[-1] - times[0]) * base - Fraction(1, 25)) <= 2 / fps


def test_frames_are_left_out_or_repeated_evenly():
    base = Fraction(1, 50)
    times = list(range(100))
    half = _shown(_timeline(times, base, fps=Fraction(25)), _stamps(times, base))
    assert [index for _, index in half][:4] == [0, 2, 4, 6]
    assert len(half) in (50, 51)
    double = _shown(_timeline(times, base, fps=Fraction(100)), _stamps(times, base))
    assert len(double) in range(199, 204)
    assert {index for _, index in double} == set(range(100))


@given(st.integers(0, 3000), st.integers(1, 3000), st.sampled_from([None, Fraction(30), Fraction(12)]))
@settings(max_examples=80, deadline=None)
def test_a_part_begins_with_its_first_frame_at_zero_and_ends_in_time(start, length, fps):
    base = Fraction(1, 12800)
    times = [1024 + 512 * number for number in range(100)]
    window = Window(start / 1000, (start + length) / 1000)
    stamps = _stamps(times, base)
    inside = [one.index for one in stamps if window.holds(one.seconds)]
    if not inside:
        return
    shown = _shown(_timeline(times, base, window, fps), stamps)
    assert shown[0][1] == inside[0]
    if start:
        assert shown[0][0] == 0
    if fps is None:
        assert [index for _, index in shown] == inside
    else:
        kept = Fraction(min(start + length, 4000) - start, 1000)
        assert abs(len(shown) / fps - kept) <= 1 / fps + Fraction(1, 25)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (25, Fraction(25)),
        (29.97, Fraction(30000, 1001)),
        (23.976, Fraction(24000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (12.5, Fraction(25, 2)),
    ],
)
def test_a_rate_is_what_people_mean_by_it(said, meant):
    assert exact_rate(said) == meant


@pytest.mark.parametrize(
    ("size", "wish", "expected"),
    [
        ((1920, 1080), {}, ((1920, 1080), False)),
        ((1920, 1080), {"scale": 0.5}, ((960, 540), False)),
        ((1920, 1080), {"height": 720}, ((1280, 720), False)),
        ((1080, 1920), {"height": 720}, ((404, 720), False)),
        ((640, 480), {"height": 2160}, ((1280, 960), True)),
        ((1920, 1080), {"height": 64}, ((480, 270), True)),
        ((3840, 2160), {"scale": 2.0}, ((4096, 2304), True)),
        ((4096, 2160), {"scale": 2.0}, ((4096, 2160), True)),
        ((502, 334), {"scale": 0.77}, ((386, 258), False)),
    ],
)
def test_sizes_are_even_and_within_the_limits(size, wish, expected):
    found = output_size(size, **wish)
    assert found == expected
    assert all(side % 2 == 0 and side <= MAX_VIDEO_SIDE for side in found[0])


def _lossless(make_video, **more) -> Path:
    noise = np.random.default_rng(5).integers(0, 256, (4, 12, 16, 3), dtype=np.uint8)

    def picture(index: int) -> np.ndarray:
        return np.kron(np.roll(noise[index % 4], index, axis=1), np.ones((20, 20, 1), np.uint8))

    return make_video(size=(320, 240), picture=picture, options={"crf": "0", "g": "12"}, **more)


def _planes_of(path: Path) -> list[tuple[float, bytes]]:
    with path.open("rb") as file, VideoReader(file, "mov") as reader:
        planes = Planes(reader.size)
        found = []
        for stamp, frame in reader.pictures():
            reader.fill(frame, planes)
            found.append((stamp.seconds, planes.buffer.tobytes()))
    return found


def _again(path: Path, out: Path, window: Window, fps: float | None = None) -> Path:
    first = None
    if window.start:
        with path.open("rb") as file:
            first = first_frame(file, "mov", window.start)
    with path.open("rb") as file, VideoReader(file, "mov") as reader:
        timeline = Timeline.of(reader, window, fps, first=first)
        planes = Planes(reader.size)
        writer = VideoWriter(
            out, size=reader.size, time_base=timeline.time_base, rate=timeline.rate, choice=EncoderChoice(crf=0)
        )
        try:
            for kind, item in timeline.items(reader.items()):
                if kind == "picture":
                    reader.fill(item[1], planes)
                    writer.write(planes, *item[0].pts)
            writer.finish()
        finally:
            writer.abort()
    return out


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.5), (0.48, 1.2), (0.5, None), (1.3, 1.42), (1.96, None)])
def test_the_part_of_a_lossless_video_is_bit_for_bit_that_part(make_video, tmp_path, start, end):
    whole = _planes_of(path := _lossless(make_video, seconds=2))
    part = _planes_of(_again(path, tmp_path / "part.mp4", Window(start, end)))
    expected = [pair for pair in whole if Window(start, end).holds(pair[0])]
    assert [data for _, data in part] == [data for _, data in expected]
    assert part[0][0] == 0
    moved = [seconds - expected[0][0] for seconds, _ in expected]
    assert [seconds for seconds, _ in part] == pytest.approx(moved, abs=1e-4)


def test_a_new_rate_shows_the_same_pictures_at_the_same_times(make_video, tmp_path):
    whole = _planes_of(path := _lossless(make_video, seconds=2))
    for fps in (10.0, 50.0):
        changed = _planes_of(_again(path, tmp_path / f"{fps}.mp4", Window(), fps))
        assert len(changed) == pytest.approx(2 * fps, abs=1)
        for number, (seconds, data) in enumerate(changed):
            assert seconds == pytest.approx(number / fps, abs=1e-4)
            near = [one for at, one in whole if abs(at - seconds) <= 0.5 / fps + 0.041]
            assert data in near


def test_a_part_beyond_the_end_is_refused(make_video):
    path = make_video(seconds=1)
    with path.open("rb") as file, pytest.raises(MediaError) as caught:
        first_frame(file, "mov", 5.0)
    assert caught.value.code == "part_empty"


def test_a_part_that_ends_before_it_starts_is_none():
    for start, end in ((2.0, 1.0), (1.0, 1.0), (-1.0, None)):
        with pytest.raises(ValueError, match="ends after"):
            Window(start, end)


def test_a_frame_is_scaled_into_planes_of_another_size_whatever_its_rotation(make_video):
    for rotation in (0, 90):
        path = make_video(f"{rotation}.mp4", seconds=0.2, rotation=rotation)
        with path.open("rb") as file, VideoReader(file, "mov") as reader:
            _, frame = next(reader.pictures())
            full, small = Planes(reader.size), Planes((reader.size[0] // 2, reader.size[1] // 2))
            reader.fill(frame, full)
            reader.fill(frame, small)
        import cv2

        shrunk = cv2.resize(full.to_rgb(), small.size, interpolation=cv2.INTER_AREA)
        assert np.abs(shrunk.astype(int) - small.to_rgb()).mean() < 3
