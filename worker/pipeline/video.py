"""A video through the pipeline: decode, swap, label, mark, encode, each in its own thread. Inside the media child."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from watermark.aigc import KEY
from watermark.fingerprint import Fingerprint, take
from watermark.labels import LabelRenderer
from watermark.pattern import MarkPattern
from watermark.video import Embedder
from worker.faces.types import ModelRunner
from worker.media.encode import EncoderChoice, VideoWriter
from worker.media.errors import MediaError
from worker.media.planes import Planes, PlanesPool
from worker.media.scaling import output_size
from worker.media.timing import Shown, Timeline, Window, first_frame
from worker.media.tracks import Kept
from worker.media.video import VideoReader
from worker.pipeline.analysis import AnalysedFrame, Analysis, FrameFace
from worker.pipeline.errors import PipelineError
from worker.pipeline.overlay import PlanarLabel
from worker.pipeline.photo import Outcome
from worker.pipeline.photo_analysis import Report
from worker.pipeline.reports import fingerprint_record
from worker.pipeline.sources import load_sources
from worker.pipeline.stages import Stage, Stages
from worker.pipeline.swapping import Judged, TrackSwapper, plan_swaps
from worker.pipeline.video_analysis import container_of
from worker.spec import JobSpec, Label

_DEPTH: Final = 2
_FINGERPRINT_SECONDS: Final = 1.0


@dataclass
class _Item:
    """A picture on its way, or a packet of another track that keeps its place among the pictures."""

    shown: Shown | None = None
    frame: Any = None
    planes: Planes | None = None
    faces: tuple[FrameFace, ...] = ()
    judged: list[Judged] = field(default_factory=list)
    packet: Any = None


def run_video(
    spec: JobSpec,
    pattern: MarkPattern,
    runner: ModelRunner,
    report: Report,
    raise_if_stopped: Callable[[], None],
    *,
    threads: int = 2,
) -> Outcome:
    """Carry out a video job and write `spec.output_path`, marked and unsigned.

    Raises MediaError, FaceError, ModelError, MarkError, LabelError, PipelineError, OSError.
    """
    report("prepare", 0, None)
    analysis = Analysis.load(spec.analysis_path)
    container = container_of(spec.target_path)
    window = Window(spec.trim_start, spec.trim_end)
    size, limited = output_size((analysis.info.width, analysis.info.height), scale=spec.scale, height=spec.height)
    part = analysis.part(window.holds, size)
    plans = plan_swaps(spec, part, load_sources(spec, runner))
    first = None
    if window.start:
        with spec.target_path.open("rb") as file:
            first = first_frame(file, container, window.start)
    with (
        spec.target_path.open("rb") as file,
        VideoReader(file, container, threads=threads, decoder=spec.hardware) as reader,
    ):
        if analysis.info.kind != "video" or (analysis.info.width, analysis.info.height) != reader.size:
            raise PipelineError("analysis_invalid", "another video")
        timeline = Timeline.of(reader, window, spec.fps, first=first)
        writer = VideoWriter(
            spec.output_path,
            size=size,
            time_base=timeline.time_base,
            rate=timeline.rate,
            container="mov" if spec.output_mime == "video/quicktime" else "mp4",
            choice=EncoderChoice(spec.codec, spec.crf, spec.preset, spec.hardware),
            kept=Kept.of(reader, timeline),
            threads=threads,
            metadata={KEY: spec.aigc} if spec.aigc else None,
        )
        try:
            run = _Run(
                spec,
                analysis=part,
                reader=reader,
                writer=writer,
                timeline=timeline,
                size=size,
                plans=plans,
                runner=runner,
                pattern=pattern,
                report=report,
                raise_if_stopped=raise_if_stopped,
            )
            run.go()
            raise_if_stopped()
            writer.finish()
        finally:
            writer.abort()
        outcome = run.outcome()
        if limited:
            outcome.warnings.append("size_limited")
        return outcome


def _planar(label: Label, size: tuple[int, int]) -> PlanarLabel:
    return PlanarLabel(LabelRenderer(size, label.text, label.place, letter_share=label.letter_share))


class _Run:
    """One video on its way; each method below `go` belongs to one stage and so to one thread."""

    def __init__(
        self,
        spec: JobSpec,
        *,
        analysis: Analysis,
        reader: VideoReader,
        writer: VideoWriter,
        timeline: Timeline,
        size: tuple[int, int],
        plans: dict[int, TrackSwapper],
        runner: ModelRunner,
        pattern: MarkPattern,
        report: Report,
        raise_if_stopped: Callable[[], None],
    ) -> None:
        self._analysis = analysis
        self._reader = reader
        self._writer = writer
        self._timeline = timeline
        self._size = size
        self._plans = plans
        self._runner = runner
        self._report = report
        self._embedder = Embedder.from_pattern(pattern, size, spec.mark_mode)
        self._label = _planar(spec.label, size) if spec.label else None
        self._label_seconds = spec.label.seconds if spec.label else None
        self._cuts = iter(analysis.info.cuts)
        self._next_cut = next(self._cuts, None)
        self._pool = PlanesPool(size, 3 * (_DEPTH + 1) + 2)
        self._fingerprints: list[tuple[float, Fingerprint]] = []
        self._decoded = self._encoded = 0
        self._first: Shown | None = None
        self._last: Shown | None = None
        self._chain: Stages[_Item] = Stages(
            "decode",
            [
                Stage("convert", self._convert),
                Stage("swap", self._swap),
                Stage("mark", self._mark),
                Stage("encode", self._encode),
            ],
            depth=_DEPTH,
            raise_if_stopped=raise_if_stopped,
        )

    def go(self) -> None:
        """Run all stages to the end of the video."""
        self._chain.run(self._decode())
        known = self._analysis.info.frames
        # A part that ends early leaves the rest undecoded; a whole one must be what was analysed.
        if self._decoded > known or (self._timeline.window.end is None and self._decoded != known):
            raise PipelineError("analysis_invalid", f"{self._decoded} frames, {known} analysed")

    def outcome(self) -> Outcome:
        """Return the facts of the finished run. Raises MediaError `part_empty` where no frame was kept."""
        if self._last is None:
            raise MediaError("part_empty")
        width, height = self._size
        warnings = [*self._reader.warnings, *self._writer.warnings]
        if any(plan.left_alone for plan in self._plans.values()):
            warnings.append("frames_not_replaced")
        return Outcome(
            width=width,
            height=height,
            duration=self._timeline.duration(self._last),
            frames=self._encoded,
            timings={
                **{name: round(times.busy, 4) for name, times in self._chain.times.items()},
                **{f"{name}_cpu": round(times.cpu, 4) for name, times in self._chain.times.items()},
            },
            quality={str(track): plan.quality() for track, plan in self._plans.items()},
            fingerprint=fingerprint_record(self._fingerprints, "video"),
            warnings=warnings,
        )

    # -- stages --------------------------------------------------------------------------------------------------

    def _decode(self) -> Iterator[_Item]:
        analysed = self._analysis.frames()
        upcoming: AnalysedFrame | None = next(analysed, None)
        for kind, item in self._timeline.items(self._read()):
            if kind != "picture":
                yield _Item(packet=item)
                continue
            shown, frame = item
            while upcoming is not None and upcoming.index < shown.stamp.index:  # of a frame that is not shown
                upcoming = next(analysed, None)
            here = upcoming is not None and upcoming.index == shown.stamp.index
            yield _Item(shown=shown, frame=frame, faces=upcoming.faces if upcoming is not None and here else ())

    def _read(self) -> Iterator[tuple[str, Any]]:
        """What the reader gives, without decoding what comes after the end."""
        for kind, item in self._reader.items():
            if kind == "picture":
                self._decoded += 1
                if self._timeline.past(item[0]):
                    self._reader.skip_pictures()
            yield kind, item

    def _convert(self, item: _Item) -> _Item:
        if item.frame is not None:
            item.planes = self._pool.take(self._chain.raise_if_stopped)
            self._reader.fill(item.frame, item.planes)
            item.frame = None
        return item

    def _swap(self, item: _Item) -> _Item:
        if item.planes is None or item.shown is None:
            return item
        stamp = item.shown.stamp
        while self._next_cut is not None and stamp.seconds >= self._next_cut:
            self._next_cut = next(self._cuts, None)
            for plan in self._plans.values():
                plan.reset()
        for face in item.faces:
            swapper = self._plans.get(face.track)
            if swapper is not None:
                judged = swapper.swap(item.planes, face, stamp.index, stamp.seconds)
                if judged is not None:
                    item.judged.append(judged)
        return item

    def _mark(self, item: _Item) -> _Item:
        if item.planes is None or item.shown is None:
            return item
        seconds = item.shown.seconds
        if self._label is not None and (self._label_seconds is None or seconds < self._label_seconds):
            self._label.apply(item.planes)
        self._embedder.embed_yuv420(item.planes.y, item.planes.u, item.planes.v)
        for judged in item.judged:
            judged.plan.judge(self._runner, judged, item.planes)
        due = self._fingerprints[-1][0] + _FINGERPRINT_SECONDS - 1e-3 if self._fingerprints else 0.0
        if seconds >= due:
            self._fingerprints.append((seconds, take(item.planes.to_rgb())))
        return item

    def _encode(self, item: _Item) -> _Item:
        if item.packet is not None:
            self._writer.write_track(item.packet)
        if item.planes is not None and item.shown is not None:
            self._writer.write(item.planes, *item.shown.pts)
            self._pool.give(item.planes)
            self._first = self._first or item.shown
            self._last = item.shown
            self._encoded += len(item.shown.pts)
            self._report("encode", item.shown.stamp.index + 1 - self._first.stamp.index, self._expected())
        return item

    def _expected(self) -> int:
        """Frames of the target from the first that is kept to about the last."""
        info, window = self._analysis.info, self._timeline.window
        skipped = 0 if self._first is None else self._first.stamp.index
        if window.end is None or info.duration <= 0:
            return info.frames - skipped
        return max(1, min(info.frames - skipped, round((window.end - window.start) / info.duration * info.frames)))
