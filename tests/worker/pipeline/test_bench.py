"""The bench measures a real job: its numbers must hang together."""

from __future__ import annotations

import pytest

from worker.media.client import probe
from worker.pipeline.bench import bench_swap


def test_the_numbers_of_a_bench_hang_together(engine_socket, samples, clip):
    result = bench_swap(engine_socket, samples / "grace_hopper.jpg", clip=clip)
    assert (result.width, result.height, result.frames) == (640, 480, 50)
    assert set(result.stage_ms) == set(result.stage_cpu_ms) == {"decode", "convert", "swap", "mark", "encode"}
    assert result.fps == pytest.approx(50 / result.job_seconds, rel=0.01)
    assert result.steady_fps == pytest.approx(1000 / max(result.stage_ms.values()), rel=0.01)
    assert sum(result.stage_cpu_ms.values()) < result.cpu_ms
    assert result.peak_rss > 100 << 20


def test_a_made_clip_moves_and_sounds(clip):
    info = probe(clip)
    assert (info.width, info.height, info.frames, info.has_audio) == (640, 480, 50, True)
    assert info.duration == pytest.approx(2.0, abs=0.05)


def test_a_bench_without_anything_to_swap_is_refused(engine_socket, samples):
    with pytest.raises(ValueError, match="portrait"):
        bench_swap(engine_socket, samples / "grace_hopper.jpg")
