"""The faces of a film from its analysis: holes of a moment closed, comings and goings faded, nobody painted over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from worker.faces.persons import UNSURE
from worker.pipeline.analysed import AnalysedFrame, AnalysisSummary, FrameFace, Track
from worker.pipeline.analysis import Analysis, AnalysisWriter
from worker.pipeline.smoothed import Seen, SmoothedFaces

FPS = 25
FRAMES = 60
GAP = FADE = 5  # frames: a fifth of a second
SHAPE = np.random.default_rng(1).uniform(0, 100, (478, 3)).astype(np.float32)


def face(track: int, x: float, y: float = 50.0) -> FrameFace:
    box = np.array([x, y, 100, 100], np.float32)
    return FrameFace(track, 0.9, box, SHAPE + np.array([x, y, 0], np.float32))


def stored(
    path: Path, there: Mapping[int, Sequence[FrameFace]], *, cuts: Sequence[int] = (), sparse: bool = False
) -> Analysis:
    """An analysis in which frame `n` has the faces `there[n]`; `sparse` leaves out frames without any."""
    writer = AnalysisWriter(path)
    for index in range(FRAMES):
        if there.get(index) or not sparse:
            writer.add(AnalysedFrame(index, index / FPS, tuple(there.get(index, ()))))
    track = Track(0, 0.0, 1.0, 9, 0, 0.0, (0.0, 0.0, 100.0, 100.0), 100.0, 0.0, None)
    times = tuple(cut / FPS for cut in cuts)
    writer.finish(AnalysisSummary("video", "builtin", 640, 360, FRAMES, FRAMES / FPS, (track,), cuts=times))
    return Analysis.load(path)


def seen(analysis: Analysis, wanted: Sequence[int] = (0,), cuts: Sequence[int] = ()) -> list[Seen]:
    faces = SmoothedFaces(analysis, wanted, cuts)
    return [faces.of(index) for index in range(FRAMES)]


def strengths(found: Sequence[Seen]) -> list[float]:
    return [one.targets[0].strength if one.targets else 0.0 for one in found]


def moving(track: int, frames: Sequence[int], speed: float = 2.0) -> dict[int, list[FrameFace]]:
    return {index: [face(track, 50 + speed * index)] for index in frames}


def without(*gaps: range) -> list[int]:
    return [index for index in range(FRAMES) if not any(index in gap for gap in gaps)]


@pytest.mark.parametrize("sparse", [False, True])
def test_a_face_that_is_missed_for_a_moment_goes_on_in_between(tmp_path, sparse):
    found = seen(stored(tmp_path / "a", moving(0, without(range(20, 20 + GAP))), sparse=sparse))
    assert strengths(found) == [1.0] * FRAMES
    whole = seen(stored(tmp_path / "b", moving(0, range(FRAMES))))
    for one, other in zip(found, whole, strict=True):
        np.testing.assert_allclose(one.targets[0].landmarks, other.targets[0].landmarks, atol=0.02)


def test_one_that_is_gone_for_longer_is_faded_out_and_in(tmp_path):
    gap = range(20, 20 + GAP + 1)
    shown = strengths(seen(stored(tmp_path / "a", moving(0, without(gap)))))
    assert [shown[index] for index in gap] == [0.0] * len(gap)
    out, back = shown[gap.start - FADE : gap.start], shown[gap.stop : gap.stop + FADE]
    assert out == sorted(out, reverse=True)
    assert back == sorted(back)
    assert out == back[::-1]
    assert 0 < min(out) < 0.15
    assert max(out) < 1
    assert set(shown[: gap.start - FADE] + shown[gap.stop + FADE :]) == {1.0}


def test_nothing_is_faded_where_a_shot_or_the_film_begins_or_ends(tmp_path):
    cut = 30
    there = moving(0, [*range(10, cut), *range(cut, FRAMES)])
    shown = strengths(seen(stored(tmp_path / "a", there, cuts=[cut]), cuts=[cut]))
    assert shown[10] < 0.15  # comes into view in the middle of a shot
    assert set(shown[10 + FADE :]) == {1.0}
    # A face that leaves right before a cut, or comes right after one, leaves and comes with it.
    alone = strengths(seen(stored(tmp_path / "b", moving(0, range(cut)), cuts=[cut]), cuts=[cut]))
    assert alone == [1.0] * cut + [0.0] * (FRAMES - cut)


def test_a_hole_over_a_cut_is_not_closed(tmp_path):
    cut = 22
    shown = strengths(seen(stored(tmp_path / "a", moving(0, without(range(20, 24))), cuts=[cut]), cuts=[cut]))
    assert shown[20:24] == [0.0] * 4


def test_a_face_that_may_be_behind_another_is_not_painted_over_it(tmp_path):
    gap = range(20, 23)
    there = moving(0, without(gap))
    for index in range(15, 28):  # somebody passes where the face would be
        there.setdefault(index, []).append(face(1, 50 + 2 * index + 30))
    found = seen(stored(tmp_path / "a", there))
    assert [strengths(found)[index] for index in gap] == [0.0] * len(gap)
    assert strengths(found)[gap.start - 1] < 0.15
    for index in gap:
        there[index] = [face(1, 50 + 2 * index + 300)]  # far away: then it is a hole like any
    assert strengths(seen(stored(tmp_path / "b", there))) == [1.0] * FRAMES


def test_a_frame_is_the_same_wherever_one_begins(tmp_path):
    cut = 33
    there = moving(0, without(range(12, 15), range(40, 50)))
    for index in range(25, 55):
        there.setdefault(index, []).append(face(1, 400))
    analysis = stored(tmp_path / "a", there, cuts=[cut])
    whole = seen(analysis, (0, 1), [cut])
    for start in (0, 11, 13, 24, 32, 33, 38, 45, 59):
        faces = SmoothedFaces(analysis, (0, 1), [cut])
        for index in range(start, min(FRAMES, start + 5)):
            one, other = faces.of(index), whole[index]
            assert [f.strength for f in one.targets] == [f.strength for f in other.targets]
            for mine, theirs in zip(one.targets, other.targets, strict=True):
                np.testing.assert_array_equal(mine.landmarks, theirs.landmarks)


def test_others_are_all_there_are_and_are_held_a_moment_longer(tmp_path):
    there = moving(0, range(FRAMES))
    for index in [*range(20, 30), *range(33, 40)]:
        there[index] = [*there[index], face(4, 400 + index)]
    there[50] = [*there[50], face(UNSURE, 300), face(UNSURE, 500)]
    found = seen(stored(tmp_path / "a", there))
    present = [index for index, one in enumerate(found) if any(other.track == 4 for other in one.others)]
    assert present == list(range(20 - GAP, 40 + GAP))
    (between,) = found[31].others
    assert between.box[0] == pytest.approx(431, abs=0.1)
    assert [other.track for other in found[50].others] == [UNSURE, UNSURE]
    assert all(target.track == 0 for one in found for target in one.targets)


def test_a_part_of_a_film_begins_and_ends_without_fading(tmp_path):
    analysis = stored(tmp_path / "a", moving(0, range(FRAMES)))
    part = analysis.part(lambda seconds: 0.8 - 1e-9 <= seconds < 1.6, (640, 360))
    faces = SmoothedFaces(part, (0,), ())
    assert strengths([faces.of(index) for index in range(20, 40)]) == [1.0] * 20
