"""The faces of a video's frames from the stored analysis, smoothed, without holes, and how strongly each is replaced.

A face that is missed for a moment goes on in between; one that turns away or comes into view is faded, not popped. No
frame is decoded for it: a few frames of the analysis are read ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from worker.faces.detect import intersection
from worker.faces.persons import UNSURE
from worker.faces.smooth import OneEuro
from worker.pipeline.analysed import AnalysedFrame, FrameFace
from worker.pipeline.analysis import Analysis
from worker.pipeline.segments import shot_start

_GAP_SECONDS: Final = 0.2
_FADE_SECONDS: Final = 0.2
# Share of the smaller box from which a face that nobody saw may be behind the other one.
_BEHIND: Final = 0.1


@dataclass(frozen=True)
class Seen:
    """The faces of one frame: `targets` are to be replaced, at most one of a track; `others` may not be."""

    targets: tuple[FrameFace, ...] = ()
    others: tuple[FrameFace, ...] = ()


@dataclass
class _Past:
    """What the frames before tell of one track of this shot."""

    last: FrameFace | None = None
    index: int = -1  # of `last`
    since: int | None = None  # the frame from which it was there without a break; None: it is not there
    whole: bool = False  # it was there when the shot began: nothing to fade in
    refused: int = -1  # the frame before which it may have been hidden, so that nothing is put in between


class SmoothedFaces:
    """The faces of a video, frame by frame in order, each smoothed from the start of its shot.

    So a frame's faces are the same wherever a segment begins. `wanted` are the tracks to be replaced, `cuts` the
    numbers of frames that begin a shot. Without `others` nothing is told of the faces that are not replaced.
    """

    def __init__(self, analysis: Analysis, wanted: Sequence[int], cuts: Sequence[int], *, others: bool = True) -> None:
        info = analysis.info
        fps = info.frames / info.duration if info.duration > 0 else 25.0
        self._analysis = analysis
        self._wanted = frozenset(wanted)
        self._others = others
        self._smoothers = {track: OneEuro() for track in wanted}
        self._cuts = frozenset(cuts)
        self._gap = max(1, round(_GAP_SECONDS * fps))
        self._fade = max(1, round(_FADE_SECONDS * fps))
        self._frames: Iterator[AnalysedFrame] = iter(())
        self._ahead: deque[AnalysedFrame] = deque()
        self._past: dict[int, _Past] = {}
        self._next = -1
        self._first = 0  # the first frame of this shot that there is

    def of(self, index: int) -> Seen:
        """Faces of frame `index`. Going on is cheap, going back begins anew at the shot. Raises AnalysisError."""
        shot = shot_start(index, self._cuts)
        if index < self._next or shot > self._next or self._next < 0:
            self._begin(shot)
        seen = Seen()
        while self._next <= index:
            seen = self._step()
        return seen

    def _begin(self, shot: int) -> None:
        self._frames = _every(self._analysis.frames(shot))
        self._ahead.clear()
        self._next = shot
        self._reset()
        self._fill()
        self._first = self._ahead[0].index if self._ahead else shot

    def _reset(self) -> None:
        self._past = {}
        for smooth in self._smoothers.values():
            smooth.reset()

    def _fill(self) -> None:
        while len(self._ahead) <= self._gap + self._fade + 1:
            frame = next(self._frames, None)
            if frame is None:
                return
            self._ahead.append(frame)

    def _step(self) -> Seen:
        """Take in frame `_next`."""
        if self._next in self._cuts:
            self._reset()
            self._first = self._next
        seen = Seen()
        if self._ahead and self._ahead[0].index == self._next:
            self._fill()
            frame = self._ahead[0]
            shot = self._rest_of_shot()
            there = {face.track for near in shot for face in near.faces} | self._past.keys()
            targets = [self._target(track, frame, shot) for track in sorted(there & self._wanted)]
            seen = Seen(tuple(filter(None, targets)), self._beside(there, frame, shot) if self._others else ())
            self._note(frame)
            self._ahead.popleft()
        self._next += 1
        return seen

    def _beside(
        self, there: Collection[int], frame: AnalysedFrame, shot: Sequence[AnalysedFrame]
    ) -> tuple[FrameFace, ...]:
        """The faces of this frame that are not to be replaced; `there` are the tracks that may be in it."""
        known = [self._other(track, frame, shot) for track in sorted({*there} - self._wanted - {UNSURE})]
        return (*filter(None, known), *(face for face in frame.faces if face.track == UNSURE))

    def _rest_of_shot(self) -> list[AnalysedFrame]:
        """This frame and those after it that are read already, up to the next cut."""
        rest: list[AnalysedFrame] = []
        for frame in self._ahead:
            if rest and frame.index in self._cuts:
                break
            rest.append(frame)
        return rest

    def _note(self, frame: AnalysedFrame) -> None:
        for face in frame.faces:
            past = self._past.setdefault(face.track, _Past())
            past.last, past.index = face, frame.index

    def _target(self, track: int, frame: AnalysedFrame, shot: Sequence[AnalysedFrame]) -> FrameFace | None:
        """The face that is to be replaced in this frame, with its strength."""
        past = self._past.setdefault(track, _Past())
        line = self._line(track, shot)
        face = line[0]
        if face is None:
            past.since = None
            return None
        if past.since is None:
            past.since, past.whole = frame.index, frame.index == self._first
        until = next((ahead for ahead, one in enumerate(line) if one is None), self._fade + 1)
        begun = self._fade + 1 if past.whole else frame.index - past.since + 1
        share = min(1.0, until / (self._fade + 1), begun / (self._fade + 1))
        landmarks = self._smoothers[track](face.landmarks, frame.seconds)
        return replace(face, landmarks=landmarks, strength=share * share * (3 - 2 * share))

    def _line(self, track: int, shot: Sequence[AnalysedFrame]) -> list[FrameFace | None]:
        """The track's face in each of the frames `shot`, those that were missed for a moment from their neighbours."""
        past = self._past[track]
        line: list[FrameFace | None] = [_face(frame, track) for frame in shot]
        before, index = past.last, past.index
        for frame, face in zip(shot, tuple(line), strict=True):
            if face is None:
                continue
            missed = range(max(index + 1, shot[0].index), frame.index)
            if before is not None and missed and frame.index - index - 1 <= self._gap and frame.index != past.refused:
                length = frame.index - index
                filled = {at - shot[0].index: _between(before, face, (at - index) / length) for at in missed}
                if any(_hidden(one, shot[place], track) for place, one in filled.items()):
                    past.refused = frame.index
                else:
                    line = [filled.get(place, one) for place, one in enumerate(line)]
            before, index = face, frame.index
        return line

    def _other(self, track: int, frame: AnalysedFrame, shot: Sequence[AnalysedFrame]) -> FrameFace | None:
        """A face that is not to be replaced; where it is not seen, as long as it may still be there."""
        past = self._past.get(track, _Past())
        before = past.last if past.last is not None and frame.index - past.index <= self._gap else None
        behind = next(
            ((near.index, face) for near in shot[: self._gap + 1] if (face := _face(near, track)) is not None), None
        )
        if behind is None or behind[0] == frame.index:
            return before if behind is None else behind[1]
        if before is None:
            return behind[1]
        return _between(before, behind[1], (frame.index - past.index) / (behind[0] - past.index))


