"""Smooth maps from a picture to the lattice frame, and pictures seen through them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark.lattice import TILE
from watermark.lock import Lock
from watermark.normaliser import joined, normalise
from watermark.planes import Folded, Planes, fold_plane

_GRID_STEP = 16
_EDGE = 5
"""Width of the rim, lattice pixels, left out at the picture's edge: interpolation and high pass are wrong there."""
_LEAST_SIDE, _MOST_PIXELS = 24, 6_000_000


def monomials(points: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """All monomials of `points` (float64 [..., 2]) up to `order`; float64 [..., (order + 1)(order + 2) / 2]."""
    x, y = points[..., 0], points[..., 1]
    return np.stack([x**i * y ** (degree - i) for degree in range(order + 1) for i in range(degree, -1, -1)], -1)


@dataclass(frozen=True)
class Warp:
    """Plane pixel q -> lattice frame: u = x + d(x) with x = matrix q + offset.

    The displacement d is a polynomial in n = (x - centre) / radius with coefficients `bend` float64 [2, terms] in
    lattice pixels. `size` (width, height) is the canvas: lattice coordinates from (0, 0), a corner of a tile.
    """

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]
    size: tuple[int, int]
    centre: NDArray[np.float64]
    radius: float
    bend: NDArray[np.float64]

    @classmethod
    def from_lock(cls, folded: Folded, found: Lock, picture: tuple[int, int]) -> Self:
        """The affine warp of a lock for planes of size `picture`, turned upright, with tiles at multiples of 128."""
        sign = -1.0 if found.turned else 1.0
        matrix = sign * folded.matrix
        offset = sign * folded.offset - np.array(found.shift)
        low, high = _bounds(matrix, picture)
        offset = offset - TILE * np.floor((low + offset) / TILE)
        size = np.ceil(high + offset).astype(int)
        return cls(
            matrix=matrix,
            offset=offset,
            size=(int(size[0]), int(size[1])),
            centre=(low + high) / 2 + offset,
            radius=float(np.hypot(*(high - low))) / 2,
            bend=np.zeros((2, 1)),
        )

    def focused(self, centre: tuple[float, float]) -> Self:
        """The same warp (not yet bent) with displacements told about `centre` (plane pixels)."""
        return replace(self, centre=self.matrix @ np.array(centre) + self.offset)

    @property
    def order(self) -> int:
        """Order of the displacement."""
        return {1: 0, 3: 1, 6: 2, 10: 3}[self.bend.shape[1]]

    def followed(self, bend: NDArray[np.float64]) -> Self:
        """The warp followed by a further displacement of canvas points, told like its own."""
        further = replace(self, bend=bend)
        order = max(self.order, further.order)
        side = np.linspace(-1, 1, 9) * math.sqrt(0.5)
        grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
        points = self.centre + grid * self.radius
        first = self.displacement(points)
        total = first + further.displacement(points + first)
        solution = np.linalg.lstsq(monomials(grid, order), total, rcond=None)[0]
        return replace(self, bend=np.asarray(solution.T, np.float64))

    def displacement(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """d at canvas points x, float64 [..., 2]."""
        return monomials((points - self.centre) / self.radius, self.order) @ self.bend.T

    def sources(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Plane coordinates of every canvas pixel, two float32 [height, width]."""
        width, height = self.size
        across, down = (_GRID_STEP * np.arange(side // _GRID_STEP + 2, dtype=np.float64) for side in (width, height))
        goal = np.stack(np.meshgrid(across, down), -1)
        before = goal
        for _ in range(4):
            before = goal - self.displacement(before)
        coarse = ((before - self.offset) @ np.linalg.inv(self.matrix).T).astype(np.float32)
        # An exact bilinear enlargement: grid point i lies at pixel i * step.
        affine = np.array([[1 / _GRID_STEP, 0, 0], [0, 1 / _GRID_STEP, 0]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        maps = [cv2.warpAffine(coarse[..., i], affine, self.size, flags=flags) for i in range(2)]
        return np.asarray(maps[0], np.float32), np.asarray(maps[1], np.float32)

    def affine(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Matrix and offset of the affine map nearest to the warp over the picture."""
        grid = np.stack(np.meshgrid(np.linspace(-0.6, 0.6, 7), np.linspace(-0.6, 0.6, 7)), -1).reshape(-1, 2)
        points = self.centre + grid * self.radius
        goal = points + self.displacement(points)
        design = np.column_stack([points - self.offset, np.ones(len(points))])
        solution = np.linalg.lstsq(design, goal, rcond=None)[0]
        return solution[:2].T @ self.matrix, solution[2]


@dataclass(frozen=True)
class Canvas:
    """Normalised planes in the lattice frame, float32 [h, w]; zero outside the picture. `chroma` None for grey."""

    luma: NDArray[np.float32]
    chroma: NDArray[np.float32] | None
    warp: Warp

    def fold(self) -> Folded:
        """Folded spectra, with the affine map nearest to the warp."""
        matrix, offset = self.warp.affine()
        chroma = None if self.chroma is None else fold_plane(self.chroma)
        return Folded(fold_plane(self.luma), chroma, matrix, offset)


def unfold(planes: Planes, warp: Warp) -> Canvas | None:
    """See `planes` through `warp`. None where the canvas would be too small or too large to be a mark's."""
    width, height = warp.size
    if min(width, height) < _LEAST_SIDE or width * height > _MOST_PIXELS:
        return None
    scale = math.sqrt(abs(float(np.linalg.det(warp.matrix))))
    small = min(1.0, scale * 1.25) if scale < 0.7 else 1.0
    size = (max(8, round(planes.size[0] * small)), max(8, round(planes.size[1] * small)))
    x, y = warp.sources()
    inside = ((x > -0.5) & (x < planes.size[0] - 0.5) & (y > -0.5) & (y < planes.size[1] - 0.5)).astype(np.float32)
    kernel = np.ones((_EDGE, _EDGE), np.uint8)
    inside = np.asarray(cv2.erode(inside, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1.0), np.float32)

    def shrunk(plane: NDArray[np.uint8]) -> NDArray[np.float32]:
        if small < 1:
            plane = np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.uint8)
        return plane.astype(np.float32)

    places: dict[tuple[int, ...], tuple[NDArray[np.float32], NDArray[np.float32]]] = {}

    def bent(plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """The picture's plane, at whatever size it is there, seen through the warp."""
        if plane.shape not in places:  # luma and Cb are of one size
            across, down = (np.float32(a / b) for a, b in zip(plane.shape[::-1], planes.size, strict=True))
            # Pixel centres: plane centre x lies at (x + 1/2) s - 1/2 at another size.
            places[plane.shape] = (x + 0.5) * across - 0.5, (y + 0.5) * down - 0.5
        seen = cv2.remap(plane, *places[plane.shape], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(seen, np.float32)

    luma = normalise(bent(shrunk(planes.luma)), "luma", careful=planes.careful)
    luma = joined(luma, None if planes.rest is None else bent(planes.rest)) * inside
    if planes.chroma is None:
        return Canvas(luma, None, warp)
    chroma = normalise(bent(shrunk(planes.chroma)), "chroma", careful=planes.careful)
    return Canvas(luma, chroma * inside, warp)


def _bounds(matrix: NDArray[np.float64], picture: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    width, height = picture
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]]) @ matrix.T
    return corners.min(0), corners.max(0) + 1
