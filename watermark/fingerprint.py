"""What a published picture looked like, in 1 kB: to tell a recovered picture from a mark copied onto another one.

An id that was read is only a claim: marks can be lifted from one picture and laid on another. The service believes it
when the picture at hand also looks like the one recorded. PDQ compares whole pictures; the grid of mean luma compares
any part of one, in the frame the reading's geometry gives.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark import pdq as _pdq
from watermark.embedding import canonical_size
from watermark.geometry import Geometry
from watermark.image import check_rgb
from watermark.mark_errors import MarkError

GRID = 32
"""Cells per side of the luma grid: enough to place a crop, too few to recognise a person by."""
LEAST_CORRELATION = 0.90
MOST_PDQ_DISTANCE = 70
"""Strangers differ in 128 of 256 bits, give or take 8; heavy edits of one picture stay below 60."""
LEAST_PDQ_QUALITY = 50
_LEAST_CELLS = 24
_LEAST_COVER = 0.6
_LEAST_OVERLAP = 0.5
_LARGEST_CANVAS = 4_000_000


@dataclass(frozen=True)
class Fingerprint:
    """`pdq` 32 bytes, its `quality` 0..100, `grid` 1024 bytes (uint8 [32, 32] mean luma), `size` (width, height)."""

    pdq: bytes
    quality: int
    grid: bytes
    size: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """Plain values for a record: PDQ in the reference's hexadecimal form, the grid in base64."""
        grid = base64.b64encode(self.grid).decode()
        return {"v": 1, "pdq": self.pdq.hex(), "quality": self.quality, "grid": grid, "size": list(self.size)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote. Raises MarkError "fingerprint" on anything else."""
        try:
            width, height = data["size"]
            made = cls(
                pdq=bytes.fromhex(data["pdq"]),
                quality=int(data["quality"]),
                grid=base64.b64decode(data["grid"], validate=True),
                size=(int(width), int(height)),
            )
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise _unreadable() from error
        if data.get("v") != 1 or len(made.pdq) != 32 or len(made.grid) != GRID * GRID or min(made.size) < 1:
            raise _unreadable()
        return made


@dataclass(frozen=True)
class ContentMatch:
    """Whether a picture is the recorded one or a part of it.

    `pdq_distance` 0..256, None for parts of a picture; `grid_correlation` -1..1 over the cells the picture covers.
    """

    matches: bool
    pdq_distance: int | None
    grid_correlation: float


def _unreadable() -> MarkError:
    return MarkError(
        "fingerprint",
        "This record is no fingerprint of this version. Nothing was compared. Restore the record from a backup.",
    )


def pdq(rgb: NDArray[np.uint8]) -> tuple[bytes, int]:
    """PDQ hash (32 bytes) and quality (0..100) of uint8 [H, W, 3] RGB; see `watermark.pdq`."""
    check_rgb(rgb)
    return _pdq.hash_rgb(rgb)


def luma_grid(rgb: NDArray[np.uint8]) -> bytes:
    """Mean luma of 32 x 32 equal cells of uint8 [H, W, 3] RGB, row by row; 1024 bytes."""
    check_rgb(rgb)
    return np.rint(_grid_of(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))).astype(np.uint8).tobytes()


def take(rgb: NDArray[np.uint8]) -> Fingerprint:
    """Take the fingerprint of a picture or frame, uint8 [H, W, 3] RGB. Raises MarkError "picture_format"."""
    value, quality = pdq(rgb)
    return Fingerprint(value, quality, luma_grid(rgb), (rgb.shape[1], rgb.shape[0]))


def compare(recorded: Fingerprint, rgb: NDArray[np.uint8], geometry: Geometry | None) -> ContentMatch:
    """Compare a picture, uint8 [H, W, 3] RGB, with a record.

    `geometry`: how the picture lies in the recorded one, from the reading of its mark; None when it is whole. Raises
    MarkError "picture_format".
    """
    check_rgb(rgb)
    grid = np.frombuffer(recorded.grid, np.uint8).reshape(GRID, GRID).astype(np.float64)
    whole: ContentMatch | None = None
    if geometry is None or geometry.whole:
        luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        sign = -1.0 if geometry is not None and geometry.inverted else 1.0
        correlation = sign * _correlation(grid, _grid_of(luma), np.ones((GRID, GRID), bool))
        shown = 255 - rgb if sign < 0 else rgb
        value, quality = _pdq.hash_rgb(shown)
        apart = _pdq.distance(recorded.pdq, value)
        telling = min(quality, recorded.quality) >= LEAST_PDQ_QUALITY
        matches = correlation >= LEAST_CORRELATION and (apart <= MOST_PDQ_DISTANCE or not telling)
        whole = ContentMatch(matches, apart, correlation)
        if matches or geometry is None:
            return whole
    # A strip cut off by just one period of the mark also reads as whole.
    correlation = _best_part(grid, recorded.size, rgb, geometry)
    if whole is not None and correlation < LEAST_CORRELATION:
        return whole
    return ContentMatch(correlation >= LEAST_CORRELATION, None, correlation)


def _grid_of(luma: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.asarray(cv2.resize(luma.astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA), np.float64)


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64], cells: NDArray[np.bool_]) -> float:
    a, b = first[cells], second[cells]
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    # Two featureless pictures are alike as far as this measure can tell; it must not say so.
    return float((a * b).sum()) / scale if scale > 1e-6 else 0.0


def _best_part(grid: NDArray[np.float64], size: tuple[int, int], rgb: NDArray[np.uint8], geometry: Geometry) -> float:
    """Best correlation over the places in the recorded frame that the mark's period leaves open."""
    height, width = rgb.shape[:2]
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ geometry.matrix.T
    low, high = np.floor(corners.min(0)), np.ceil(corners.max(0))
    canvas = (int(high[0] - low[0]), int(high[1] - low[1]))
    if min(canvas) < 1 or canvas[0] * canvas[1] > _LARGEST_CANVAS:
        return 0.0
    affine = np.column_stack([geometry.matrix, -low])
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    if geometry.inverted:
        luma = 255 - luma
    inside = cv2.warpAffine(np.ones_like(luma), affine, canvas, flags=cv2.INTER_NEAREST)
    luma = cv2.multiply(cv2.warpAffine(luma, affine, canvas, flags=cv2.INTER_AREA), inside)
    sums, covers = cv2.integral(luma, sdepth=cv2.CV_64F), cv2.integral(inside, sdepth=cv2.CV_64F)
    frame = canonical_size(*size)
    covered = float(inside.sum())
    cell = frame[0] / GRID * (frame[1] / GRID)
    edges = [np.arange(GRID + 1) * (side / GRID) for side in frame]

    def cells(table: Any, x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.float64]:
        at = table[np.ix_(y, x)]
        return np.asarray(at[1:, 1:] - at[1:, :-1] - at[:-1, 1:] + at[:-1, :-1])

    best = 0.0
    starts = []
    for axis, shift in ((0, geometry.tx), (1, geometry.ty)):
        # Where the canvas' corner may lie in the recorded frame, modulo the period.
        first = (low[axis] + shift) % geometry.period
        before = math.ceil((canvas[axis] + first) / geometry.period)
        after = math.ceil(frame[axis] / geometry.period)
        starts.append([first + geometry.period * step for step in range(-before, after + 1)])
    for left in starts[0]:
        x = np.clip(np.rint(edges[0] - left), 0, canvas[0]).astype(np.int64)
        for top in starts[1]:
            y = np.clip(np.rint(edges[1] - top), 0, canvas[1]).astype(np.int64)
            cover = cells(covers, x, y)
            if cover.sum() < _LEAST_OVERLAP * min(covered, frame[0] * frame[1]):
                continue
            known = cover >= _LEAST_COVER * cell
            if int(known.sum()) < _LEAST_CELLS:
                continue
            mean = cells(sums, x, y) / np.maximum(cover, 1e-9)
            best = max(best, _correlation(grid, mean, known))
    return best
