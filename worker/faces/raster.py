"""Triangles to pixels: which triangle covers a pixel, and the affine map of each triangle into a texture.

Compiled by numba, because a frame has some hundred thousand covered pixels and a thousand triangles. Pixel centres lie
at whole coordinates, as in OpenCV.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from worker.faces.types import Floats

Function = TypeVar("Function", bound=Callable[..., Any])

IndexMap = NDArray[np.int16]
NOTHING: Final = -1


def compiled(function: Function) -> Function:
    """Compile without the interpreter lock, keeping the result on disk where that is possible.

    A locked-down process may have no folder it can write to (numba then refuses already at definition), a limit on file
    size (the write fails at the first call), or a folder it may not even read (the look into it fails, at the first
    call with arrays of a new layout); all of these cost compile time, never the job.
    """
    options = {"nogil": True, "fastmath": True, "boundscheck": False}
    plain = numba.njit(**options)(function)  # compiled at its first call, if there is one
    try:
        kept = numba.njit(cache=True, **options)(function)
    except RuntimeError:
        return cast(Function, plain)

    def call(*arguments: Any) -> Any:
        try:
            return kept(*arguments)
        except OSError:
            # Raised by reading or saving what is kept, before anything ran.
            return plain(*arguments)

    return cast(Function, call)


@compiled
def _cover(points: Floats, triangles: NDArray[np.int32], order: NDArray[np.int64], out: IndexMap) -> None:
    height, width = out.shape
    for k in range(order.shape[0]):
        t = order[k]
        ax, ay = points[triangles[t, 0], 0], points[triangles[t, 0], 1]
        bx, by = points[triangles[t, 1], 0], points[triangles[t, 1], 1]
        cx, cy = points[triangles[t, 2], 0], points[triangles[t, 2], 1]
        if (bx - ax) * (cy - ay) - (by - ay) * (cx - ax) <= 1e-6:
            continue
        top = max(int(np.ceil(min(ay, by, cy))), 0)
        bottom = min(int(np.floor(max(ay, by, cy))), height - 1)
        for y in range(top, bottom + 1):
            # The span of the row between the triangle's edges; both ends belong to it, so neighbours leave no gap.
            left, right = 1e9, -1e9
            for edge in range(3):
                if edge == 0:
                    x0, y0, x1, y1 = ax, ay, bx, by
                elif edge == 1:
                    x0, y0, x1, y1 = bx, by, cx, cy
                else:
                    x0, y0, x1, y1 = cx, cy, ax, ay
                if (y0 <= y <= y1) or (y1 <= y <= y0):
                    if y0 == y1:
                        left = min(left, x0, x1)
                        right = max(right, x0, x1)
                    else:
                        x = x0 + (x1 - x0) * (y - y0) / (y1 - y0)
                        left = min(left, x)
                        right = max(right, x)
            if right < left:
                continue
            first = max(int(np.ceil(left - 1e-3)), 0)
            last = min(int(np.floor(right + 1e-3)), width - 1)
            for x_pixel in range(first, last + 1):
                out[y, x_pixel] = t


@compiled
def _maps(index: IndexMap, affine: Floats, map_x: Floats, map_y: Floats) -> None:
    height, width = index.shape
    for y in range(height):
        for x in range(width):
            t = index[y, x]
            if t >= 0:
                map_x[y, x] = affine[t, 0] * x + affine[t, 1] * y + affine[t, 2]
                map_y[y, x] = affine[t, 3] * x + affine[t, 4] * y + affine[t, 5]


def cover(points: Floats, triangles: NDArray[np.int32], width: int, height: int) -> IndexMap:
    """Which triangle is seen at each pixel: int16 [height, width], -1 where none.

    `points` float32 [P, 2] or [P, 3]; with z, the far triangles are painted first. Triangles that show their back are
    left out. Parts outside the picture are cut off.
    """
    out = np.full((height, width), NOTHING, np.int16)
    if points.shape[1] == 3:
        order = np.argsort(-points[triangles, 2].mean(axis=1), kind="stable")
    else:
        order = np.arange(len(triangles))
    _cover(np.ascontiguousarray(points[:, :2], np.float32), triangles, order.astype(np.int64), out)
    return out


def affines(points: Floats, texture: Floats, triangles: NDArray[np.int32]) -> Floats:
    """Per triangle the map from picture to texture, float32 [T, 6] (u = a x + b y + c, v = d x + e y + f).

    `points` and `texture` are [P, >=2]. A triangle without area gets zeros; no pixel belongs to it.
    """
    p = points[triangles, :2].astype(np.float64)
    q = texture[triangles, :2].astype(np.float64)
    ab, ac = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    inverse = np.divide(1.0, area, out=np.zeros_like(area), where=np.abs(area) > 1e-9)[:, None]
    along, aside = q[:, 1] - q[:, 0], q[:, 2] - q[:, 0]
    by_x = (along * ac[:, 1:2] - aside * ab[:, 1:2]) * inverse
    by_y = (aside * ab[:, 0:1] - along * ac[:, 0:1]) * inverse
    start = q[:, 0] - by_x * p[:, 0, 0:1] - by_y * p[:, 0, 1:2]
    made = np.stack([by_x[:, 0], by_y[:, 0], start[:, 0], by_x[:, 1], by_y[:, 1], start[:, 1]], axis=1)
    return made.astype(np.float32)


def maps(index: IndexMap, affine: Floats) -> tuple[Floats, Floats]:
    """The two maps float32 [H, W] for `cv2.remap`; -1 where no triangle is."""
    map_x = np.full(index.shape, -1, np.float32)
    map_y = np.full(index.shape, -1, np.float32)
    _maps(index, affine, map_x, map_y)
    return map_x, map_y


def signed_areas(points: Floats, triangles: NDArray[np.int32]) -> NDArray[np.float64]:
    """Twice the area of each triangle, positive where it faces the camera; float64 [T]."""
    p = points[triangles, :2].astype(np.float64)
    ab, ac = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]
    return np.asarray(ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0])
