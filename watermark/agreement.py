"""Where a picture shows what a recorded one showed: two grids of mean luma compared window by window.

The recorded grid covers the whole marked picture in square cells. The picture at hand is laid over it by the geometry
of its mark, which leaves the place open by whole periods of the tile. Both grids are reduced to local detail in units
of its local strength, so that brightness, contrast and tone curves drop out, and correlated in overlapping windows.
Each window then speaks for or against by the logarithm of a likelihood ratio, bounded below: part of a genuine copy may
be covered, cut out or replaced, but no other picture agrees in fine detail in window after window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark.embedding import canonical_size
from watermark.geometry import Geometry

CELL = 8
"""Side of a cell, canonical pixels, and larger where there would be more than MOST_CELLS."""
MOST_CELLS = 8192
WINDOW, STEP = 8, 4
"""Side and distance of the windows, cells."""
_FINE = 4
"""Samples per cell and axis at which the picture at hand is placed: a quarter of a cell is two canonical pixels."""
_DETAIL = 1.5
"""Gaussian sigma, cells, of the high pass. One edge shared by two portraits must not carry a window."""
_STIFF = 0.05
"""Cells squared added to the spread of places when a plane is fitted, so that a single row of cells has one too."""
_FLAT, _FLAT_SOFT = 1.3, 0.65
"""Detail, grey levels, below which a recorded window has nothing to compare, in cells and in cells twice as large: the
mark on a noisy wall must stay below, which at its strongest leaves up to a grey level in the first."""
_SOFT = 0.3
"""Weight of agreement in soft light and shade: neighbouring windows are far from independent there, and two sunsets
may well look alike."""
_LOUD = 8.0
_LEAST_WINDOW = 0.6
_LEAST_KNOWN = 0.9
_LEAST_OVERLAP = 0.5
_LEAST_CELLS = 16
_MOST_SAMPLES = 3_000_000
_PLACES = 3
_PLENTY = 30.0
"""Places in the recorded frame looked at closely, best first, and the evidence that leaves no need for another."""
_CORRELATIONS = (0.3, 0.55, 0.75, 0.9, 1.0)
_LOG_RATIOS = (-1.2, -0.3, 1.5, 4.0, 5.0)
"""Natural log of the likelihood ratio "same picture, three windows in ten covered" to "other portrait laid on top as
well as an affine map can", by correlation of a window; measured on windows of both kinds."""
_COVERED = -0.4
"""The same where something stands on what was flat: an overlay, noise, or another picture."""
_AGREES = 0.65
_LEAST_LIGHTS, _LEAST_CONTRAST, _LEAST_LIGHT = 12, 5.0, 0.6
"""Windows and grey levels (deviation of their means) needed to compare light, and the least correlation."""
_FOREIGN = -6.0
_INDEPENDENT = (STEP / WINDOW) ** 2
"""Windows overlap; this share of them is counted as independent."""
PLAIN, AGREES, DIFFERS, ABSENT = 0, 1, 2, 3


@dataclass(frozen=True)
class Agreement:
    """How far a picture agrees with a recorded one.

    `evidence`: natural log of the likelihood ratio of "the same" to "another". `correlation` -1..1 of detail over all
    that both show. `share` 0..1 of the telling windows that agree. `windows`: uint8 [rows, columns] over the recorded
    picture, each PLAIN (nothing to compare), AGREES, DIFFERS or ABSENT (not in the picture at hand).
    """

    evidence: float
    correlation: float
    share: float
    windows: NDArray[np.uint8]


def cells_of(width: int, height: int) -> tuple[int, int]:
    """Columns and rows of the grid of a picture of this size in pixels."""
    frame = canonical_size(width, height)
    cell = max(CELL, math.sqrt(frame[0] * frame[1] / MOST_CELLS))
    return max(1, round(frame[0] / cell)), max(1, round(frame[1] / cell))


