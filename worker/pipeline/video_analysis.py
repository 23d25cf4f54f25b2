"""Analyse a video: every frame through the tracker, landmarks streamed to disk. Runs inside the media child."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.faces.track import VideoTracker
from worker.faces.types import ModelRunner
from worker.media.entries import check_sound
from worker.media.magic import HEAD_BYTES, sniff
from worker.media.planes import Planes, PlanesPool
from worker.media.video import Stamp, VideoReader
from worker.pipeline.analysis import AnalysedFrame, AnalysisSummary, AnalysisWriter, FrameFace
from worker.pipeline.photo_analysis import Report
from worker.pipeline.stages import Stage, Stages
from worker.pipeline.track_book import TrackBook

_DEPTH = 2


@dataclass
class _Item:
    stamp: Stamp
    frame: Any
    planes: Planes | None = None


def container_of(path: Path) -> str:
    """Return the demuxer for a video file by its first bytes. Raises MediaError."""
    with path.open("rb") as file:
        return sniff(file.read(HEAD_BYTES), path.name).container


def analyse_video(
    path: Path,
    out: Path,
    runner: ModelRunner,
    model_set: str,
    *,
    report: Report,
    raise_if_stopped: Callable[[], None],
    threads: int = 2,
) -> AnalysisSummary:
    """Track the faces of a video and write its analysis to `out`; sound is decoded once to know that it can be.

    Raises MediaError, FaceError, ModelError, OSError.
    """
    with path.open("rb") as file, VideoReader(file, container_of(path), threads=threads) as reader:
        writer = AnalysisWriter(out)
        try:
            return _follow(
                reader, writer, runner, model_set=model_set, report=report, raise_if_stopped=raise_if_stopped
            )
        finally:
            writer.abort()


def _follow(
    reader: VideoReader,
    writer: AnalysisWriter,
    runner: ModelRunner,
    *,
    model_set: str,
    report: Report,
    raise_if_stopped: Callable[[], None],
) -> AnalysisSummary:
    tracker = VideoTracker(runner, reader.fps)
    book = TrackBook()
    pool = PlanesPool(reader.size, 2 * _DEPTH + 3)
    seconds_of: list[float] = []  # of cuts only
    last = 0.0

    def decoded() -> Iterator[_Item]:
        for kind, item in reader.items():
            if kind == "picture":
                yield _Item(*item)
            elif kind == "sound":
                check_sound(item)

    def convert(item: _Item) -> _Item:
        item.planes = pool.take(chain.raise_if_stopped)
        reader.fill(item.frame, item.planes)
        item.frame = None
        return item

    def follow(item: _Item) -> _Item:
        nonlocal last
        planes, stamp = item.planes, item.stamp
        if planes is None:
            raise ValueError("a frame that was not converted")
        cuts = len(tracker.cuts)
        faces = tracker.push(stamp.index, stamp.seconds, planes.to_rgb())
        pool.give(planes)
        if len(tracker.cuts) > cuts:
            seconds_of.append(stamp.seconds)
        book.add(stamp.index, stamp.seconds, faces)
        # Frames without faces too: their times are what a segment's start is found by.
        found = tuple(FrameFace(one.track, one.score, one.box, one.landmarks) for one in faces)
        writer.add(AnalysedFrame(stamp.index, stamp.seconds, found))
        last = stamp.seconds
        report("track", stamp.index + 1, reader.frames)
        return item

    chain: Stages[_Item] = Stages(
        "decode",
        [Stage("convert", convert), Stage("track", follow)],
        depth=_DEPTH,
        raise_if_stopped=raise_if_stopped,
    )
    chain.run(decoded())
    width, height = reader.size
    summary = AnalysisSummary(
        kind="video",
        model_set=model_set,
        width=width,
        height=height,
        frames=chain.times["track"].items,
        duration=last + 1 / reader.fps,
        tracks=book.tracks(tracker.descriptors()),
        cuts=tuple(seconds_of),
        warnings=tuple(reader.warnings),
    )
    writer.finish(summary)
    return summary
