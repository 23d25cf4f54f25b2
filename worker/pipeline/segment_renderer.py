"""Segments of a video through the pipeline: decode, swap, label, mark, encode, each in its own thread.

Runs inside the media child. A segment is made from its own frames and a short way into it, and nothing else: what one
frame takes over from the last (landmarks, colour and light, the measured strength of the mark) begins at a place that
does not depend on what this process did before.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from watermark.fingerprint import Fingerprint, take
from watermark.labels import LabelRenderer
from watermark.pattern import MarkPattern
from watermark.video import Embedder
from worker.faces.anonymise import hide_in
from worker.faces.neural.upscalers import Upscaler, enlarge_planes
from worker.inference.types import ModelRunner
from worker.media.encode import EncoderChoice, VideoWriter
from worker.media.planes import Planes, PlanesPool
from worker.media.timing import Shown, Timeline
from worker.media.video import Stamp, VideoReader
from worker.media.window import SAME_TIME
from worker.memory import give_back
from worker.pipeline.analysis import Analysis
from worker.pipeline.cursor import FrameCursor
from worker.pipeline.errors import PipelineError
from worker.pipeline.overlay import PlanarLabel
from worker.pipeline.photo_analysis import Report
from worker.pipeline.reports import fingerprint_record
from worker.pipeline.segments import (
    ENCODER_THREADS,
    RUN_IN,
    Part,
    Segment,
    cut_frames,
    run_in_start,
    times_of,
)
from worker.pipeline.smoothed import Seen, SmoothedFaces
from worker.pipeline.stages import Stage, Stages
from worker.pipeline.track_plans import Judgeable, TrackPlan, UnderWay
from worker.pipeline.upscaling import reduced
from worker.spec import JobSpec, Label

_DEPTH: Final = 2
_IN_FLIGHT: Final = 8  # frames that wait for each later step of a swap: what the engine can batch
_FINGERPRINT_SECONDS: Final = 1.0
_GIVEN_BACK: Final = 4
"""Segments after which memory that was kept (`keep_freed`) is given back: with twice as many, its holes grew by 9 % of
the process in ten minutes.
"""


@dataclass
class _Item:
    """A frame on its way; one of the way into the segment is only looked at."""

    shown: Shown
    frame: Any
    leads: bool = False
    seen: Seen = field(default_factory=Seen)
    planes: Planes | None = None
    under_way: list[UnderWay] = field(default_factory=list)
    judged: list[Judgeable] = field(default_factory=list)

    def keep(self, face: UnderWay | Judgeable | None) -> None:
        """Note what is left to do with a face of this frame."""
        if isinstance(face, UnderWay):
            self.under_way.append(face)
        elif face is not None:
            self.judged.append(face)


def choice_of(spec: JobSpec) -> EncoderChoice:
    """How the pictures of a job are encoded."""
    return EncoderChoice(spec.codec, spec.crf, spec.preset, device=spec.hardware == "encode")


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
        timeline: Timeline,
        size: tuple[int, int],
        result: tuple[int, int],
        upscaler: Upscaler | None,
        plans: Mapping[int, TrackPlan],
        runner: ModelRunner,
        pattern: MarkPattern,
        report: Report,
        raise_if_stopped: Callable[[], None],
    ) -> None:
        self.analysis = analysis
        self.timeline = timeline
        self.window = timeline.window
        self.size = size
        self.result = result
        self.upscaler = upscaler
        self.spec = spec
        self.reader = reader
        self.plans = plans
        self.runner = runner
        self.report = report
        self.raise_if_stopped = raise_if_stopped
        self._times = times_of(analysis)
        self.cuts = () if self._times is None else cut_frames(self._times, analysis.info.cuts)
        self.faces = SmoothedFaces(analysis, sorted(plans), self.cuts, others=spec.others == "blur")
        self.cursor = FrameCursor(reader, self._times, RUN_IN + 1)
        self.embedder = Embedder.from_pattern(pattern, result, spec.mark_mode)
        self.label = _planar(spec.label, result) if spec.label else None
        self.later = next(iter(plans.values())).later
        self.pool = PlanesPool(size, 3 * (_DEPTH + 1) + 2 + len(self.later) * (_IN_FLIGHT + 1))
        self.results = self.pool if upscaler is None else PlanesPool(result, 2 * (_DEPTH + 1) + 2)
        """Where the frames that are marked and encoded belong."""
        self._rendered = 0

    def fingerprint_due(self, first: int) -> float:
        """Seconds from which a fingerprint is taken in a segment that begins at frame `first`: one each second."""
        due = 0.0
        if self._times is None or not first:
            return due
        times = self._times[: first + 1]
        index = int(np.searchsorted(times, self.window.start - SAME_TIME))
        zero = times[min(index, first)]
        # Exact arithmetic is slow: asked are only frames that can be shown at the due time, within a tick of their own.
        slack = 1e-3 if self.timeline.fps is None else 1e-3 + float(1 / self.timeline.fps)
        while (index := max(index, int(np.searchsorted(times, zero + due - slack)))) < first:
            shown = self.timeline.shown(*(self._stamp(at, float(times[at])) for at in (index, index + 1)))
            if shown is not None and shown.seconds >= due:
                due = _next_due(shown.seconds)
            index += 1
        return due

    def _stamp(self, index: int, seconds: float) -> Stamp:
        """When the analysis saw a frame."""
        return Stamp(index, self.reader.start_pts + round(seconds / self.reader.time_base), seconds)

    def shown(self, first: int, last: int) -> Iterator[tuple[Shown, Any]]:
        """Yield the frames `first` to `last` that are shown, decoding the one after them where its time matters."""
        ahead = 0 if self.timeline.fps is None or last + 1 >= self.analysis.info.frames else 1
        items = (("picture", item) for item in self.cursor.stretch(first, last + ahead))
        for _, (shown, frame) in self.timeline.items(items):
            if shown.stamp.index <= last:
                yield shown, frame

    def render(self, segment: Segment, out: Path) -> Part:
        """Write the marked frames of `segment` to `out` (MP4 without sound, times from 0), whole or not at all.

        Raises as `run_video`.
        """
        self.embedder.start_anew()
        for plan_ in self.plans.values():
            plan_.start_anew()
        writer = VideoWriter(
            out,
            size=self.result,
            time_base=self.timeline.time_base,
            rate=self.timeline.rate,
            choice=choice_of(self.spec),
            threads=ENCODER_THREADS,
        )
        run = _Run(self, segment, writer)
        try:
            chain = run.go()
            if segment.last == self.analysis.info.frames - 1 and not self.cursor.at_end():
                raise PipelineError("analysis_invalid", f"more than {self.analysis.info.frames} frames")
            self.raise_if_stopped()
            warnings = (*self.reader.warnings, *writer.warnings)
            if run.ends is not None:
                writer.finish()
            else:
                out.write_bytes(b"-")  # an encoder that was given nothing leaves no file that could be read
        finally:
            writer.abort()
            # Encoder and container refer to one another, and each holds as much memory as dozens of frames.
            del writer
            run.let_go()
            gc.collect()
            self._rendered += 1
            if self._rendered % _GIVEN_BACK == 0:
                give_back()
        first, last = run.ends or (None, None)
        return Part(
            number=segment.number,
            frames=segment.frames,
            pictures=run.pictures,
            first_pts=0 if first is None else first.pts[0],
            first_seconds=0.0 if first is None else first.seconds,
            last_seconds=0.0 if last is None else self.timeline.at(last.pts[-1]),
            tracks={str(track): plan_.facts() for track, plan_ in self.plans.items()},
            fingerprints=tuple(fingerprint_record(run.fingerprints, "video")["frames"]),
            timings={
                **{name: round(times.busy, 4) for name, times in chain.times.items()},
                **{f"{name}_cpu": round(times.cpu, 4) for name, times in chain.times.items()},
            },
            warnings=warnings,
        )


class _Run:
    """One segment on its way; each method below `go` belongs to one stage and so to one thread."""

    def __init__(self, owner: SegmentRenderer, segment: Segment, writer: VideoWriter) -> None:
        self._owner = owner
        self._segment = segment
        self._writer = writer
        self._first: Shown | None = None
        self._last: Shown | None = None
        self._due = owner.fingerprint_due(segment.first)
        self._cuts = frozenset(owner.cuts)
        self.fingerprints: list[tuple[float, Fingerprint]] = []
        self.pictures = 0
        self._chain: Stages[_Item] = Stages(
            "decode",
            [
                Stage("convert", self._convert),
                Stage("swap", self._swap),
                *(Stage(name, self._go_on, _IN_FLIGHT) for name in owner.later),
                *([] if owner.upscaler is None else [Stage("upscale", self._upscale)]),
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
    def ends(self) -> tuple[Shown, Shown] | None:
        """When the first and the last frame are shown; None where none is."""
        return None if self._first is None or self._last is None else (self._first, self._last)

    # -- stages --------------------------------------------------------------------------------------------------

    def _decode(self) -> Iterator[_Item]:
        owner, segment = self._owner, self._segment
        looks_back = any(plan_.looks_back for plan_ in owner.plans.values())
        start = run_in_start(segment, owner.cuts) if looks_back else segment.first
        for shown, frame in owner.shown(start, segment.last):
            index = shown.stamp.index
            seen = owner.faces.of(index)
            leads = index < segment.first
            if seen.targets or not leads:
                yield _Item(shown, frame, leads, seen)

    def _convert(self, item: _Item) -> _Item:
        item.planes = self._owner.pool.take(self._chain.raise_if_stopped)
        self._owner.reader.fill(item.frame, item.planes)
        item.frame = None
        return item

    def _swap(self, item: _Item) -> _Item:
        if item.planes is None:
            return item
        if item.shown.stamp.index in self._cuts:
            for plan_ in self._owner.plans.values():
                plan_.reset()
        if not item.leads:
            for face in item.seen.others:
                hide_in(item.planes, face.landmarks)
        for face in item.seen.targets:
            swapper = self._owner.plans[face.track]
            if item.leads:
                swapper.look(item.planes, face)
                continue
            item.keep(swapper.begin(item.planes, face, item.shown.stamp.index))
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

    def _upscale(self, item: _Item) -> _Item:
        if item.planes is None or self._owner.upscaler is None:
            return item
        larger = self._owner.results.take(self._chain.raise_if_stopped)
        enlarge_planes(self._owner.upscaler, item.planes, larger)
        self._owner.pool.give(item.planes)
        item.planes = larger
        return item

    def _mark(self, item: _Item) -> _Item:
        if item.planes is None:
            return item
        owner, seconds = self._owner, item.shown.seconds
        shown = owner.spec.label.seconds if owner.spec.label else None
        if owner.label is not None and (shown is None or seconds < shown):
            owner.label.apply(item.planes)
        owner.embedder.embed_yuv420(item.planes.y, item.planes.u, item.planes.v)
        if item.judged:
            finished = item.planes if owner.upscaler is None else reduced(item.planes, owner.size)
            for judged in item.judged:
                judged.judge(owner.runner, finished)
        if seconds >= self._due:
            self.fingerprints.append((seconds, take(item.planes.to_rgb())))
            self._due = _next_due(seconds)
        return item

    def _encode(self, item: _Item) -> _Item:
        if item.planes is None:
            return item
        self._first = self._first or item.shown
        begin = self._first.pts[0]
        self._writer.write(item.planes, *(pts - begin for pts in item.shown.pts))
        self._owner.results.give(item.planes)
        item.planes = None
        self._last = item.shown
        self.pictures += len(item.shown.pts)
        self._owner.report("encode", item.shown.stamp.index + 1, self._owner.analysis.info.frames)
        return item


def _next_due(seconds: float) -> float:
    return seconds + _FINGERPRINT_SECONDS - 1e-3