def grid_of(luma: NDArray[np.uint8], cells: tuple[int, int]) -> NDArray[np.uint8]:
    """Mean luma, uint8 [rows, columns], of `cells` (columns, rows) laid over uint8 [H, W]."""
    height, width = luma.shape
    shrinks = width >= cells[0] and height >= cells[1]
    return np.asarray(cv2.resize(luma, cells, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8)


def nothing(shape: tuple[int, ...]) -> Agreement:
    """The agreement of pictures that show nothing in common; `shape` of the recorded grid."""
    return Agreement(0.0, 0.0, 0.0, np.full(_windows(np.zeros(shape, np.float32)).shape, ABSENT, np.uint8))


@dataclass(frozen=True)
class Canvas:
    """A picture placed at a quarter of a cell.

    `luma` mean of the cell that starts at each sample, `known` 0 or 1, `detail` relative to its local deviation, all
    float32 [rows, columns]. `places`: where the canvas may start in the grid, (x, y) in samples.
    """

    luma: NDArray[np.float32]
    known: NDArray[np.float32]
    detail: NDArray[np.float32]
    places: Sequence[tuple[int, int]]


def place(luma: NDArray[np.uint8], size: tuple[int, int], geometry: Geometry | None) -> Canvas | None:
    """Lay luma, uint8 [H, W], over the grid of a recorded picture of `size` (width, height).

    Without `geometry` the picture is taken to be whole. None when it would be too large or too small to compare.
    """
    frame = np.array(canonical_size(*size), np.float64)
    columns, rows = cells_of(*size)
    pitch = frame / (columns, rows) / _FINE
    height, width = luma.shape
    matrix = np.diag(frame / (width, height)) if geometry is None else geometry.matrix
    edges = np.array([[x, y] for x in (-0.5, width - 0.5) for y in (-0.5, height - 0.5)]) @ matrix.T
    low, high = edges.min(0), edges.max(0)
    extent = np.ceil((high - low) / pitch - 1e-6).astype(int)
    if extent.min() < 2 * _FINE or extent.prod() > _MOST_SAMPLES:
        return None
    step = matrix / pitch[:, None]
    shrink = np.minimum(1.0, np.linalg.norm(step, axis=0))
    small = np.maximum(2, np.rint(shrink * (width, height))).astype(int)
    shrink = small / (width, height)
    picture = luma
    if (shrink < 1).any():
        picture = np.asarray(cv2.resize(luma, (int(small[0]), int(small[1])), interpolation=cv2.INTER_AREA), np.uint8)
    # Pixel centres: (x + 1/2) s - 1/2 after the shrinking, and the canvas starts at the edge of its first sample.
    offset = -low / pitch - 0.5 + step @ (0.5 / shrink - 0.5)
    affine = np.column_stack([step / shrink, offset])
    shape = (int(extent[0]), int(extent[1]))
    values = picture.astype(np.float32)
    if geometry is not None and geometry.inverted:
        values = 255 - values
    warped = cv2.warpAffine(values, affine, shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones_like(values), affine, shape, flags=cv2.INTER_NEAREST)
    cover = _cell_mean(inside)
    known = (cover >= _LEAST_KNOWN).astype(np.float32)
    mean = np.asarray(_cell_mean(warped * inside) / np.maximum(cover, 1e-3) * known, np.float32)
    places = _places(low, extent, pitch, (columns, rows), geometry)
    sigma = _DETAIL * _FINE
    detail = np.asarray((mean - _blur(mean, sigma) / np.maximum(_blur(known, sigma), 1e-3)) * known, np.float32)
    return Canvas(mean, known, _relative(detail, known, _FLAT, sigma), places)


def _cell_mean(values: Any) -> NDArray[np.float32]:
    mean = cv2.boxFilter(values, -1, (_FINE, _FINE), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    return np.asarray(mean, np.float32)


def _places(
    low: Any, extent: Any, pitch: Any, cells: tuple[int, int], geometry: Geometry | None
) -> list[tuple[int, int]]:
    if geometry is None:
        return [(0, 0)]
    starts = []
    for axis, shift in ((0, geometry.tx), (1, geometry.ty)):
        first = (low[axis] + shift + 0.5) % geometry.period
        before = math.ceil((extent[axis] * pitch[axis] + first) / geometry.period)
        after = math.ceil(cells[axis] * _FINE * pitch[axis] / geometry.period)
        starts.append([round((first + geometry.period * k) / pitch[axis]) for k in range(-before, after + 1)])
    return [(x, y) for x in starts[0] for y in starts[1]]


def agreement(grid: NDArray[np.uint8], canvas: Canvas) -> Agreement:
    """Compare a recorded grid, uint8 [rows, columns], with a placed picture: the best of the places left open."""
    recorded = grid.astype(np.float32)
    found = []
    for place_of in _likely(recorded, canvas)[:_PLACES]:
        luma, known = (_cut(plane, place_of, recorded.shape) for plane in (canvas.luma, canvas.known))
        found.append(_compare(recorded, luma, known))
        if found[-1].evidence > _PLENTY:
            break
    return max(found, key=lambda one: one.evidence, default=nothing(recorded.shape))


def _cut(plane: NDArray[np.float32], start: tuple[int, int], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The cells of the recorded frame, float32 of `shape`, from a plane of a canvas that starts at a sample of it."""
    cells = np.zeros(shape, np.float32)
    left, right = _span(start[0], plane.shape[1], shape[1])
    top, bottom = _span(start[1], plane.shape[0], shape[0])
    if bottom > top and right > left:
        rows = slice(_FINE * top - start[1], _FINE * bottom - start[1], _FINE)
        cells[top:bottom, left:right] = plane[rows, _FINE * left - start[0] : _FINE * right - start[0] : _FINE]
    return cells


def _span(start: int, samples: int, cells: int) -> tuple[int, int]:
    """The cells of the frame that lie wholly in a canvas starting at a sample."""
    return max(0, -(-start // _FINE)), min(cells, (start + samples) // _FINE)


def _likely(recorded: NDArray[np.float32], canvas: Canvas) -> list[tuple[int, int]]:
    """The places where enough overlaps, the best correlation of detail first."""
    if len(canvas.places) == 1:
        return list(canvas.places)
    everywhere = np.ones_like(recorded)
    reference = _relative(_detail(recorded, everywhere, _DETAIL), everywhere, _FLAT, _DETAIL)
    least = max(_LEAST_CELLS, _LEAST_OVERLAP * min(float(canvas.known.sum()) / _FINE**2, recorded.size))
    scored = []
    for start in canvas.places:
        known = _cut(canvas.known, start, recorded.shape)
        overlap = float(known.sum())
        if overlap >= least:
            detail = _cut(canvas.detail, start, recorded.shape)
            scored.append((_correlation(reference * known, detail) * math.sqrt(overlap), start))
    return [start for _, start in sorted(scored, reverse=True)]


def _correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    scale = math.sqrt(float((first * first).sum()) * float((second * second).sum()))
    return float((first * second).sum()) / scale if scale > 1e-3 else 0.0


def _blur(values: Any, sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT), np.float32)


def _detail(luma: NDArray[np.float32], known: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """High pass of the known part: less the value of the plane that fits best around each cell, by Gaussian weight.

    A mean would do inside; where the known part ends it would leave every slope standing, and slopes are alike.
    """
    y, x = (np.arange(side, dtype=np.float32) - side / 2 for side in luma.shape)
    x, y = known * x, known * y[:, None]
    weight = np.maximum(_blur(known, sigma), 1e-3)
    mx, my, mean = (_blur(one, sigma) / weight for one in (x, y, luma * known))
    xx, xy, yy = (_blur(one, sigma) / weight for one in (x * x, x * y, y * y))
    xx, xy, yy = xx - mx * mx + _STIFF, xy - mx * my, yy - my * my + _STIFF
    xl, yl = (_blur(one * luma, sigma) / weight - m * mean for one, m in ((x, mx), (y, my)))
    determinant = xx * yy - xy * xy
    slope_x, slope_y = (yy * xl - xy * yl) / determinant, (xx * yl - xy * xl) / determinant
    plane = mean + slope_x * (x - mx) + slope_y * (y - my)
    return np.asarray((luma - plane) * known, np.float32)


def _relative(
    detail: NDArray[np.float32], known: NDArray[np.float32], flat: float, sigma: float
) -> NDArray[np.float32]:
    """Detail in units of its local deviation, less where that is below `flat`."""
    weight = np.maximum(_blur(known, sigma), 1e-3)
    return np.asarray(detail / np.sqrt(_blur(detail * detail, sigma) / weight + flat * flat), np.float32)


def _windows(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums over the windows, float32 [rows, columns]."""
    sums = cv2.boxFilter(values, -1, (WINDOW, WINDOW), normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(sums[WINDOW // 2 :: STEP, WINDOW // 2 :: STEP], np.float32)


def _covariance(
    first: NDArray[np.float32], second: NDArray[np.float32], count: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Sum over each window of the product of what is left without the windows' means."""
    product = _windows(first * second) - _windows(first) * _windows(second) / count
    return np.maximum(product, 0) if first is second else product


@dataclass(frozen=True)
class _Level:
    """What the windows say at one size of cell: `ratio` log likelihood ratio, `correlation`, and which are `seen`,
    `telling` (something recorded there) and `covered` (something stands on what was flat)."""

    ratio: NDArray[np.float64]
    correlation: NDArray[np.float32]
    seen: NDArray[np.bool_]
    telling: NDArray[np.bool_]
    covered: NDArray[np.bool_]
    whole: float


def _level(recorded: NDArray[np.float32], luma: NDArray[np.float32], known: NDArray[np.float32], flat: float) -> _Level:
    detail, shown = (_detail(one, known, _DETAIL) for one in (recorded, luma))
    cells = _windows(known)
    seen = cells >= _LEAST_WINDOW * WINDOW**2
    count = np.maximum(cells, 1)
    strength, other = (np.sqrt(_covariance(one, one, count) / count) for one in (detail, shown))
    telling = seen & (strength > flat)
    # What a darkened copy has left of the detail is compared at its own scale.
    left = float(np.median(other[telling] / strength[telling])) if telling.any() else 1.0
    first = _relative(detail, known, flat, _DETAIL)
    second = _relative(shown, known, flat * min(1.0, max(left, 0.1)), _DETAIL)
    scale = np.sqrt(np.maximum(_covariance(first, first, count) * _covariance(second, second, count), 1e-9))
    correlation = _covariance(first, second, count) / scale
    ratio = np.interp(correlation, _CORRELATIONS, _LOG_RATIOS)
    # Weak detail is the first that a heavy codec takes away.
    ratio = np.where(ratio < 0, ratio * np.minimum(1.0, strength / (4 * flat)), ratio)
    covered = seen & ~telling & (other > _LOUD)
    ratio = np.where(telling, ratio, np.where(covered, _COVERED, 0.0))
    return _Level(ratio, correlation, seen, telling, covered, _correlation(first, second))


def _compare(recorded: NDArray[np.float32], luma: NDArray[np.float32], known: NDArray[np.float32]) -> Agreement:
    fine = _level(recorded, luma, known, _FLAT)
    agrees = fine.telling & (fine.correlation >= _AGREES)
    states = np.where(agrees, AGREES, np.where(fine.telling | fine.covered, DIFFERS, PLAIN))
    told = int(fine.telling.sum())
    evidence = (float(fine.ratio.sum()) + _soft_evidence(recorded, luma, known, fine.telling)) * _INDEPENDENT
    if not _same_light(recorded, luma, known, agrees):
        evidence = min(evidence, _FOREIGN)
    return Agreement(
        evidence=evidence,
        correlation=fine.whole,
        share=int(agrees.sum()) / told if told else 0.0,
        windows=np.where(fine.seen, states, ABSENT).astype(np.uint8),
    )


def _same_light(
    recorded: NDArray[np.float32], luma: NDArray[np.float32], known: NDArray[np.float32], agrees: NDArray[np.bool_]
) -> bool:
    """Whether the windows that agree in detail are also as light and dark, one against the other, as recorded.

    Who lifts a mark with a high pass carries the edges over to the other picture too, but not the light they lay in.
    Tone curves and even a negative keep the order of light; which windows agree already leaves out what was replaced.
    """
    if int(agrees.sum()) < _LEAST_LIGHTS:
        return True
    count = np.maximum(_windows(known), 1)[agrees]
    first, second = (_windows(one * known)[agrees] / count for one in (recorded, luma))
    first, second = first - first.mean(), second - second.mean()
    if float(first.std()) < _LEAST_CONTRAST:
        return True
    return abs(_correlation(first, second)) >= _LEAST_LIGHT


def _soft_evidence(
    recorded: NDArray[np.float32],
    luma: NDArray[np.float32],
    known: NDArray[np.float32],
    told: NDArray[np.bool_],
) -> float:
    """What the smooth parts say, `told` being the windows that have detail: soft light and shade in cells twice as
    large, where next to nothing is left of the mark."""
    if told.all():
        return 0.0
    both = (_halved(known) >= _LEAST_KNOWN).astype(np.float32)
    level = _level(_halved(recorded), _halved(luma), both, _FLAT_SOFT)
    # A window of the larger cells spans three of the smaller ones each way.
    near = cv2.dilate(told.astype(np.uint8), np.ones((3, 3), np.uint8))[::2, ::2]
    rows, columns = (min(pair) for pair in zip(near.shape, level.telling.shape, strict=True))
    alone = level.telling[:rows, :columns] & (near[:rows, :columns] == 0)
    ratio = level.ratio[:rows, :columns][alone]
    return float(np.where(ratio > 0, _SOFT * ratio, ratio).sum())


def _halved(values: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, columns = (max(1, side // 2) for side in values.shape)
    even = values[: rows * 2, : columns * 2]
    return np.asarray(cv2.resize(even, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)