def _every(frames: Iterator[AnalysedFrame]) -> Iterator[AnalysedFrame]:
    """Frames without gaps: analyses of an older release left those without faces out."""
    last: AnalysedFrame | None = None
    for frame in frames:
        if last is not None:
            for index in range(last.index + 1, frame.index):
                way = (index - last.index) / (frame.index - last.index)
                yield AnalysedFrame(index, last.seconds + way * (frame.seconds - last.seconds), ())
        yield frame
        last = frame


def _face(frame: AnalysedFrame, track: int) -> FrameFace | None:
    return next((face for face in frame.faces if face.track == track), None)


def _between(before: FrameFace, behind: FrameFace, way: float) -> FrameFace:
    """The face `way` (0..1) from one frame to the other."""
    share = np.float32(way)
    return FrameFace(
        before.track,
        min(before.score, behind.score),
        before.box + share * (behind.box - before.box),
        before.landmarks + share * (behind.landmarks - before.landmarks),
    )


def _hidden(face: FrameFace, frame: AnalysedFrame, track: int) -> bool:
    """Whether somebody who was seen in `frame` may stand before the face that was not."""
    others = (other for other in frame.faces if other.track != track)
    return any(
        intersection(face.box, other.box) > _BEHIND * min(float(np.prod(face.box[2:])), float(np.prod(other.box[2:])))
        for other in others
    )
