"""Frames of a video at places somebody else chooses. Runs inside the media child only."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.media.planes import Planes
from worker.media.video import Stamp, VideoReader
from worker.media.window import SAME_TIME

_EARLIER: Final = (0.0, 0.5, 2.0)
_WALKED: Final = 2.0  # seconds that are decoded rather than sought over where a keyframe may lie between
"""Seconds a seek goes back once more where the index led past the time: its times are those of decoding."""


class Seeker:
    """Answers orders for frames of one open video; remembers where it stands, so that going on costs no seek."""

    def __init__(self, reader: VideoReader, short_side: int) -> None:
        """`short_side`: larger frames are shrunk to this many pixels on their shorter side."""
        self._reader = reader
        self._planes = Planes(reader.size)
        factor = min(1.0, short_side / min(reader.size))
        width, height = (max(2, round(side * factor / 2) * 2) for side in reader.size)
        self._small = Planes((width, height)) if factor < 1 else self._planes
        self.shrink = self._small.size[1] / reader.size[1]
        """Height of the frames given out, relative to those of the video."""
        self._keys: list[float] = []  # that were passed
        self._indexed: tuple[int, list[float]] = (0, [])  # entries of the file's index, and its keyframes
        self._pictures: Iterator[tuple[Stamp, Any]] | None = None
        self._ahead: tuple[Stamp, Any] | None = None
        self._sparing = False

    def answer(self, order: Mapping[str, Any]) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Yield (seconds, uint8 [H, W, 3] RGB) for {"gap"}, keyframes, or {"start", "count", "step"}, any frames."""
        if "gap" in order:
            self._pictures = None
            for stamp, frame in self._reader.keyframes(float(order["gap"])):
                if not self._keys or stamp.seconds > self._keys[-1]:
                    self._keys.append(stamp.seconds)
                yield stamp.seconds, self._picture(frame)
            return
        due, step = float(order["start"]), float(order["step"])
        left = int(order["count"])
        for stamp, frame in self._from(due, sparing=step > 0):
            if stamp.seconds < due - SAME_TIME:
                continue
            yield stamp.seconds, self._picture(frame)
            left -= 1
            due = stamp.seconds + step
            if left <= 0:
                break

    def _from(self, start: float, *, sparing: bool) -> Iterator[tuple[Stamp, Any]]:
        """Pictures from one at or before `start`, or from the first there is."""
        here = None if self._ahead is None or self._pictures is None else self._ahead[0].seconds
        if here is None or sparing != self._sparing or not self._reachable(here, start):
            self._sparing = sparing
            for earlier in _EARLIER:
                self._reader.seek(start - earlier, sparing=sparing)
                self._pictures = self._reader.pictures()
                self._ahead = next(self._pictures, None)
                if self._ahead is not None and self._ahead[0].seconds <= start + SAME_TIME:
                    break
        while self._ahead is not None and self._pictures is not None:
            yield self._ahead
            self._ahead = next(self._pictures, None)

    def _reachable(self, position: float, start: float) -> bool:
        """Whether decoding on from `position` is the way to `start`: no keyframe lies between, as far as is known."""
        if start < position - SAME_TIME:
            return False
        keys = max(self._keys, self._by_index(), key=len)
        if bisect.bisect(keys, start) != bisect.bisect(keys, position):
            return False
        return start - position < _WALKED or (bool(keys) and keys[-1] > start)

    def _by_index(self) -> list[float]:
        """Seconds of the keyframes by the file's own index, a frame or two early; Matroska's grows while it is read."""
        entries = self._reader.stream.index_entries
        if len(entries) != self._indexed[0]:
            begin, base = self._reader.start_pts, float(self._reader.time_base)
            keys = sorted((int(one.timestamp) - begin) * base for one in entries if one.is_keyframe)
            self._indexed = len(entries), keys
        return self._indexed[1]

    def _picture(self, frame: Any) -> NDArray[np.uint8]:
        self._reader.fill(frame, self._planes)
        if self._small is not self._planes:
            for name in ("y", "u", "v"):
                target = getattr(self._small, name)
                size = (target.shape[1], target.shape[0])
                cv2.resize(getattr(self._planes, name), size, dst=target, interpolation=cv2.INTER_AREA)
        return self._small.to_rgb()
