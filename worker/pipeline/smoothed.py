"""Smoothed landmarks of a video's frames from the stored analysis: no frame is decoded for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from worker.faces.smooth import OneEuro
from worker.pipeline.analysis import AnalysedFrame, Analysis, FrameFace
from worker.pipeline.segments import shot_start


class SmoothedFaces:
    """The faces of the tracks in `wanted`, frame by frame in order, each smoothed from the start of its shot.

    So a frame's landmarks are the same wherever a segment begins. `cuts` are the numbers of frames that begin a shot.
    """

    def __init__(self, analysis: Analysis, wanted: Sequence[int], cuts: Sequence[int]) -> None:
        self._analysis = analysis
        self._smoothers = {track: OneEuro() for track in wanted}
        self._cuts = frozenset(cuts)
        self._frames: Iterator[AnalysedFrame] | None = None
        self._ahead: AnalysedFrame | None = None
        self._next = 0

    def of(self, index: int) -> tuple[FrameFace, ...]:
        """Faces of frame `index`, by track at most one. Going on is cheap, going back begins anew at the shot."""
        shot = shot_start(index, self._cuts)
        if self._frames is None or index < self._next or shot > self._next:
            self._begin(shot)
        faces: tuple[FrameFace, ...] = ()
        while self._next <= index:
            faces = self._step()
        return faces

    def _begin(self, shot: int) -> None:
        self._frames = self._analysis.frames(shot)
        self._ahead = next(self._frames, None)
        self._next = shot
        self._reset()

    def _reset(self) -> None:
        for smooth in self._smoothers.values():
            smooth.reset()

    def _step(self) -> tuple[FrameFace, ...]:
        """Take in frame `_next`."""
        if self._next in self._cuts:
            self._reset()
        faces: list[FrameFace] = []
        while self._ahead is not None and self._ahead.index <= self._next:
            if self._ahead.index == self._next:
                for face in self._ahead.faces:
                    smooth = self._smoothers.get(face.track)
                    if smooth is not None:
                        landmarks = smooth(face.landmarks, self._ahead.seconds)
                        faces.append(FrameFace(face.track, face.score, face.box, landmarks))
            self._ahead = next(self._frames, None) if self._frames is not None else None
        self._next += 1
        return tuple(faces)
