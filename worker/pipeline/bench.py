"""How fast a swap runs here, stage by stage, on a real clip with the real engine, child and codecs."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from watermark.keys import derive_mark_key
from watermark.pattern import derive
from watermark.payload import new_mark_id
from worker.media.client import probe
from worker.media.sample_clip import make_clip
from worker.media.sandbox import processor_seconds
from worker.pipeline.run import analyse, run_job
from worker.spec import JobSpec, SourcePhoto, Swap


@dataclass(frozen=True)
class BenchResult:
    """`fps` counts the whole job with start-up; `stage_ms` is work per frame of each stage, which run side by side,
    `stage_cpu_ms` the processor time of the stage's own thread, without the codec's threads.

    `steady_fps` is what the slowest stage alone allows. `cpu_ms` is processor time of the media child and its start,
    per frame, all threads together. Memory in bytes.
    """

    width: int
    height: int
    frames: int
    analysis_seconds: float
    analysis_fps: float
    job_seconds: float
    fps: float
    steady_fps: float
    cpu_ms: float
    stage_ms: dict[str, float]
    stage_cpu_ms: dict[str, float]
    peak_rss: int
    cores: int

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy."""
        return asdict(self)


def bench_swap(
    engine_socket: Path,
    source: Path,
    *,
    clip: Path | None = None,
    target: Path | None = None,
    seconds: float = 10.0,
    size: tuple[int, int] = (1920, 1080),
    work_dir: Path | None = None,
) -> BenchResult:
    """Swap the face of the photo `source` into a video and measure.

    The video is `clip`, or one of `seconds` at `size` (width, height) made from the portrait `target`. The first track
    is replaced. Raises what `analyse` and `run_job` raise, ValueError without clip and target or without a face.
    """
    with tempfile.TemporaryDirectory(prefix="bench-", dir=work_dir) as name:
        folder = Path(name).resolve()
        if clip is None:
            if target is None:
                raise ValueError("Give a clip, or a portrait to make one from.")
            clip = folder / "clip.mp4"
            make_clip(target, clip, seconds=seconds, size=size)
        photo = folder / f"source{source.suffix}"
        shutil.copyfile(source, photo)
        begin = time.perf_counter()
        summary = analyse(clip, folder / "analysis", engine_socket=engine_socket, work_dir=folder)
        analysed = time.perf_counter() - begin
        if not summary.tracks:
            raise ValueError("The clip shows no face.")
        longest = max(summary.tracks, key=lambda track: track.frames)
        spec = JobSpec(
            job_id="bench",
            kind="video",
            target_path=clip.resolve(),
            target_sha256=probe(clip).sha256,
            analysis_path=folder / "analysis",
            output_path=folder / "out.mp4",
            output_mime="video/mp4",
            swaps=(Swap(longest.id, (SourcePhoto(photo, hashlib.sha256(photo.read_bytes()).hexdigest()),)),),
        )
        key = derive_mark_key(os.urandom(32), deployment="bench", year=2000)
        pattern = derive(new_mark_id(), key).to_bytes()
        used = processor_seconds()
        begin = time.perf_counter()
        result = run_job(spec, pattern=pattern, engine_socket=engine_socket)
        took = time.perf_counter() - begin
        used = processor_seconds() - used
    each = {name: busy * 1000 / result.frames for name, busy in result.timings.items()}
    stages = {name: value for name, value in each.items() if not name.endswith("_cpu")}
    own = {name.removesuffix("_cpu"): value for name, value in each.items() if name.endswith("_cpu")}
    return BenchResult(
        width=result.width,
        height=result.height,
        frames=result.frames,
        analysis_seconds=round(analysed, 3),
        analysis_fps=round(summary.frames / analysed, 2),
        job_seconds=round(took, 3),
        fps=round(result.frames / took, 2),
        steady_fps=round(1000 / max(stages.values()), 2),
        cpu_ms=round(used * 1000 / result.frames, 2),
        stage_ms={name: round(value, 2) for name, value in stages.items()},
        stage_cpu_ms={name: round(value, 2) for name, value in own.items()},
        peak_rss=result.peak_rss,
        cores=len(os.sched_getaffinity(0)),
    )
