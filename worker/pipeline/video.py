"""A video job: opened for rendering segments of it, and what was rendered joined. Runs inside the media child."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from watermark.aigc import KEY
from watermark.pattern import MarkPattern
from worker.inference.registry import BUILTIN, ModelSet
from worker.inference.types import ModelRunner
from worker.media.encoders import encoder_for, header_of
from worker.media.errors import MediaError
from worker.media.join import PartFile, join_parts
from worker.media.timing import Timeline, exact_rate, first_frame
from worker.media.video import Stamp, VideoReader
from worker.media.window import Window
from worker.pipeline.analysis import Analysis
from worker.pipeline.errors import PipelineError
from worker.pipeline.photo import Outcome
from worker.pipeline.photo_analysis import Report
from worker.pipeline.segment_renderer import SegmentRenderer, choice_of
from worker.pipeline.segments import (
    ENCODER_THREADS,
    Part,
    plan,
)
from worker.pipeline.swapping import sum_up
from worker.pipeline.track_plans import plan_tracks
from worker.pipeline.upscaling import sizes_of, upscaler_of
from worker.pipeline.video_analysis import container_of
from worker.spec import JobSpec


def run_video(
    spec: JobSpec,
    pattern: MarkPattern,
    runner: ModelRunner,
    report: Report,
    raise_if_stopped: Callable[[], None],
    *,
    threads: int = 2,
    models: ModelSet = BUILTIN,
) -> Outcome:
    """Carry out a video job alone: all segments one after the other, joined into `spec.output_path`.

    The result is the one that many workers come to together. Raises MediaError, FaceError, ModelError, MarkError,
    LabelError, PipelineError, OSError.
    """
    parts: list[Part] = []
    files = []
    try:
        with opened(spec, pattern, runner, report, raise_if_stopped, threads=threads, models=models) as renderer:
            segments = plan(renderer.analysis, renderer.window)
            first, total = segments[0].first, segments[-1].last + 1 - segments[0].first
            renderer.report = lambda stage, done, _: report(stage, done - first, total)
            for segment in segments:
                files.append(spec.output_path.with_name(f"{spec.output_path.name}.{segment.number}.part"))
                parts.append(renderer.render(segment, files[-1]))
        raise_if_stopped()
        return join(spec, parts, files, report)
    finally:
        for file in files:
            file.unlink(missing_ok=True)


@contextmanager
def opened(
    spec: JobSpec,
    pattern: MarkPattern,
    runner: ModelRunner,
    report: Report,
    raise_if_stopped: Callable[[], None],
    *,
    threads: int = 2,
    models: ModelSet = BUILTIN,
) -> Iterator[SegmentRenderer]:
    """Open a video job for rendering segments of it, in any order; `models` are the engine's. Raises as `run_video`."""
    report("prepare", 0, None)
    analysis = Analysis.load(spec.analysis_path)
    container = container_of(spec.target_path)
    window = Window(spec.trim_start, spec.trim_end)
    size, result, _ = sizes_of(spec, (analysis.info.width, analysis.info.height))
    upscaler = upscaler_of(spec, runner, models)
    part = analysis.part(window.holds, size)
    plans = plan_tracks(spec, part, runner, models)
    first = _first(spec)
    with (
        spec.target_path.open("rb") as file,
        VideoReader(file, container, threads=threads, on_device=spec.hardware != "off") as reader,
    ):
        if analysis.info.kind != "video" or (analysis.info.width, analysis.info.height) != reader.size:
            raise PipelineError("analysis_invalid", "another video")
        yield SegmentRenderer(
            spec,
            analysis=part,
            reader=reader,
            timeline=Timeline.of(reader, window, spec.fps, first=first),
            size=size,
            result=result,
            upscaler=upscaler,
            plans=plans,
            runner=runner,
            pattern=pattern,
            report=report,
            raise_if_stopped=raise_if_stopped,
        )


def _first(spec: JobSpec) -> Stamp | None:
    """The first frame of the part that is kept, where that does not begin with the video. Raises MediaError."""
    if not spec.trim_start:
        return None
    with spec.target_path.open("rb") as file:
        return first_frame(file, container_of(spec.target_path), spec.trim_start)


def join(spec: JobSpec, parts: list[Part], files: list[Path], report: Report) -> Outcome:
    """Write `spec.output_path` from the rendered segments, in order. Raises MediaError, PipelineError, OSError."""
    total = sum(part.pictures for part in parts)
    if not total:
        raise MediaError("part_empty")
    report("join", 0, total)
    window, first = Window(spec.trim_start, spec.trim_end), _first(spec)
    with spec.target_path.open("rb") as file, VideoReader(file, container_of(spec.target_path), threads=1) as reader:
        timeline = Timeline.of(reader, window, spec.fps, first=first)
        pairs = [(part, path) for part, path in zip(parts, files, strict=True) if part.pictures]
        said = join_parts(
            [PartFile(path, part.first_pts, part.pictures) for part, path in pairs],
            spec.output_path,
            reader,
            timeline,
            container="mov" if spec.output_mime == "video/quicktime" else "mp4",
            metadata={KEY: spec.aigc} if spec.aigc else None,
            done=lambda frames: report("join", frames, total),
        )
        _, (width, height), limited = sizes_of(spec, reader.size)
        tracks = {track: [part.tracks[track] for part in parts if track in part.tracks] for track in parts[0].tracks}
        warnings = list(dict.fromkeys([*(warning for part in parts for warning in part.warnings), *said]))
        if any(facts.left_alone for found in tracks.values() for facts in found):
            warnings.append("frames_not_replaced")
        if limited:
            warnings.append("size_limited")
        if spec.hardware == "decode":
            warnings.append("hardware_encoder_missing")
        stages = dict.fromkeys(name for part in parts for name in part.timings)
        return Outcome(
            width=width,
            height=height,
            duration=pairs[-1][0].last_seconds + float(1 / timeline.rate),
            frames=total,
            timings={name: round(sum(part.timings.get(name, 0.0) for part in parts), 4) for name in stages},
            quality={track: sum_up(facts) for track, facts in tracks.items()},
            fingerprint={"kind": "video", "frames": [taken for part in parts for taken in part.fingerprints]},
            warnings=warnings,
        )


def header_for(spec: JobSpec) -> bytes | None:
    """The parameter sets that the encoder of a job would write here, None if it cannot. Raises MediaError, OSError."""
    with spec.target_path.open("rb") as file, VideoReader(file, container_of(spec.target_path), threads=1) as reader:
        _, size, _ = sizes_of(spec, reader.size)
        rate = reader.rate if spec.fps is None else exact_rate(spec.fps)
    return header_of(encoder_for(choice_of(spec), "mp4", ENCODER_THREADS), size=size, rate=rate)
