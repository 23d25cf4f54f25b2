"""The visible notice on Y'CbCr planes: the same picture as on RGB, at the cost of its own few thousand pixels."""

from __future__ import annotations

import numpy as np

from watermark.labels import LabelRenderer
from worker.media.planes import Box, Planes


class PlanarLabel:
    """Draws what a `LabelRenderer` draws, in place, into `Planes` of the same size.

    The renderer blends linearly, `out = keep * frame + ink`; drawing once on black and once on white gives both
    factors, and a linear blend of R'G'B' is the same blend of Y'CbCr about its zero point.
    """

    def __init__(self, renderer: LabelRenderer) -> None:
        width, height = renderer.size
        left, top, right, bottom = renderer.box
        box = Box(left // 2 * 2, top // 2 * 2, min(width, -(-right // 2) * 2), min(height, -(-bottom // 2) * 2))
        black = renderer.apply(np.zeros((height, width, 3), np.uint8))
        white = renderer.apply(np.full((height, width, 3), 255, np.uint8))
        rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
        ink = Planes((box.right - box.left, box.bottom - box.top))
        ink.paste(ink.whole, np.ascontiguousarray(black[rows, columns]))
        keep = (white[rows, columns].astype(np.float32) - black[rows, columns]).mean(2) / 255
        half = keep.reshape(keep.shape[0] // 2, 2, keep.shape[1] // 2, 2).mean((1, 3))
        self._rows, self._columns = rows, columns
        self._half_rows = slice(box.top // 2, box.bottom // 2)
        self._half_columns = slice(box.left // 2, box.right // 2)
        # The zero of luma is 16, that of the colour differences 128.
        self._luma = _Blend(keep, ink.y, 16)
        self._blue = _Blend(half, ink.u, 128)
        self._red = _Blend(half, ink.v, 128)

    def apply(self, planes: Planes) -> None:
        """Draw into `planes`, in place."""
        self._luma.apply(planes.y[self._rows, self._columns])
        self._blue.apply(planes.u[self._half_rows, self._half_columns])
        self._red.apply(planes.v[self._half_rows, self._half_columns])


class _Blend:
    """`keep * part + ink` in fixed point, 8 bits after the point: kept and drawn are shares of one, so it is a byte."""

    def __init__(self, keep: np.ndarray, ink: np.ndarray, zero: int) -> None:
        kept = np.rint(keep * 256).astype(np.int32)
        drawn = ink.astype(np.int32) * 256 - zero * kept + 128
        self._keep = kept.astype(np.uint16)
        self._ink = np.clip(drawn, 0, 65535 - 255 * kept).astype(np.uint16)
        self._sum = np.empty_like(self._ink)

    def apply(self, part: np.ndarray) -> None:
        np.multiply(part, self._keep, out=self._sum)
        np.add(self._sum, self._ink, out=self._sum)
        np.right_shift(self._sum, 8, out=self._sum)
        part[:] = self._sum
