"""Which frames of a video come into the result, and when each is shown: trim and frame rate.

Pure arithmetic on exact fractions: every shown time is computed from the frame's own, never from the one before, so
nothing drifts. Sound, subtitles and chapters are moved by the same `shift`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO, Final

from worker.media.errors import MediaError
from worker.media.video import Stamp, VideoReader
from worker.media.window import SAME_TIME, Window

__all__ = ["Shown", "Timeline", "Window", "exact_rate", "first_frame"]

_NTSC: Final = Fraction(1000, 1001)
_EARLIER: Final = (0.0, 2.0)
"""Seconds a seek goes back where the index led past the time."""


def exact_rate(fps: float) -> Fraction:
    """The frame rate that a person means: 29.97 is 30000/1001, 12.5 is 25/2."""
    whole = Fraction(math.ceil(fps))
    if abs(float(whole * _NTSC) - fps) < 1e-3:
        return whole * _NTSC
    return Fraction(fps).limit_denominator(1000)


@dataclass(frozen=True)
class Shown:
    """A frame in the result: shown at each of `pts`, in the time base of the result; `seconds` count from its start."""

    stamp: Stamp
    pts: tuple[int, ...]
    seconds: float


class Timeline:
    """Maps times of one video to times of its result.

    `time_base` and `rate` are the result's; `shift` is taken off the time of everything else in the file, in seconds.
    Without a trim and a new rate all times stay exactly as they are.
    """

    def __init__(
        self,
        *,
        origin: Fraction,
        time_base: Fraction,
        rate: Fraction,
        window: Window | None = None,
        first: Fraction | None = None,
        fps: Fraction | None = None,
    ) -> None:
        """`origin`: time of the source's first frame, `first`: of the first one in `window`, both on its own clock.

        `time_base` and `rate` are the source's, `fps` the frames per second that are wanted.
        """
        self.window = window or Window()
        self._source_base = time_base
        self._frame = 1 / rate
        self.fps = fps
        self.time_base = time_base if fps is None else 1 / fps
        self.rate = fps or rate
        if self.window.start and first is None:
            raise ValueError("A part that starts later needs the time of its first frame.")
        begin = origin if first is None else first
        untouched = self.window.start == 0 and fps is None
        self.shift = Fraction(0) if untouched else begin
        self._begin = begin - self.shift
        end = self.window.end
        self.end: Fraction | None = None if end is None else origin + Fraction(end).limit_denominator(1_000_000)
        """When the result ends, on the source's own clock."""

    @classmethod
    def of(
        cls, reader: VideoReader, window: Window | None = None, fps: float | None = None, *, first: Stamp | None = None
    ) -> Timeline:
        """The timeline for an open video; `first` is the first frame in `window` (`first_frame`), if that has a start.

        Raises MediaError `part_empty` where the window holds no frame.
        """
        if first is not None and window is not None and not window.holds(first.seconds):
            raise MediaError("part_empty", f"the first frame from {window.start:.3f} s on is at {first.seconds:.3f} s")
        return cls(
            origin=reader.start_pts * reader.time_base,
            time_base=reader.time_base,
            rate=reader.rate,
            window=window,
            first=None if first is None else first.pts * reader.time_base,
            fps=None if fps is None else exact_rate(fps),
        )

    def shown(self, stamp: Stamp, following: Stamp | None) -> Shown | None:
        """When the frame at `stamp` is shown, given the next frame, or None for the last; None: not at all.

        With a new rate, a frame is shown at every tick that is nearer to it than to the frame after it.
        """
        if not self.window.holds(stamp.seconds):
            return None
        at = self._moved(stamp)
        if self.fps is None:
            return Shown(stamp, (round(at / self.time_base),), float(at - self._begin))
        first = self._tick(at)
        if following is None:
            last = max(first + 1, self._tick(at + self._frame))
        elif self.end is not None and not self.window.holds(following.seconds):
            last = max(first + 1, self._tick(self.end - self.shift))
        else:
            last = self._tick(self._moved(following))
        return Shown(stamp, tuple(range(first, last)), float(first / self.fps)) if last > first else None

    def items(self, items: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        """Map what `VideoReader.items` yields: ("picture", (Shown, frame)), other kinds as they are.

        One decoded frame is held back where the next one's time decides how long it is shown.
        """
        held: tuple[Stamp, Any] | None = None
        for kind, item in items:
            if kind != "picture":
                yield kind, item
                continue
            if self.fps is None:
                held, ready, following = None, item, None
            else:
                held, ready, following = item, held, item[0]
            if ready is not None and (shown := self.shown(ready[0], following)) is not None:
                yield "picture", (shown, ready[1])
        if held is not None and (shown := self.shown(held[0], None)) is not None:
            yield "picture", (shown, held[1])

    def past(self, stamp: Stamp) -> bool:
        """Whether this frame and all after it are beyond the end."""
        return self.window.end is not None and stamp.seconds >= self.window.end - SAME_TIME

    def at(self, pts: int) -> float:
        """Seconds from the result's start to one of its presentation times."""
        return float(pts * self.time_base - self._begin)

    def duration(self, last: Shown) -> float:
        """Seconds of a result whose last frame is `last`."""
        return self.at(last.pts[-1]) + float(1 / self.rate)

    def _moved(self, stamp: Stamp) -> Fraction:
        return stamp.pts * self._source_base - self.shift

    def _tick(self, at: Fraction) -> int:
        """The tick nearest to a time; the first belongs to the first frame, however near the second is."""
        return max(1, math.floor(at * (self.fps or 1) + Fraction(1, 2))) if at > 0 else 0


def first_frame(file: BinaryIO, container: str, seconds: float) -> Stamp:
    """Find the first frame at or after `seconds`, on a reader of its own. Raises MediaError, `part_empty` for none."""
    with VideoReader(file, container, threads=1) as reader:
        for earlier in _EARLIER:
            reader.seek(seconds - earlier)
            reached = False
            for stamp, _ in reader.pictures():
                if stamp.seconds >= seconds - SAME_TIME and (reached or stamp.seconds <= seconds + SAME_TIME):
                    return stamp
                if stamp.seconds >= seconds - SAME_TIME:
                    break  # the index led past the time, so an earlier frame may have been passed over
                reached = True
    with_all: Stamp | None = None
    file.seek(0)
    with VideoReader(file, container, threads=1) as reader:
        with_all = next((stamp for stamp, _ in reader.pictures() if stamp.seconds >= seconds - SAME_TIME), None)
    if with_all is None:
        raise MediaError("part_empty", f"nothing from {seconds:.3f} s on")
    return with_all
