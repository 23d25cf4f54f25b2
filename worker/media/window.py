"""The part of a video that a result keeps. Pure, and without the codecs, so that whoever plans a job can ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SAME_TIME: Final = 1e-4
"""Seconds by which a frame may come before the time that was asked for: times travel as rounded numbers."""


@dataclass(frozen=True)
class Window:
    """The part that is kept, in seconds from the first frame: `start` <= time < `end`; None: to the end.

    The first frame at or after `start` is the result's first, and its zero of time.
    """

    start: float = 0.0
    end: float | None = None

    def __post_init__(self) -> None:
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise ValueError("A part of a video ends after it starts.")

    def holds(self, seconds: float) -> bool:
        """Whether a frame at `seconds` is in it."""
        return seconds >= self.start - SAME_TIME and (self.end is None or seconds < self.end - SAME_TIME)

    @property
    def whole(self) -> bool:
        return self.start == 0 and self.end is None
