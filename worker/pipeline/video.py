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
from worker.media.encode import VideoWriter
from worker.media.planes import Planes, PlanesPool
from worker.media.video import Stamp, VideoReader
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
    """A picture on its way, or a packet of sound that keeps its place among the pictures."""

    stamp: Stamp | None = None
    frame: Any = None
    planes: Planes | None = None
    faces: tuple[FrameFace, ...] = ()
    judged: list[Judged] = field(default_factory=list)
    sound: Any = None


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
    plans = plan_swaps(spec, analysis, load_sources(spec, runner))
    with (
        spec.target_path.open("rb") as file,
        VideoReader(file, container_of(spec.target_path), threads=threads) as reader,
    ):
        if analysis.info.kind != "video" or (analysis.info.width, analysis.info.height) != reader.size:
            raise PipelineError("analysis_invalid", "another video")
        writer = VideoWriter(
            spec.output_path,
            size=reader.size,
            time_base=reader.time_base,
            rate=reader.rate,
            container="mov" if spec.output_mime == "video/quicktime" else "mp4",
            crf=spec.crf,
            preset=spec.preset,
            sound=reader.sound,
            threads=threads,
            metadata={KEY: spec.aigc} if spec.aigc else None,
        )
        try:
            run = _Run(
                spec,
                analysis=analysis,
                reader=reader,
                writer=writer,
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
        return run.outcome()


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
        plans: dict[int, TrackSwapper],
        runner: ModelRunner,
        pattern: MarkPattern,
        report: Report,
        raise_if_stopped: Callable[[], None],
    ) -> None:
        self._analysis = analysis
        self._reader = reader
        self._writer = writer
        self._plans = plans
        self._runner = runner
        self._report = report
        self._embedder = Embedder.from_pattern(pattern, reader.size, spec.mark_mode)
        self._label = _planar(spec.label, reader.size) if spec.label else None
        self._label_seconds = spec.label.seconds if spec.label else None
        self._cuts = iter(analysis.info.cuts)
        self._next_cut = next(self._cuts, None)
        self._pool = PlanesPool(reader.size, 3 * (_DEPTH + 1) + 2)
        self._fingerprints: list[tuple[float, Fingerprint]] = []
        self._last: Stamp | None = None
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
        frames = 0 if self._last is None else self._last.index + 1
        if frames != self._analysis.info.frames:
            raise PipelineError("analysis_invalid", f"{frames} frames, {self._analysis.info.frames} analysed")

    def outcome(self) -> Outcome:
        """Return the facts of the finished run."""
        width, height = self._reader.size
        last = self._last or Stamp(0, 0, 0.0)
        warnings = list(self._reader.warnings)
        if any(plan.left_alone for plan in self._plans.values()):
            warnings.append("frames_not_replaced")
        return Outcome(
            width=width,
            height=height,
            duration=last.seconds + 1 / self._reader.fps,
            frames=last.index + 1,
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
        for kind, item in self._reader.items():
            if kind == "sound":
                yield _Item(sound=item)
                continue
            stamp, frame = item
            faces: tuple[FrameFace, ...] = ()
            if upcoming is not None and upcoming.index == stamp.index:
                faces = upcoming.faces
                upcoming = next(analysed, None)
            yield _Item(stamp=stamp, frame=frame, faces=faces)

    def _convert(self, item: _Item) -> _Item:
        if item.frame is not None:
            item.planes = self._pool.take(self._chain.raise_if_stopped)
            self._reader.fill(item.frame, item.planes)
            item.frame = None
        return item

    def _swap(self, item: _Item) -> _Item:
        if item.planes is None or item.stamp is None:
            return item
        if self._next_cut is not None and item.stamp.seconds >= self._next_cut:
            self._next_cut = next(self._cuts, None)
            for plan in self._plans.values():
                plan.reset()
        for face in item.faces:
            swapper = self._plans.get(face.track)
            if swapper is not None:
                judged = swapper.swap(item.planes, face, item.stamp.index, item.stamp.seconds)
                if judged is not None:
                    item.judged.append(judged)
        return item

    def _mark(self, item: _Item) -> _Item:
        if item.planes is None or item.stamp is None:
            return item
        if self._label is not None and (self._label_seconds is None or item.stamp.seconds < self._label_seconds):
            self._label.apply(item.planes)
        self._embedder.embed_yuv420(item.planes.y, item.planes.u, item.planes.v)
        for judged in item.judged:
            judged.plan.judge(self._runner, judged, item.planes)
        due = self._fingerprints[-1][0] + _FINGERPRINT_SECONDS - 1e-3 if self._fingerprints else 0.0
        if item.stamp.seconds >= due:
            self._fingerprints.append((item.stamp.seconds, take(item.planes.to_rgb())))
        return item

    def _encode(self, item: _Item) -> _Item:
        if item.sound is not None:
            self._writer.write_sound(item.sound)
        if item.planes is not None and item.stamp is not None:
            self._writer.write(item.planes, item.stamp.pts)
            self._pool.give(item.planes)
            self._last = item.stamp
            self._report("encode", item.stamp.index + 1, self._analysis.info.frames)
        return item
