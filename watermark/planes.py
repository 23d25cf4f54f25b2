"""What the reader looks at: normalised luma and Cb of a picture, warped to the lattice frame and folded to a tile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark.compiled import compiled
from watermark.embedding import canonical_size
from watermark.lattice import ORIENTATIONS, SHORT_SIDE, TILE, SyncSet
from watermark.normaliser import joined, normalise, rest_of

LARGEST_SHORT_SIDE = 1600
"""Pictures are first shrunk to this shorter side: even a collage shows the mark no larger than a reader can use."""
LONGEST_CANONICAL = 2000
_MOST_WARPED_PIXELS = 6_000_000
_LEAST_WARPED_SIDE = 24
_PERIOD = 2 * TILE
_NEARLY_WHOLE = 0.6
"""Down to this scale linear interpolation folds nothing much onto the mark's band; it is far faster than averaging."""
_SCALE_STEP = math.log(1.08)
_MOST_MADE, _LARGE_PIXELS = 2, 2_000_000
"""Larger planes are neither kept nor looked at with care: a third of a second, spent on codecs' block grids mostly."""


@dataclass(frozen=True)
class Planes:
    """Luma and Cb (None for grey pictures), uint8 [H, W]; `shrink` = H / the read picture's height.

    `careful`: whether they are normalised as `limiter` does it, slowly and for marks that are hard to read; `denoised`:
    whether also, and more slowly yet, with what a denoiser takes for picture taken away.
    `canonical`: their shorter side at the canonical scale; less for a part that is searched on its own.
    """

    luma: NDArray[np.uint8]
    chroma: NDArray[np.uint8] | None
    shrink: float
    careful: bool = False
    denoised: bool = False
    canonical: int = SHORT_SIDE

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the planes."""
        return self.luma.shape[1], self.luma.shape[0]

    @cached_property
    def carefully(self) -> Planes:
        """The same, normalised with care."""
        return self if self.careful else replace(self, careful=True)

    @cached_property
    def most_carefully(self) -> Planes:
        """The same, normalised with care and with what a denoiser takes for picture taken away."""
        return replace(self, careful=True, denoised=True)

    @cached_property
    def rest(self) -> NDArray[np.float32] | None:
        """What `normaliser.rest_of` leaves of luma at the canonical scale; None unless looked at with the most care."""
        return rest_of(self._small_luma) if self.denoised else None

    @cached_property
    def _small_luma(self) -> NDArray[np.float32]:
        return resized(self.luma, canonical_size(*self.size, self.canonical))

    @cached_property
    def normal(self) -> Normal:
        """The planes as the reader sees them, at the canonical scale of an uncropped picture."""
        (width, height), size = self.size, canonical_size(*self.size, self.canonical)
        luma = joined(normalise(self._small_luma, "luma", careful=self.careful), self.rest)
        chroma = None
        if self.chroma is not None:
            chroma = normalise(resized(self.chroma, size), "chroma", careful=self.careful)
        return Normal(luma, chroma, np.array([size[0] / width, size[1] / height]))

    def normal_at(self, scale: NDArray[np.float64]) -> NDArray[np.float32]:
        """Normalised luma and Cb (0 for grey pictures), float32 [h, w, 2], at about `scale` (across, down).

        In steps of 8 %, so that maps that differ little share the work; the last ones made are kept.
        """
        width, height = self.size
        across, down = np.exp(np.rint(np.log(scale) / _SCALE_STEP) * _SCALE_STEP)
        size = (max(8, round(width * float(across))), max(8, round(height * float(down))))
        made = self._made.get(size)
        if made is None:
            careful = self.careful and size[0] * size[1] <= _LARGE_PIXELS
            made = np.zeros((size[1], size[0], 2), np.float32)
            luma = normalise(resized(self.luma, size), "luma", careful=careful)
            made[..., 0] = joined(luma, self.rest if careful else None)
            if self.chroma is not None:
                made[..., 1] = normalise(resized(self.chroma, size), "chroma", careful=careful)
            if len(self._made) == _MOST_MADE:
                self._made.pop(next(iter(self._made)))
            if size[0] * size[1] <= _LARGE_PIXELS:
                self._made[size] = made
        return made

    @cached_property
    def _made(self) -> dict[tuple[int, int], NDArray[np.float32]]:
        return {}

    def window(self, left: float, top: float, right: float, bottom: float) -> Planes:
        """The part between these fractions of width and height, at half the canonical scale.

        That is still larger than the part is in the whole's, so the mark lies well below its Nyquist frequency.
        """
        width, height = self.size
        part = np.s_[int(top * height) : int(bottom * height), int(left * width) : int(right * width)]
        chroma = None if self.chroma is None else np.ascontiguousarray(self.chroma[part])
        luma = np.ascontiguousarray(self.luma[part])
        return replace(self, luma=luma, chroma=chroma, canonical=self.canonical // 2)


@dataclass(frozen=True)
class Normal:
    """Normalised luma and Cb (None for grey pictures), float32 [h, w], at canonical scale.

    `scale` float64 [2]: canonical pixels per plane pixel, across and down.
    """

    luma: NDArray[np.float32]
    chroma: NDArray[np.float32] | None
    scale: NDArray[np.float64]


def split(rgb: NDArray[np.uint8]) -> Planes:
    """Split uint8 [H, W, 3] RGB into the planes the mark lives in, shrunk if very large.

    Of a strip more than LONGEST_CANONICAL long only the beginning is looked at: it carries the mark many times over.
    """
    longest = min(rgb.shape[:2]) * LONGEST_CANONICAL // SHORT_SIDE
    rgb = rgb[:longest, :longest]
    height, width = rgb.shape[:2]
    shrink = LARGEST_SHORT_SIDE / min(width, height)
    if shrink < 1:
        size = (round(width * shrink), round(height * shrink))
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    # cv2 calls the planes Y, Cr, Cb.
    planes = cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb)
    luma, chroma = cv2.extractChannel(planes, 0), cv2.extractChannel(planes, 2)
    _, deviation = cv2.meanStdDev(chroma)
    return Planes(luma, chroma if float(deviation[0, 0]) >= 0.3 else None, min(shrink, 1.0))


def resized(plane: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize a plane to `size` (width, height), averaging where it shrinks; float32."""
    # Halving is many times cheaper than averaging over parts of pixels.
    while plane.shape[1] >= 2 * size[0] and plane.shape[0] >= 2 * size[1]:
        half = (plane.shape[1] // 2, plane.shape[0] // 2)
        plane = np.asarray(cv2.resize(plane, half, interpolation=cv2.INTER_AREA), np.uint8)
    shrink = size[0] / plane.shape[1]
    if shrink < _NEARLY_WHOLE:
        return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.float32)
    method = cv2.INTER_LINEAR if shrink <= 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(plane, size, interpolation=method), np.float32)


