"""Frames of an open video by their number, in stretches: found by time, reached from a key frame before.

Runs inside the media child.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from worker.media.video import Stamp, VideoReader
from worker.media.window import SAME_TIME
from worker.pipeline.errors import PipelineError

_EARLIER: Final = (0.0, 0.5, 2.0, 8.0)
"""Seconds by which a seek goes back further where it led past the frame: indices are often of decoding times."""
_WALK: Final = 48
"""Frames that are rather decoded on the way than jumped over."""


class FrameCursor:
    """Remembers where it stands and the last `keep` decoded frames: the next stretch usually begins just before."""

    def __init__(self, reader: VideoReader, times: NDArray[np.float64] | None, keep: int) -> None:
        """`times`: seconds of every frame, float64 [frames]; None: only the whole video from its start can be read."""
        self._reader = reader
        self._times = times
        self._recent: deque[tuple[Stamp, Any]] = deque(maxlen=max(1, keep))
        self._pictures: Iterator[tuple[Stamp, Any]] | None = reader.pictures()
        self._next = 0

    def stretch(self, first: int, last: int) -> Iterator[tuple[Stamp, Any]]:
        """Yield frames `first` to `last`; a stamp's index is the frame's number in the video.

        Raises PipelineError `analysis_invalid` where the video's frames are not those whose times are known,
        MediaError as `VideoReader.items`.
        """
        kept = [item for item in self._recent if item[0].index >= first]
        if not (kept and kept[0][0].index == first) and not 0 <= first - self._next <= _WALK:
            self._jump(first)
            kept = [item for item in self._recent if item[0].index >= first]
        yield from (item for item in kept if item[0].index <= last)
        while self._next <= last:
            item = self._step()
            if item is None:
                raise PipelineError("analysis_invalid", f"the video ends at frame {self._next}")
            if item[0].index >= first:
                yield item

    def at_end(self) -> bool:
        """Whether no further frame follows. Raises as `stretch`."""
        return self._step() is None

    def _step(self) -> tuple[Stamp, Any] | None:
        item = next(self._pictures, None) if self._pictures is not None else None
        if item is None:
            self._pictures = None
            return None
        stamp, frame = item
        if self._times is not None and (
            self._next >= len(self._times) or abs(self._times[self._next] - stamp.seconds) > SAME_TIME
        ):
            raise PipelineError("analysis_invalid", f"frame {self._next} at {stamp.seconds:.4f} s")
        item = (Stamp(self._next, stamp.pts, stamp.seconds), frame)
        self._next += 1
        self._recent.append(item)
        return item

    def _jump(self, first: int) -> None:
        """Stand before a frame at most `first`, on or after a key frame."""
        if self._times is not None:
            for earlier in _EARLIER:
                if self._times[first] - earlier <= 0:
                    break
                if self._land(first, float(self._times[first]) - earlier):
                    return
        self._recent.clear()
        self._reader.seek(0.0)
        self._pictures = self._reader.pictures()
        self._next = 0

    def _land(self, first: int, seconds: float) -> bool:
        """Seek, and take up the count at the key frame; False where that comes after `first`, or at no known time.

        Frames before the key frame are thrown away: they may lean on others that were not decoded (open GOPs).
        """
        times = self._times
        if times is None:
            return False
        self._reader.seek(seconds)
        self._recent.clear()
        self._pictures = self._reader.pictures()
        for stamp, frame in self._pictures:
            if not frame.key_frame:
                if stamp.seconds > times[first] + SAME_TIME:
                    return False
                continue
            place = int(np.argmin(np.abs(times - stamp.seconds)))
            if place > first or abs(times[place] - stamp.seconds) > SAME_TIME:
                return False
            self._next = place + 1
            self._recent.append((Stamp(place, stamp.pts, stamp.seconds), frame))
            return True
        return False
