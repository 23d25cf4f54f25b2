"""Where the reader of video gets its frames from: it asks for the ones it wants."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Timed = tuple[float, NDArray[np.uint8]]
"""Seconds from the first frame, and the frame: uint8 [H, W, 3] RGB."""


class FrameSource(Protocol):
    """A video that gives frames at places asked for. A new question ends the answer to the one before.

    `duration`: seconds, or as near as is known. `shrink`: height of the frames given, relative to those of the video;
    geometries are told in pixels of the video.
    """

    @property
    def duration(self) -> float: ...

    @property
    def shrink(self) -> float: ...

    def keyframes(self, gap: float) -> Iterator[Timed]:
        """Keyframes in order from the first on, each at least `gap` seconds after the one before."""
        ...

    def frames(self, start: float, count: int, step: float = 0.0) -> Iterator[Timed]:
        """`count` frames from the first at or after `start` seconds on, each at least `step` after the one before.

        With a `step`, a frame a little later will do where it is cheaper to have.
        """
        ...


class FrameSequence:
    """Frames in memory as a source; every one of them counts as a keyframe."""

    shrink = 1.0

    def __init__(self, frames: Iterable[Timed]) -> None:
        """`frames`: (seconds, uint8 [H, W, 3] RGB) in order of time."""
        self._frames = list(frames)

    @property
    def duration(self) -> float:
        """Seconds from the first to the last frame."""
        return self._frames[-1][0] - self._frames[0][0] if self._frames else 0.0

    def keyframes(self, gap: float) -> Iterator[Timed]:
        """See `FrameSource`."""
        return self.frames(-math.inf, len(self._frames), gap)

    def frames(self, start: float, count: int, step: float = 0.0) -> Iterator[Timed]:
        """See `FrameSource`."""
        due = start
        for seconds, frame in self._frames:
            if count > 0 and seconds >= due - 1e-6:
                yield seconds, frame
                due, count = seconds + step, count - 1
