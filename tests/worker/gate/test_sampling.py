"""Which pictures of a video are looked at: every second, every shot, keyframes where they lie."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.gate.looks.looking import Spread
from worker.gate.looks.sampling import brief, open_times, samples, step_of
from worker.gate.upload import Upload
from worker.pipeline.analysed import AnalysedFrame, AnalysisSummary, FrameFace, Track
from worker.pipeline.analysis import Analysis, AnalysisWriter

TIMES = st.lists(st.floats(0.5, 29.5), max_size=30).map(sorted)


@given(TIMES, st.lists(st.integers(5, 290), max_size=5, unique=True), st.floats(30, 31))
def test_no_second_and_no_shot_is_left_out(taken: list[float], tenths: list[int], duration: float) -> None:
    cuts = [0.0, *(tenth / 10 for tenth in sorted(tenths))]
    asked = open_times(duration, cuts, taken, 1.0)
    assert asked == sorted(asked)
    looked = sorted([*asked, *taken])
    assert all(later - earlier <= 2.01 for earlier, later in pairwise(looked))
    assert looked[0] <= 1.0
    assert looked[-1] >= duration - 2.0
    for cut, end in pairwise([*cuts, duration]):
        assert any(cut - 1e-9 <= time < end for time in looked), (cut, end)


@pytest.mark.parametrize(
    ("duration", "dense", "step"), [(600.0, True, 1.0), (600.0, False, 1.0), (5.0, True, 0.25), (1.0, True, 0.1)]
)
def test_short_videos_are_looked_at_more_often_where_detectors_look(duration: float, dense: bool, step: float) -> None:
    assert step_of(duration, dense=dense) == pytest.approx(step)


def test_a_tracks_samples_are_spread_over_its_length() -> None:
    track = Track(3, 10.0, 50.0, 1000, 0, 20.0, (0.0, 0.0, 9.0, 9.0), 9.0, 0.0, None)
    spread = Spread([track], 8)
    # First the keyframes, then what lies between, as the pictures come.
    asked = [*np.arange(10.0, 50.0, 4.0), *np.arange(10.0, 50.0, 1.0)]
    taken = sorted(seconds for seconds in asked if spread.wants(3, seconds))
    assert 4 <= len(taken) <= 9
    assert min(np.diff(taken)) >= 5.0
    assert spread.wants(99, 1.0)  # a photo's, or one the summary does not know


def test_a_person_who_is_there_for_a_moment_is_looked_for() -> None:
    def track(number: int, first: float, last: float) -> Track:
        return Track(number, first, last, 9, 0, (first + last) / 2, (0.0, 0.0, 9.0, 9.0), 9.0, 0.0, None)

    looked = [0.0, 1.0, 2.0, 3.0]
    assert brief([track(0, 0.0, 3.0), track(1, 1.2, 1.8), track(2, 2.96, 3.02), track(3, 2.5, 3.3)], looked) == [
        1.5,
        pytest.approx(2.99),
    ]
    crowd = [track(number, 0.3 + number / 1000, 0.4 + number / 1000) for number in range(500)]
    assert len(brief(crowd, looked)) == 100


def film(path: Path, *, seconds: int, keys: int) -> Path:
    """Grey frames at 10 a second whose level tells their number; a keyframe every `keys` frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": str(keys), "sc_threshold": "0", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(10 * seconds):
            rgb = np.full((240, 320, 3), 20 + number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, "rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("keys", [5, 10, 25, 1000])
def test_pictures_come_with_their_time_and_the_faces_of_that_very_frame(tmp_path: Path, keys: int) -> None:
    path = film(tmp_path / "film.mp4", seconds=6, keys=keys)
    writer = AnalysisWriter(tmp_path / "analysis")
    for number in range(60):
        box = np.array([number, 10.0, 40.0, 40.0], np.float32)
        mesh = np.full((478, 3), number, np.float32)
        mesh[0] += 1
        writer.add(AnalysedFrame(number, number / 10, (FrameFace(0, 1.0, box, mesh),)))
    writer.finish(AnalysisSummary("video", "builtin", 320, 240, 60, 6.0, (), cuts=(0.0, 2.5)))
    seen = list(samples(Upload(path, "video/mp4", "video"), Analysis.load(tmp_path / "analysis")))
    times = sorted(sample.seconds for sample in seen)
    assert max(np.diff(times)) <= 1.51  # a keyframe stands for the second around it
    assert any(2.5 <= time < 3.5 for time in times)
    assert len(times) <= 13
    for sample in seen:
        number = round(10 * sample.seconds)
        assert abs(float(sample.rgb.mean()) - (20 + number)) < 3
        assert float(sample.faces[0].box[0]) == pytest.approx(number)
