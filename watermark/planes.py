"""What the reader looks at: normalised luma and Cb of a picture, warped to the canonical scale and folded to a tile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark.embedding import canonical_size
from watermark.lattice import SHORT_SIDE, TILE
from watermark.mask import high_pass

LARGEST_SHORT_SIDE = 1600
"""Pictures are first shrunk to this shorter side: even a collage shows the mark no larger than a reader can use."""
LONGEST_CANONICAL = 2000
LUMA_SOFT, CHROMA_SOFT = 1.5, 0.8
"""Grey levels added to the local deviation in the normaliser, so that flat noise is not blown up."""
_CLIP = 2.5
_MOST_WARPED_PIXELS = 6_000_000
_LEAST_WARPED_SIDE = 24


@dataclass(frozen=True)
class Planes:
    """Luma and Cb (None for grey pictures), uint8 [H, W]; `shrink` = H / the read picture's height."""

    luma: NDArray[np.uint8]
    chroma: NDArray[np.uint8] | None
    shrink: float

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the planes."""
        return self.luma.shape[1], self.luma.shape[0]

    @property
    def to_canonical(self) -> float:
        """Canonical pixels per plane pixel, were this an uncropped picture."""
        width, height = self.size
        return min(SHORT_SIDE / min(width, height), LONGEST_CANONICAL / max(width, height))

    def window(self, left: float, top: float, right: float, bottom: float) -> Planes:
        """The part between these fractions of width and height."""
        width, height = self.size
        part = np.s_[int(top * height) : int(bottom * height), int(left * width) : int(right * width)]
        chroma = None if self.chroma is None else np.ascontiguousarray(self.chroma[part])
        return Planes(np.ascontiguousarray(self.luma[part]), chroma, self.shrink)


def split(rgb: NDArray[np.uint8]) -> Planes:
    """Split uint8 [H, W, 3] RGB into the planes the mark lives in, shrunk if very large."""
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


def normalise(plane: NDArray[np.float32], soft: float) -> NDArray[np.float32]:
    """High-pass float32 [H, W] and divide by its local deviation, so that busy regions do not drown the others."""
    detail = high_pass(plane)
    power = cv2.boxFilter(cv2.multiply(detail, detail), -1, (13, 13))
    deviation = cv2.add(cv2.sqrt(cv2.max(power, 0.0)), soft)
    return np.clip(cv2.divide(detail, deviation), -_CLIP, _CLIP)


def at_canonical_scale(plane: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize a plane to `size` (width, height) as the embedder does; float32."""
    area = size[0] < plane.shape[1]
    resized = cv2.resize(plane, size, interpolation=cv2.INTER_AREA if area else cv2.INTER_CUBIC)
    return np.asarray(resized, np.float32)


def fold(plane: NDArray[np.float32]) -> NDArray[np.complex64]:
    """Sum float32 [H, W] modulo two tiles and transform; complex64 [256, 256].

    Folding two tiles and not one puts the mark on the even bins; the odd ones measure the noise between the lines.
    """
    side = 2 * TILE
    height, width = plane.shape
    padded = np.pad(plane, ((0, -height % side), (0, -width % side)))
    folded = padded.reshape(padded.shape[0] // side, side, padded.shape[1] // side, side).sum((0, 2))
    return np.asarray(np.fft.fft2(folded), np.complex64)


@dataclass(frozen=True)
class Folded:
    """Folded spectra of both planes, complex64 [256, 256], under one map.

    `matrix` float64 [2, 2] and `offset` float64 [2]: warped = matrix @ plane pixel + offset, before the tile's shift.
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


def fold_whole(planes: Planes) -> Folded | None:
    """Fold under the map of an uncropped picture. None for strips too long to be looked at."""
    width, height = planes.size
    size = canonical_size(width, height)
    if size[0] * size[1] > _MOST_WARPED_PIXELS:
        return None
    luma = fold(normalise(at_canonical_scale(planes.luma, size), LUMA_SOFT))
    chroma = None
    if planes.chroma is not None:
        chroma = fold(normalise(at_canonical_scale(planes.chroma, size), CHROMA_SOFT))
    matrix = np.diag([size[0] / width, size[1] / height])
    # resize keeps pixel centres: (x + 1/2) s - 1/2.
    return Folded(luma, chroma, matrix, (np.diag(matrix) - 1) / 2)


def fold_under(planes: Planes, matrix: NDArray[np.float64]) -> Folded | None:
    """Fold under the linear map `matrix` (plane pixel to canonical pixel, float64 [2, 2]).

    None when the warped picture would be too large or too small to be a mark's.
    """
    width, height = planes.size
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ matrix.T
    low, high = corners.min(0), corners.max(0)
    out_width, out_height = (math.ceil(v) for v in high - low)
    if min(out_width, out_height) < _LEAST_WARPED_SIDE or out_width * out_height > _MOST_WARPED_PIXELS:
        return None
    scale = math.sqrt(abs(np.linalg.det(matrix)))
    small = scale * 1.25 if scale < 0.7 else 1.0
    size = (max(8, round(width * small)), max(8, round(height * small)))
    shrunk = np.array([size[0] / width, size[1] / height])
    # Pixel centres again: plane centre x lies at (x + 1/2) s - 1/2 after the shrinking.
    step = matrix / shrunk
    offset = -low
    affine = np.column_stack([step, offset + step @ ((1 - shrunk) / 2)])
    inside: NDArray[np.float32] | None = None
    if max(abs(matrix[0, 1]), abs(matrix[1, 0])) > 1e-3 * scale:
        ones = np.ones((size[1], size[0]), np.float32)
        inside = cv2.warpAffine(ones, affine, (out_width, out_height), flags=cv2.INTER_NEAREST)
        inside = np.asarray(cv2.erode(inside, np.ones((5, 5), np.uint8)), np.float32)

    def spectrum(plane: NDArray[np.uint8], soft: float) -> NDArray[np.complex64]:
        if small < 1:
            plane = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
        warped = cv2.warpAffine(
            plane.astype(np.float32),
            affine,
            (out_width, out_height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        normal = normalise(warped, soft)
        return fold(normal if inside is None else normal * inside)

    chroma = None if planes.chroma is None else spectrum(planes.chroma, CHROMA_SOFT)
    return Folded(spectrum(planes.luma, LUMA_SOFT), chroma, matrix, offset)