def fold(plane: NDArray[np.float32], side: int = TILE) -> NDArray[np.float32]:
    """Sum float32 [H, W] modulo two tiles of `side`; float32 [2 side, 2 side].

    Folding two tiles and not one puts the mark on the even bins of the transform; the odd ones measure the noise
    between the lines.
    """
    height, width = plane.shape
    period = 2 * side
    folded = np.zeros((period, period), np.float32)
    for top in range(0, height, period):
        for left in range(0, width, period):
            block = plane[top : top + period, left : left + period]
            folded[: block.shape[0], : block.shape[1]] += block
    return folded


@compiled
def _part(spectrum: Any, orientation: Any, luma: Any, chroma: Any) -> None:
    """Spectra of two real planes from that of their complex sum, turned as the tile lies; all 256 by 256."""
    a, b, c, d = orientation
    for y in range(_PERIOD):
        for x in range(_PERIOD):
            row, column = (b * x + d * y) % _PERIOD, (a * x + c * y) % _PERIOD
            here = spectrum[row, column]
            mirror = np.conj(spectrum[-row % _PERIOD, -column % _PERIOD])
            luma[y, x] = (here + mirror) * np.float32(0.5)
            chroma[y, x] = (here - mirror) * np.complex64(-0.5j)


def _transform(
    both: NDArray[np.float32], orientation: tuple[int, int, int, int] = (1, 0, 0, 1)
) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Spectra complex64 [256, 256] of two planes folded to two tiles of any side, float32 [n, n, 2].

    Cut or padded, so that the bins mean the same for all sides, and turned upright.
    """
    spectrum = np.asarray(cv2.dft(both), np.float32).view(np.complex64)[..., 0]
    period = len(spectrum)
    if period != _PERIOD:
        half = min(period, _PERIOD) // 2
        common = np.zeros((_PERIOD, _PERIOD), np.complex64)
        for down in (slice(0, half), slice(-half, None)):
            for across in (slice(0, half), slice(-half, None)):
                common[down, across] = spectrum[down, across]
        spectrum = common
    luma, chroma = np.empty_like(spectrum), np.empty_like(spectrum)
    _part(np.ascontiguousarray(spectrum), orientation, luma, chroma)
    return luma, chroma


def fold_plane(plane: NDArray[np.float32]) -> NDArray[np.complex64]:
    """Spectrum of float32 [H, W] in the lattice frame, folded; complex64 [256, 256]."""
    both = np.zeros((_PERIOD, _PERIOD, 2), np.float32)
    both[..., 0] = fold(plane)
    return _transform(both)[0]


@dataclass(frozen=True)
class Folded:
    """Folded spectra of both planes, complex64 [256, 256], under one map.

    `matrix` float64 [2, 2] and `offset` float64 [2]: lattice = matrix @ plane pixel + offset, before the tile's shift.
    """

    luma: NDArray[np.complex64]
    chroma: NDArray[np.complex64] | None
    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]

    def __add__(self, other: Folded) -> Folded:
        """Sum of two frames folded under the same map."""
        chroma = self.chroma if other.chroma is None else other.chroma
        if self.chroma is not None and other.chroma is not None:
            chroma = self.chroma + other.chroma
        return Folded(self.luma + other.luma, chroma, self.matrix, self.offset)


def fold_frames(frames: Sequence[Planes], matrix: NDArray[np.float64]) -> Folded | None:
    """Sum of `fold_under` over frames of one size."""
    folded = [part for part in (fold_under(planes, matrix) for planes in frames) if part is not None]
    return sum(folded[1:], start=folded[0]) if folded else None


def fold_whole(planes: Planes, where: SyncSet) -> Folded:
    """Fold under the map of an uncropped, unturned picture with a tile as in `where`: no pixel is interpolated."""
    normal = planes.normal
    (a, b), (c, d) = ORIENTATIONS[where.orientation]
    both = np.zeros((2 * where.side, 2 * where.side, 2), np.float32)
    both[..., 0] = fold(normal.luma, where.side)
    if normal.chroma is not None:
        both[..., 1] = fold(normal.chroma, where.side)
    # Orientations are their own or each other's inverse, and their transpose is the inverse.
    luma, chroma = _transform(both, (a, b, c, d))
    matrix = where.to_lattice @ np.diag(normal.scale)
    # resize keeps pixel centres: (x + 1/2) s - 1/2.
    offset = where.to_lattice @ ((normal.scale - 1) / 2)
    return Folded(luma, None if normal.chroma is None else chroma, matrix, offset)


@compiled
def _fold_through(both: Any, inverse: Any, size: Any, folded: Any) -> None:
    """Add `both` (float32 [H, W, 2]), seen through the map `inverse` (lattice to plane pixel), to `folded`.

    `size` (width, height) of the lattice frame; `folded` float32 [256, 256, 2]. Bilinear; nothing beyond the edges.
    """
    height, width = both.shape[:2]
    # A hair inside the last pixel, so that its right and lower neighbours exist.
    ends = (np.float64(width - 1) - 1e-6, np.float64(height - 1) - 1e-6)
    for y in range(size[1]):
        first, last = np.float64(0), np.float64(size[0] - 1)
        for axis in range(2):
            slope, start = inverse[axis, 0], inverse[axis, 1] * y + inverse[axis, 2]
            if abs(slope) < 1e-9:
                if start < 0 or start > ends[axis]:
                    last = np.float64(-1)
            else:
                low, high = -start / slope, (ends[axis] - start) / slope
                first, last = max(first, min(low, high)), min(last, max(low, high))
        out = folded[y % _PERIOD]
        for x in range(int(np.ceil(first)), int(np.floor(last)) + 1):
            u = inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2]
            v = inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]
            column, row = int(u), int(v)
            right, down = np.float32(u - column), np.float32(v - row)
            left, up = 1 - right, 1 - down
            a, b, c, d = left * up, right * up, left * down, right * down
            for plane in range(2):
                out[x % _PERIOD, plane] += (
                    a * both[row, column, plane]
                    + b * both[row, column + 1, plane]
                    + c * both[row + 1, column, plane]
                    + d * both[row + 1, column + 1, plane]
                )


def fold_under(planes: Planes, matrix: NDArray[np.float64]) -> Folded | None:
    """Fold under the linear map `matrix` (plane pixel to lattice frame, float64 [2, 2]).

    None when the warped picture would be too large or too small to be a mark's.
    """
    width, height = planes.size
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ matrix.T
    low, high = corners.min(0), corners.max(0)
    out_width, out_height = (math.ceil(v) for v in high - low)
    if min(out_width, out_height) < _LEAST_WARPED_SIDE or out_width * out_height > _MOST_WARPED_PIXELS:
        return None
    both = planes.normal_at(np.hypot(matrix[0], matrix[1]))
    shrunk = np.array([both.shape[1] / width, both.shape[0] / height])
    # Pixel centres again: plane centre x lies at (x + 1/2) s - 1/2 after the resizing.
    step = matrix / shrunk
    offset = -low
    back = np.linalg.inv(step)
    inverse = np.column_stack([back, -back @ (offset + step @ ((1 - shrunk) / 2))])
    folded = np.zeros((_PERIOD, _PERIOD, 2), np.float32)
    _fold_through(both, inverse, (out_width, out_height), folded)
    luma, chroma = _transform(folded)
    return Folded(luma, None if planes.chroma is None else chroma, matrix, offset)
