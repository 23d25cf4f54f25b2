"""Segments of a video through the pipeline: decode, swap, label, mark, encode, each in its own thread.

Runs inside the media child. A segment is made from its own frames and a short way into it, and nothing else: what one
frame takes over from the last (landmarks, colour and light, the measured strength of the mark) begins at a place that
does not depend on what this process did before.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from watermark.aigc import KEY
from watermark.fingerprint import Fingerprint, take
from watermark.labels import LabelRenderer
from watermark.pattern import MarkPattern
from watermark.video import Embedder
from worker.inference.registry import BUILTIN, ModelSet
from worker.inference.types import ModelRunner
from worker.media.encode import VideoWriter
from worker.media.join import PartFile, join_parts
from worker.media.planes import Planes, PlanesPool
from worker.media.video import Stamp, VideoReader
from worker.pipeline.analysis import Analysis, FrameFace
from worker.pipeline.cursor import FrameCursor
from worker.pipeline.errors import PipelineError
from worker.pipeline.overlay import PlanarLabel
from worker.pipeline.photo import Outcome
from worker.pipeline.photo_analysis import Report
from worker.pipeline.reports import fingerprint_record
from worker.pipeline.segments import (
    ENCODER_THREADS,
    RUN_IN,
    Part,
    Segment,
    cut_frames,
    plan,
    run_in_start,
    times_of,
)
from worker.pipeline.smoothed import SmoothedFaces
from worker.pipeline.stages import Stage, Stages
from worker.pipeline.swapping import sum_up
from worker.pipeline.track_plans import Judgeable, TrackPlan, UnderWay, plan_tracks
from worker.pipeline.video_analysis import container_of
from worker.spec import JobSpec, Label

_DEPTH: Final = 2
_IN_FLIGHT: Final = 8  # frames that wait for each later step of a swap: what the engine can batch
_FINGERPRINT_SECONDS: Final = 1.0


@dataclass
class _Item:
    """A frame on its way; one of the way into the segment is only looked at."""

    stamp: Stamp
    frame: Any
    leads: bool = False
    faces: tuple[FrameFace, ...] = ()
    planes: Planes | None = None
    under_way: list[UnderWay] = field(default_factory=list)
    judged: list[Judgeable] = field(default_factory=list)

    def keep(self, face: UnderWay | Judgeable | None) -> None:
        """Note what is left to do with a face of this frame."""
        if isinstance(face, UnderWay):
            self.under_way.append(face)
        elif face is not None:
            self.judged.append(face)


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
            for segment in plan(renderer.analysis):
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
    plans = plan_tracks(spec, analysis, runner, models)
    with (
        spec.target_path.open("rb") as file,
        VideoReader(file, container_of(spec.target_path), threads=threads) as reader,
    ):
        if analysis.info.kind != "video" or (analysis.info.width, analysis.info.height) != reader.size:
            raise PipelineError("analysis_invalid", "another video")
        yield SegmentRenderer(
            spec,
            analysis=analysis,
            reader=reader,
            plans=plans,
            runner=runner,
            pattern=pattern,
            report=report,
            raise_if_stopped=raise_if_stopped,
        )


def join(spec: JobSpec, parts: list[Part], files: list[Path], report: Report) -> Outcome:
    """Write `spec.output_path` from the rendered segments, in order. Raises MediaError, PipelineError, OSError."""
    total = sum(part.frames for part in parts)
    report("join", 0, total)
    with spec.target_path.open("rb") as file, VideoReader(file, container_of(spec.target_path), threads=1) as reader:
        join_parts(
            [PartFile(path, part.first_pts, part.frames) for part, path in zip(parts, files, strict=True)],
            spec.output_path,
            reader,
            container="mov" if spec.output_mime == "video/quicktime" else "mp4",
            metadata={KEY: spec.aigc} if spec.aigc else None,
            done=lambda frames: report("join", frames, total),
        )
        width, height = reader.size
        tracks = {track: [part.tracks[track] for part in parts if track in part.tracks] for track in parts[0].tracks}
        warnings = list(dict.fromkeys(warning for part in parts for warning in part.warnings))
        if any(facts.left_alone for found in tracks.values() for facts in found):
            warnings.append("frames_not_replaced")
        stages = dict.fromkeys(name for part in parts for name in part.timings)
        return Outcome(
            width=width,
            height=height,
            duration=parts[-1].last_seconds + 1 / reader.fps,
            frames=total,
            timings={name: round(sum(part.timings.get(name, 0.0) for part in parts), 4) for name in stages},
            quality={track: sum_up(facts) for track, facts in tracks.items()},
            fingerprint={"kind": "video", "frames": [taken for part in parts for taken in part.fingerprints]},
            warnings=warnings,
        )


def _planar(label: Label, size: tuple[int, int]) -> PlanarLabel:
    return PlanarLabel(LabelRenderer(size, label.text, label.place, letter_share=label.letter_share))


class SegmentRenderer:
    """One open video job; `render` makes one segment after the other. Made by `opened`."""

    def __init__(
        self,
        spec: JobSpec,
        *,
        analysis: Analysis,
        reader: VideoReader,
        plans: Mapping[int, TrackPlan],
        runner: ModelRunner,
        pattern: MarkPattern,
        report: Report,
        raise_if_stopped: Callable[[], None],
    ) -> None:
        self.analysis = analysis
        self.spec = spec
        self.reader = reader
        self.plans = plans
        self.runner = runner
        self.report = report
        self.raise_if_stopped = raise_if_stopped
        self._times = times_of(analysis)
        self.cuts = () if self._times is None else cut_frames(self._times, analysis.info.cuts)
        self.faces = SmoothedFaces(analysis, sorted(plans), self.cuts)
        self.cursor = FrameCursor(reader, self._times, RUN_IN)
        self.embedder = Embedder.from_pattern(pattern, reader.size, spec.mark_mode)
        self.label = _planar(spec.label, reader.size) if spec.label else None
        self.later = next(iter(plans.values())).later
        self.pool = PlanesPool(reader.size, 3 * (_DEPTH + 1) + 2 + len(self.later) * (_IN_FLIGHT + 1))

    def fingerprint_due(self, first: int) -> float:
        """Seconds from which a fingerprint is taken in a segment that begins at frame `first`: one each second."""
        due = 0.0
        for seconds in () if self._times is None else self._times[:first]:
            if seconds >= due:
                due = _next_due(float(seconds))
        return due

    def render(self, segment: Segment, out: Path) -> Part:
        """Write the marked frames of `segment` to `out` (MP4 without sound, times from 0), whole or not at all.

        Raises as `run_video`.
        """
        self.embedder.start_anew()
        for plan_ in self.plans.values():
            plan_.start_anew()
        writer = VideoWriter(
            out,
            size=self.reader.size,
            time_base=self.reader.time_base,
            rate=self.reader.rate,
            crf=self.spec.crf,
            preset=self.spec.preset,
            threads=ENCODER_THREADS,
        )
        run = _Run(self, segment, writer)
        try:
            chain = run.go()
            if segment.last == self.analysis.info.frames - 1 and not self.cursor.at_end():
                raise PipelineError("analysis_invalid", f"more than {self.analysis.info.frames} frames")
            self.raise_if_stopped()
            writer.finish()
        finally:
            writer.abort()
            # Encoder and container refer to one another, and each holds as much memory as dozens of frames.
            del writer
            run.let_go()
            gc.collect()
        first, last = run.stamps
        return Part(
            number=segment.number,
            frames=run.count,
            first_pts=first.pts,
            first_seconds=first.seconds,
            last_seconds=last.seconds,
            tracks={str(track): plan_.facts() for track, plan_ in self.plans.items()},
            fingerprints=tuple(fingerprint_record(run.fingerprints, "video")["frames"]),
            timings={
                **{name: round(times.busy, 4) for name, times in chain.times.items()},
                **{f"{name}_cpu": round(times.cpu, 4) for name, times in chain.times.items()},
            },
            warnings=tuple(self.reader.warnings),
        )


class _Run:
    """One segment on its way; each method below `go` belongs to one stage and so to one thread."""

    def __init__(self, owner: SegmentRenderer, segment: Segment, writer: VideoWriter) -> None:
        self._owner = owner
        self._segment = segment
        self._writer = writer
        self._first: Stamp | None = None
        self._last: Stamp | None = None
        self._due = owner.fingerprint_due(segment.first)
        self._cuts = frozenset(owner.cuts)
        self.fingerprints: list[tuple[float, Fingerprint]] = []
        self.count = 0
        self._chain: Stages[_Item] = Stages(
            "decode",
            [
                Stage("convert", self._convert),
                Stage("swap", self._swap),
                *(Stage(name, self._go_on, _IN_FLIGHT) for name in owner.later),
                Stage("mark", self._mark),
                Stage("encode", self._encode),
            ],
            depth=_DEPTH,
            raise_if_stopped=owner.raise_if_stopped,
        )

    def go(self) -> Stages[_Item]:
        """Run all stages to the end of the segment."""
        self._chain.run(self._decode())
        return self._chain

    def let_go(self) -> None:
        """Forget the writer, which is done."""
        del self._writer

    @property
    def stamps(self) -> tuple[Stamp, Stamp]:
        """The first and the last frame's. Raises PipelineError where there was none."""
        if self._first is None or self._last is None:
            raise PipelineError("analysis_invalid", "a segment without frames")
        return self._first, self._last

    # -- stages --------------------------------------------------------------------------------------------------

    def _decode(self) -> Iterator[_Item]:
        owner, segment = self._owner, self._segment
        start = run_in_start(segment, owner.cuts)
        for stamp, frame in owner.cursor.stretch(start, segment.last):
            faces = owner.faces.of(stamp.index)
            leads = stamp.index < segment.first
            if faces or not leads:
                yield _Item(stamp, frame, leads, faces)

    def _convert(self, item: _Item) -> _Item:
        item.planes = self._owner.pool.take(self._chain.raise_if_stopped)
        self._owner.reader.fill(item.frame, item.planes)
        item.frame = None
        return item

    def _swap(self, item: _Item) -> _Item:
        if item.planes is None:
            return item
        if item.stamp.index in self._cuts:
            for plan_ in self._owner.plans.values():
                plan_.reset()
        for face in item.faces:
            swapper = self._owner.plans[face.track]
            if item.leads:
                swapper.look(item.planes, face)
                continue
            item.keep(swapper.begin(item.planes, face, item.stamp.index))
        if item.leads:
            self._owner.pool.give(item.planes)
            item.planes = None
        return item

    def _go_on(self, item: _Item) -> _Item:
        if item.planes is None:
            return item
        under_way, item.under_way = item.under_way, []
        for face in under_way:
            item.keep(face.go_on(item.planes))
        return item

    def _mark(self, item: _Item) -> _Item:
        if item.planes is None:
            return item
        owner, seconds = self._owner, item.stamp.seconds
        shown = owner.spec.label.seconds if owner.spec.label else None
        if owner.label is not None and (shown is None or seconds < shown):
            owner.label.apply(item.planes)
        owner.embedder.embed_yuv420(item.planes.y, item.planes.u, item.planes.v)
        for judged in item.judged:
            judged.judge(owner.runner, item.planes)
        if seconds >= self._due:
            self.fingerprints.append((seconds, take(item.planes.to_rgb())))
            self._due = _next_due(seconds)
        return item

    def _encode(self, item: _Item) -> _Item:
        if item.planes is None:
            return item
        self._first = self._first or item.stamp
        self._writer.write(item.planes, item.stamp.pts - self._first.pts)
        self._owner.pool.give(item.planes)
        item.planes = None
        self._last = item.stamp
        self.count += 1
        self._owner.report("encode", item.stamp.index + 1, self._owner.analysis.info.frames)
        return item


def _next_due(seconds: float) -> float:
    return seconds + _FINGERPRINT_SECONDS - 1e-3
