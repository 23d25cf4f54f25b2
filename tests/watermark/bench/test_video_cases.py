"""The video cases on a clip small enough for a test."""

from __future__ import annotations

import os

import numpy as np
import pytest

from watermark.bench import video_cases
from watermark.bench.clips import CLIPS, Clip, planes_of
from watermark.bench.scenes import landscape
from watermark.bench.suite import bench_keys
from watermark.bench.video_cases import BUDGETS, CASES, VideoCase, VideoRow, crop, run_case, table, through


def _still(draw):
    canvas = landscape((700, 520), draw)
    return lambda t: canvas[round(40 * t) : round(40 * t) + 480, :640]


SMALL = Clip("small", (640, 480), _still, 1.5)


MILD_CROP = VideoCase("mild", "two thirds of the area, CRF 18", (crop(0.66), through("libx264", 18)))


@pytest.mark.parametrize("case", [CASES["x264_23"], CASES["fps_24_30"], MILD_CROP], ids=lambda case: case.name)
def test_a_mild_case_is_read_within_its_first_frames(case):
    row = run_case(case, SMALL, "durable", bench_keys(), frames=4)
    assert row.outcome == "read"
    assert row.frames is not None
    assert row.frames <= 4


@pytest.mark.parametrize("encoder", ["libx264", "libx265", "libsvtav1", "libvpx-vp9"])
def test_every_encoder_gives_back_all_frames_in_order(encoder):
    levels = (40, 90, 140, 190)
    frames = [np.full((128, 160, 3), level, np.uint8) for level in levels]
    back = list(video_cases.decoded(video_cases.encoded(frames, encoder, 30)))
    assert [frame.shape for frame in back] == [(128, 160, 3)] * 4
    assert [float(frame.mean()) for frame in back] == pytest.approx(levels, abs=4)
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_dropping_and_doubling_frames_keeps_their_order():
    frames = [np.full((64, 64, 3), i, np.uint8) for i in range(24)]
    draw = np.random.Generator(np.random.PCG64(1))
    kept = [int(frame[0, 0, 0]) for frame in video_cases.drop_half(frames, draw)]
    assert kept[0] == 0
    assert kept == sorted(set(kept))
    assert 6 < len(kept) < 18
    assert len(list(video_cases.to_30_fps(frames, draw))) == 30


@pytest.mark.parametrize("clip", CLIPS)
def test_a_clip_moves_and_follows_from_its_seed(clip):
    made = CLIPS[clip]
    first, second = made.frames(2, 1)
    assert first.shape == (made.size[1] * 3 // 2, made.size[0])
    assert (first != second).mean() > 0.2
    np.testing.assert_array_equal(first, next(iter(made.frames(1, 1))))
    y, u, v = planes_of(first)
    assert y.shape == (made.size[1], made.size[0])
    assert u.shape == v.shape == (made.size[1] // 2, made.size[0] // 2)


def test_every_goal_is_a_number_of_frames_that_is_asked_for():
    assert len(CASES) >= 25
    assert all(goal in BUDGETS and goal <= case.frames for case in CASES.values() for goal in case.goals)


def test_the_table_shows_frames_failures_and_missed_goals():
    rows = [
        VideoRow("pan", "x264_33", "default", "read", 1, 8, 50.0, 44.6),
        VideoRow("talk", "x264_33", "default", "read", 16, 8, 50.0, 44.6),
        VideoRow("sky", "x264_33", "default", "none", None, 8, 50.0, 44.6),
    ]
    line = next(line for line in table(rows).splitlines() if line.startswith("x264_33"))
    assert line.split()[1:] == ["8", "fr", "1", "16", "!", "fail", "!"]
    assert "default: 1 of 3 within their goals" in table(rows)
