"""Frames as the codec holds them, Y'CbCr 4:2:0, and the way to RGB and back for a part of the picture.

The pipeline keeps a frame in planes from decoder to encoder and turns only the rectangles it works on into RGB: two
conversions of a whole 1080p frame cost more than the swap of a face, and what is not replaced stays bit for bit what
the decoder gave. All planes are BT.709, limited range (Rec. ITU-R BT.709-6, 3.3 to 3.5).
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

_TICK: Final = 0.25
"""Seconds between two looks at whether a wait for a buffer is to end; each wakes the thread."""

_KR, _KB = 0.2126, 0.0722
_KG: Final = 1 - _KR - _KB
TO_YUV: Final[NDArray[np.float64]] = np.array(
    [
        [219 / 255 * _KR, 219 / 255 * _KG, 219 / 255 * _KB, 16],
        [-224 / 255 * _KR / (2 - 2 * _KB), -224 / 255 * _KG / (2 - 2 * _KB), 224 / 255 / 2, 128],
        [224 / 255 / 2, -224 / 255 * _KG / (2 - 2 * _KR), -224 / 255 * _KB / (2 - 2 * _KR), 128],
    ]
)
_INVERSE: Final = np.linalg.inv(TO_YUV[:, :3])
TO_RGB: Final = np.column_stack([_INVERSE, -_INVERSE @ TO_YUV[:, 3]])


@dataclass(frozen=True)
class Box:
    """A rectangle with even corners, inside the frame: pixels [top, bottom) x [left, right)."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def around(cls, points: NDArray[np.floating], margin: float, size: tuple[int, int]) -> Box | None:
        """Return the box of `points` [N, 2] grown by `margin` times its longer side, or None outside the frame.

        `size` is (width, height) of the frame, both even.
        """
        low, high = points[:, :2].min(0), points[:, :2].max(0)
        grow = float((high - low).max()) * margin
        left, top = (max(0, int(value - grow) // 2 * 2) for value in low)
        right, bottom = (min(end, int(value + grow + 2) // 2 * 2) for value, end in zip(high, size, strict=True))
        return cls(left, top, right, bottom) if right - left >= 2 and bottom - top >= 2 else None


class Planes:
    """One 4:2:0 frame in one contiguous buffer, uint8 [H * 3 / 2, W], as FFmpeg lays `yuv420p` out.

    `y` is uint8 [H, W]; `u` and `v` are uint8 [H/2, W/2]; all three are views. `size` is (width, height), both even.
    `lent`: they show memory of somebody else (see `showing`).
    """

    def __init__(self, size: tuple[int, int]) -> None:
        width, height = size
        if width % 2 or height % 2:
            raise ValueError("4:2:0 planes need an even size.")
        self.size = size
        self.lent = False
        self.buffer: Bytes = np.empty((height * 3 // 2, width), np.uint8)
        flat = self.buffer.reshape(-1)
        area = width * height
        self.y: Bytes = flat[:area].reshape(height, width)
        self.u: Bytes = flat[area : area * 5 // 4].reshape(height // 2, width // 2)
        self.v: Bytes = flat[area * 5 // 4 :].reshape(height // 2, width // 2)

    @classmethod
    def showing(cls, y: Bytes, u: Bytes, v: Bytes) -> Planes:
        """The planes of somebody else's memory, to be read only; rows may be strided. It has no `buffer`."""
        planes = cls.__new__(cls)
        planes.lent = True
        planes.size = (y.shape[1], y.shape[0])
        planes.y, planes.u, planes.v = y, u, v
        for plane in (y, u, v):
            plane.flags.writeable = False
        return planes

    @property
    def whole(self) -> Box:
        """The box of the whole frame."""
        return Box(0, 0, *self.size)

    def to_rgb(self, box: Box | None = None) -> Bytes:
        """Return the rectangle `box`, or the whole frame, as uint8 [H, W, 3] RGB."""
        box = box or self.whole
        y, u, v = self._part(box)
        size = (y.shape[1], y.shape[0])
        full = cv2.merge(
            (
                y,
                cv2.resize(u, size, interpolation=cv2.INTER_LINEAR),
                cv2.resize(v, size, interpolation=cv2.INTER_LINEAR),
            )
        )
        return cv2.transform(full, TO_RGB)  # type: ignore[return-value]

    def paste(self, box: Box, rgb: Bytes, before: Bytes | None = None) -> None:
        """Write uint8 [H, W, 3] RGB into the rectangle `box`.

        With `before`, what `to_rgb(box)` gave, only pixels that differ from it are written, so that the rest of the
        rectangle keeps its exact values.
        """
        targets = self._part(box)
        luma, blue, red = cv2.split(cv2.transform(rgb, TO_YUV))
        half = (targets[1].shape[1], targets[1].shape[0])
        blue = cv2.resize(blue, half, interpolation=cv2.INTER_AREA)
        red = cv2.resize(red, half, interpolation=cv2.INTER_AREA)
        if before is None:
            for target, source in zip(targets, (luma, blue, red), strict=True):
                target[:] = source
            return
        parts = cv2.split(cv2.absdiff(rgb, before))
        changed = cv2.max(cv2.max(parts[0], parts[1]), parts[2])
        # INTER_AREA rounds a lone small change away; that chroma is then within rounding of the old one anyway.
        blocks = cv2.resize(changed, half, interpolation=cv2.INTER_AREA)
        for target, source, where in zip(targets, (luma, blue, red), (changed, blocks, blocks), strict=True):
            cv2.copyTo(source, where, target)

    def _part(self, box: Box) -> tuple[Bytes, Bytes, Bytes]:
        rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
        half_rows, half_columns = slice(box.top // 2, box.bottom // 2), slice(box.left // 2, box.right // 2)
        return self.y[rows, columns], self.u[half_rows, half_columns], self.v[half_rows, half_columns]


class PlanesPool:
    """A fixed number of frame buffers that are handed round: memory is bound by it, whatever the length."""

    def __init__(self, size: tuple[int, int], count: int) -> None:
        self._free: queue.SimpleQueue[Planes] = queue.SimpleQueue()
        for _ in range(count):
            self._free.put(Planes(size))

    def take(self, raise_if_stopped: Callable[[], None]) -> Planes:
        """Wait for a free buffer; `raise_if_stopped` is asked while waiting and may raise."""
        while True:
            try:
                return self._free.get(timeout=_TICK)
            except queue.Empty:
                raise_if_stopped()

    def give(self, planes: Planes) -> None:
        """Hand a buffer back; one that is lent goes back by being forgotten."""
        if not planes.lent:
            self._free.put(planes)
