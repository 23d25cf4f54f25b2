"""Analyse a video: every frame through the tracker, landmarks streamed to disk. Runs inside the media child."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from worker.faces.embed import distance
from worker.faces.persons import described, group
from worker.faces.track import Correction, TrackedFace, VideoTracker
from worker.faces.types import Floats, ModelRunner
from worker.limits import IDENTITY_REVIEW
from worker.media.entries import check_sound
from worker.media.magic import HEAD_BYTES, sniff
from worker.media.planes import Planes, PlanesPool
from worker.media.video import Stamp, VideoReader
from worker.pipeline.analysed import MESH, AnalysedFrame, AnalysisSummary, Form, FrameFace
from worker.pipeline.analysis import AnalysisWriter
from worker.pipeline.photo_analysis import Report
from worker.pipeline.stages import Stage, Stages
from worker.pipeline.track_book import TrackBook

_DEPTH = 2
# Descriptors of two stretches up to this far apart are one person's: nearer than IDENTITY_PASS, because nobody looks at
# it, and a face that is put to the wrong person is replaced without a permission. One too many is only another to pick.
_SAME = 0.38
# How much nearer than anybody else two stretches of a film must be to count as one person: half of what two photos of
# one person usually are apart.
_MARGIN = 0.1


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


class Record:
    """What is written down of a video while its faces are followed, whichever models follow them."""

    def __init__(self, reader: VideoReader, writer: AnalysisWriter, report: Report) -> None:
        self._reader = reader
        self._writer = writer
        self._report = report
        self._book = TrackBook()
        self._cuts: list[float] = []
        self._frames = 0
        self._last = 0.0
        self._waiting: deque[tuple[Stamp, list[TrackedFace]]] = deque()

    def pictures(self) -> Iterator[tuple[Stamp, Any]]:
        """The pictures of the video; its sound is decoded on the way, to know that it can be. Raises MediaError."""
        for kind, item in self._reader.items():
            if kind == "picture":
                yield item
            elif kind == "sound":
                check_sound(item)

    def add(
        self,
        stamp: Stamp,
        faces: Sequence[TrackedFace],
        *,
        begins_shot: bool,
        corrections: Sequence[Correction] = (),
        settled: int | None = None,
    ) -> None:
        """Write down the next frame. Frames without faces too: by their times a segment's start is found.

        `corrections` are carried out on the frames that wait; those before number `settled` no longer do, None: none.
        """
        if begins_shot:
            self._cuts.append(stamp.seconds)
        for correction in corrections:
            for earlier, found in self._waiting:
                if earlier.index >= correction.since:
                    found[:] = [replace(f, track=correction.new) if f.track == correction.old else f for f in found]
        self._waiting.append((stamp, list(faces)))
        while self._waiting and (settled is None or self._waiting[0][0].index < settled):
            self._write(*self._waiting.popleft())
        self._frames += 1
        self._last = stamp.seconds
        self._report("track", stamp.index + 1, self._reader.frames)

    def _write(self, stamp: Stamp, faces: Sequence[TrackedFace]) -> None:
        self._book.add(stamp.index, stamp.seconds, faces)
        found = tuple(FrameFace(one.track, one.score, one.box, one.landmarks) for one in faces)
        self._writer.add(AnalysedFrame(stamp.index, stamp.seconds, found))

    def finish(
        self,
        model_set: str,
        descriptors: Mapping[int, Floats],
        form: Form = MESH,
        persons: Mapping[int, int] | None = None,
    ) -> AnalysisSummary:
        """Write the summary and let the file appear; `persons` names the track of each number. Raises OSError."""
        while self._waiting:
            self._write(*self._waiting.popleft())
        width, height = self._reader.size
        persons = {number: person for number, person in (persons or {}).items() if person != number}
        self._book.merge(persons)
        summary = AnalysisSummary(
            kind="video",
            model_set=model_set,
            width=width,
            height=height,
            frames=self._frames,
            duration=self._last + 1 / self._reader.fps,
            tracks=self._book.tracks(descriptors),
            cuts=tuple(self._cuts),
            warnings=tuple(self._reader.warnings),
            form=form,
            persons=persons,
        )
        self._writer.finish(summary)
        return summary


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
    record = Record(reader, writer, report)
    pool = PlanesPool(reader.size, 2 * _DEPTH + 3)

    def convert(item: _Item) -> _Item:
        item.planes = reader.to_read(item.frame, pool, chain.raise_if_stopped)
        item.frame = None
        return item

    def follow(item: _Item) -> _Item:
        planes, stamp = item.planes, item.stamp
        if planes is None:
            raise ValueError("a frame that was not converted")
        cuts = len(tracker.cuts)
        faces = tracker.push(stamp.index, stamp.seconds, planes)
        pool.give(planes)
        record.add(
            stamp,
            faces,
            begins_shot=len(tracker.cuts) > cuts,
            corrections=tracker.corrections(),
            settled=tracker.settled,
        )
        return item

    chain: Stages[_Item] = Stages(
        "decode",
        [Stage("convert", convert), Stage("track", follow)],
        depth=_DEPTH,
        raise_if_stopped=raise_if_stopped,
    )
    chain.run(_Item(*picture) for picture in record.pictures())
    stretches = tracker.stretches()
    persons = group(stretches, distance, same=_SAME, margin=_MARGIN, other=IDENTITY_REVIEW)
    return record.finish(model_set, described(stretches, persons), persons=persons)
