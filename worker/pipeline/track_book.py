"""Gather what is known of each track while the frames of a video go by, in memory that does not grow with them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from worker.faces.neural.points import yaw_of
from worker.faces.persons import UNSURE
from worker.faces.track import TrackedFace
from worker.pipeline.analysed import Track


@dataclass
class _Entry:
    first: float
    last: float
    frames: int
    best_score: float
    best_index: int
    best_seconds: float
    box: tuple[float, float, float, float]
    yaw: float


class TrackBook:
    """Feed the faces of every frame; `tracks` gives the finished list."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}

    def add(self, index: int, seconds: float, faces: Sequence[TrackedFace]) -> None:
        """Note the faces of frame `index` at `seconds`."""
        for face in faces:
            x, y, width, height = (float(value) for value in face.box)
            yaw = yaw_of(face.landmarks)
            # The frame that shows the person best: large, and looking at the camera.
            score = max(width, height) * max(0.05, math.cos(math.radians(yaw))) ** 2 * face.score
            entry = self._entries.get(face.track)
            if entry is None:
                entry = _Entry(seconds, seconds, 0, -1.0, index, seconds, (x, y, width, height), yaw)
                self._entries[face.track] = entry
            entry.last, entry.frames = seconds, entry.frames + 1
            if score > entry.best_score:
                entry.best_score, entry.best_index, entry.best_seconds = score, index, seconds
                entry.box, entry.yaw = (x, y, width, height), yaw

    def merge(self, persons: Mapping[int, int]) -> None:
        """Put the tracks of one person together: `persons` names it for each number, as `faces.persons.group`."""
        for number in sorted(self._entries):
            person = persons.get(number, number)
            if person == number:
                continue
            own = self._entries.pop(number)
            if person == UNSURE:
                continue
            entry = self._entries[person]
            better = own if own.best_score > entry.best_score else entry
            first, last = min(own.first, entry.first), max(own.last, entry.last)
            self._entries[person] = replace(better, first=first, last=last, frames=own.frames + entry.frames)

    def tracks(self, descriptors: Mapping[int, NDArray[np.float32]]) -> tuple[Track, ...]:
        """Return the tracks in the order of their numbers; `descriptors` is float32 [D] per track."""
        return tuple(
            Track(
                id=number,
                first_seconds=entry.first,
                last_seconds=entry.last,
                frames=entry.frames,
                best_index=entry.best_index,
                best_seconds=entry.best_seconds,
                box=entry.box,
                size=max(entry.box[2:]),
                yaw=entry.yaw,
                descriptor=tuple(map(float, descriptors[number])) if number in descriptors else None,
            )
            for number, entry in sorted(self._entries.items())
        )
