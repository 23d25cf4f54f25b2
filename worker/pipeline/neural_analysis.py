"""Analyse media with neural models: as `video_analysis`, but with runs of several frames in the engine at a time.

The stored analysis holds 68 landmarks in the plane and the embedding of the model set. Runs inside the media child.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from worker.faces.neural.photo import PhotoLooker
from worker.faces.neural.points import FAN_POINTS, yaw_of
from worker.faces.neural.track import NeuralModels, NeuralTracker, PendingFrame
from worker.inference.registry import ModelSet
from worker.inference.types import ModelRunner
from worker.media.planes import Planes, PlanesPool
from worker.media.video import Stamp, VideoReader
from worker.model_choice import all_of
from worker.pipeline.analysed import AnalysisSummary, Form
from worker.pipeline.analysis import AnalysisWriter
from worker.pipeline.photo_analysis import SMALLEST_TOLD, Report, Seen, read_photo, write_photo
from worker.pipeline.stages import Stage, Stages
from worker.pipeline.video_analysis import Record, container_of

_DEPTH: Final = 8  # frames between two steps: what the engine can batch


@dataclass
class _Item:
    stamp: Stamp
    frame: Any
    planes: Planes | None = None
    pending: PendingFrame | None = None


def analyse_video_neural(
    path: Path,
    out: Path,
    runner: ModelRunner,
    models: ModelSet,
    *,
    names: NeuralModels | None = None,
    detect_every: int = 1,
    report: Report,
    raise_if_stopped: Callable[[], None],
    threads: int = 2,
) -> AnalysisSummary:
    """Track the faces of a video and write its analysis to `out`; sound is decoded once to know that it can be.

    Raises MediaError, ModelError, OSError.
    """
    tracker = NeuralTracker(runner, models, names=names, detect_every=detect_every)
    with path.open("rb") as file, VideoReader(file, container_of(path), threads=threads) as reader:
        form = Form(FAN_POINTS, 2, tracker.descriptor_size)
        writer = AnalysisWriter(out, form)
        try:
            return _follow(reader, writer, tracker, models.id(), form, report=report, raise_if_stopped=raise_if_stopped)
        finally:
            writer.abort()


def analyse_neural(
    path: Path,
    out: Path,
    runner: ModelRunner,
    models: ModelSet,
    *,
    photo: bool,
    report: Report,
    raise_if_stopped: Callable[[], None],
    threads: int = 2,
) -> AnalysisSummary:
    """Analyse a photo with all detectors that there are, or a video with the best one, which looks at every frame.

    Raises MediaError, ModelError, OSError.
    """
    detectors = all_of("face_detector", models.extra)
    names = NeuralModels(
        detectors if photo else detectors[:1],
        all_of("face_landmarks", models.extra)[0],
        all_of("face_embedding", models.extra)[0],
    )
    if photo:
        return analyse_photo_neural(path, out, runner, models, names=names, report=report)
    return analyse_video_neural(
        path,
        out,
        runner,
        models,
        names=names,
        report=report,
        raise_if_stopped=raise_if_stopped,
        threads=threads,
    )


def analyse_photo_neural(
    path: Path, out: Path, runner: ModelRunner, models: ModelSet, *, names: NeuralModels | None = None, report: Report
) -> AnalysisSummary:
    """As `photo_analysis.analyse_photo`. Raises MediaError, ModelError, OSError."""
    looker = PhotoLooker(runner, models, names or NeuralModels())
    report("decode", 0, 1)
    rgb, facts = read_photo(path)
    report("detect", 0, 1)
    faces = looker.faces(rgb) or looker.faces(rgb, min_size=SMALLEST_TOLD, turned="never")
    seen = [Seen(one.score, one.box, one.landmarks, yaw_of(one.landmarks), one.descriptor) for one in faces]
    form = Form(FAN_POINTS, 2, looker.descriptor_size)
    return write_photo(out, seen, models.id(), rgb.shape, warnings=facts["warnings"], report=report, form=form)


def _follow(
    reader: VideoReader,
    writer: AnalysisWriter,
    tracker: NeuralTracker,
    model_set: str,
    form: Form,
    *,
    report: Report,
    raise_if_stopped: Callable[[], None],
) -> AnalysisSummary:
    record = Record(reader, writer, report)
    pool = PlanesPool(reader.size, 3 * (_DEPTH + 1) + 2)

    def detect(item: _Item) -> _Item:
        item.planes = reader.to_read(item.frame, pool, chain.raise_if_stopped)
        item.frame = None
        item.pending = tracker.begin(item.stamp.index, item.stamp.seconds, item.planes)
        return item

    def locate(item: _Item) -> _Item:
        planes, pending = _parts(item)
        tracker.locate(pending, planes)
        return item

    def follow(item: _Item) -> _Item:
        planes, pending = _parts(item)
        faces = tracker.finish(pending, planes)
        pool.give(planes)
        record.add(item.stamp, faces, begins_shot=pending.begins_shot)
        return item

    chain: Stages[_Item] = Stages(
        "decode",
        [Stage("detect", detect), Stage("locate", locate), Stage("track", follow)],
        depth=_DEPTH,
        raise_if_stopped=raise_if_stopped,
    )
    chain.run(_Item(*picture) for picture in record.pictures())
    return record.finish(model_set, tracker.descriptors(), form)


def _parts(item: _Item) -> tuple[Planes, PendingFrame]:
    if item.planes is None or item.pending is None:
        raise ValueError("a frame that was not detected in")
    return item.planes, item.pending
