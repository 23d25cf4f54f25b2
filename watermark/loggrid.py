"""Stage 1 of the geometric search: power under the sync lines for some 260,000 maps, by shifted sums.

On logarithmic axes a change of scale is a shift, and a turn is a shift of the angle. So the power spectrum is looked up
once on two such grids, whatever the key: |u| and |v| logarithmic for upright maps, radius and angle for turned ones. A
sync line then adds one shifted part of a grid to the scores of all maps at once. Both grids are twice as fine as the
maps, which keeps the rounding of the shifts small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark.compiled import compiled
from watermark.keys import MarkKey
from watermark.lattice import ORIENTATIONS, TILE, lattice_of

LOWEST_SCALE, HIGHEST_SCALE = 0.19, 3.6
"""Scales searched, lattice pixels per canonical pixel."""
_STEP = 0.0115
"""Ratio of neighbouring scales, natural logarithm."""
_SCALES = round(math.log(HIGHEST_SCALE / LOWEST_SCALE) / _STEP)
_LEAST, _LOWEST, _HIGHEST = 3, 9, 20
"""The sync lines of every key have |kx|, |ky| from the first, and |k| between the others."""
_ANGLES = 300
"""Turns tried in half a circle."""
_LEAN = 55
"""Upright maps stretch one way by up to this many steps more than the other."""
_STRONGEST = 12
_RINGS = _SCALES + math.ceil(math.log(_HIGHEST / _LOWEST) / _STEP) + 1
_TRACKS = _SCALES + math.ceil(math.log(_HIGHEST / _LEAST) / _STEP) + 1


@dataclass(frozen=True)
class LogGrids:
    """Power less its mean, in deviations, 0 beyond the Nyquist frequency.

    `upright` float32 [sign of u v, parity of row, rows, parity of column, columns], rows by log |v| and columns by
    log |u|; `turned` float32 [parity of ring, rings, parity of angle, angles twice round].
    """

    upright: NDArray[np.float32]
    turned: NDArray[np.float32]


@compiled
def _fill_upright(table: Any, track: Any, grid: Any) -> None:
    tall, columns = table.shape
    wide = 2 * (columns - 1)
    tracks = track.shape[1]
    column = np.empty((2, tracks), np.int64)
    for parity in range(2):
        for i in range(tracks):
            u = track[parity, i]
            column[parity, i] = int(u * wide + 0.5) if u < 0.5 else -1
    for negative in range(2):
        for row_parity in range(2):
            for j in range(tracks):
                v = track[row_parity, j]
                out = grid[negative, row_parity, j]
                if v >= 0.5:
                    out[:] = 0
                    continue
                row = int(v * tall + 0.5)
                source = table[(tall - row) % tall if negative else row]
                for parity in range(2):
                    for i in range(tracks):
                        place = column[parity, i]
                        out[parity, i] = source[place] if place >= 0 else np.float32(0)


@compiled
def _fill_turned(table: Any, ring: Any, across: Any, down: Any, grid: Any) -> None:
    tall, columns = table.shape
    wide = np.float32(2 * (columns - 1))
    angles = across.shape[1]
    for ring_parity in range(2):
        for j in range(ring.shape[1]):
            radius = ring[ring_parity, j]
            for parity in range(2):
                out = grid[ring_parity, j, parity]
                for i in range(angles):
                    u, v = radius * across[parity, i], radius * down[parity, i]
                    value = np.float32(0)
                    if u < 0.5 and abs(v) < 0.5:
                        row = int(np.rint(v * tall))
                        value = table[row + tall if row < 0 else row, int(np.rint(u * wide))]
                    out[i] = value
                    out[i + angles] = value


def _grids(table: NDArray[np.float32]) -> LogGrids:
    half = np.arange(2)[:, None]
    track = LOWEST_SCALE * _LEAST / TILE * np.exp((2 * np.arange(_TRACKS) + half) * (_STEP / 2))
    ring = LOWEST_SCALE * _LOWEST / TILE * np.exp((2 * np.arange(_RINGS) + half) * (_STEP / 2))
    # The half of the circle in which u >= 0.
    angle = np.pi / 2 - (2 * np.arange(_ANGLES) + half) * (np.pi / (2 * _ANGLES))
    upright = np.empty((2, 2, _TRACKS, 2, _TRACKS), np.float32)
    turned = np.empty((2, _RINGS, 2, 2 * _ANGLES), np.float32)
    _fill_upright(table, track, upright)
    _fill_turned(
        table, ring.astype(np.float32), np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32), turned
    )
    return LogGrids(upright, turned)


def widened(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Limited power, float32 [NY, NX / 2 + 1], each bin the largest of three by three: maps are that far apart."""
    strong = cv2.copyMakeBorder(np.minimum(power, np.float32(_STRONGEST)), 1, 1, 0, 0, cv2.BORDER_WRAP)
    return np.ascontiguousarray(cv2.dilate(strong, np.ones((3, 3), np.uint8))[1:-1], np.float32)


def log_grids(wide: NDArray[np.float32]) -> LogGrids:
    """Look up a power spectrum as `widened` gives it on both grids."""
    mean, deviation = (float(v[0, 0]) for v in cv2.meanStdDev(wide))
    return _grids((wide - np.float32(mean)) * np.float32(1 / max(deviation, 1e-6)))


@dataclass(frozen=True)
class _Shifts:
    """Where the part of a grid that belongs to each sync line begins.

    `upright` int64 [4 orientations, lines, 5] as (sign, row parity, row, column parity, column); `turned` int64
    [2 (plain, mirrored), lines, 4] as (ring parity, ring, angle parity, angle).
    """

    upright: NDArray[np.int64]
    turned: NDArray[np.int64]


def _shifts(key: MarkKey) -> _Shifts:
    kx, ky = lattice_of(key).sync.T
    across, down = (np.rint(np.log(np.abs(k) / _LEAST) / (_STEP / 2)).astype(np.int64) for k in (kx, ky))
    negative = (kx * ky < 0).astype(np.int64)
    upright = []
    for (a, b), (c, d) in ORIENTATIONS:
        # u = (a kx + c ky) times the stretch across, v = (b kx + d ky) times that down.
        column, row = (across, down) if a else (down, across)
        sign = negative ^ int((a + c) * (b + d) < 0)
        upright.append(np.stack([sign, row % 2, row // 2, column % 2, column // 2], 1))
    ring = np.rint(np.log(np.hypot(kx, ky) / _LOWEST) / (_STEP / 2)).astype(np.int64)
    turned = []
    for mirror in (1, -1):
        # A line under a turn by -90 + 0.6 j degrees lies at its own angle less that; the grid begins at 90 degrees.
        angle = -np.rint(np.arctan2(ky, mirror * kx) / (np.pi / (2 * _ANGLES))).astype(np.int64) % (2 * _ANGLES)
        turned.append(np.stack([ring % 2, ring // 2, angle % 2, angle // 2], 1))
    return _Shifts(np.array(upright), np.array(turned))


@compiled
def _sum_upright(grid: Any, shifts: Any, scores: Any) -> None:
    """scores [4, scales down, lean]: sums over the lines. The scale across is that down plus lean, less its middle."""
    scales, leans = scores.shape[1:]
    lean = leans // 2
    for orientation in range(4):
        for j in range(scales):
            first, last = max(0, lean - j), min(leans, scales - j + lean)
            out = scores[orientation, j]
            out[:] = 0
            part = out[first:last]
            for line in range(0, shifts.shape[1]):
                at = shifts[orientation, line]
                start = at[4] + j - lean
                source = grid[at[0], at[1], at[2] + j, at[3], start + first : start + last]
                for i in range(last - first):
                    part[i] += source[i]


@compiled
def _sum_turned(grid: Any, shifts: Any, scores: Any) -> None:
    """scores [2, scales, angles]: sums over the lines."""
    scales, angles = scores.shape[1:]
    for mirror in range(2):
        for j in range(scales):
            out = scores[mirror, j]
            out[:] = 0
            for line in range(0, shifts.shape[1]):
                at = shifts[mirror, line]
                source = grid[at[0], at[1] + j, at[2], at[3] : at[3] + angles]
                for i in range(angles):
                    out[i] += source[i]


_UPRIGHT_SHAPE = (len(ORIENTATIONS), _SCALES, 2 * _LEAN + 1)
_TURNED_SHAPE = (2, _SCALES, _ANGLES)
_UPRIGHT_MAPS = math.prod(_UPRIGHT_SHAPE)


def _sums(grids: LogGrids, shifts: _Shifts) -> NDArray[np.float32]:
    scores = np.empty(_UPRIGHT_MAPS + math.prod(_TURNED_SHAPE), np.float32)
    _sum_upright(grids.upright, shifts.upright, scores[:_UPRIGHT_MAPS].reshape(_UPRIGHT_SHAPE))
    _sum_turned(grids.turned, shifts.turned, scores[_UPRIGHT_MAPS:].reshape(_TURNED_SHAPE))
    return scores


@lru_cache(maxsize=16)
def _plan(key: MarkKey, least: int) -> tuple[_Shifts, NDArray[np.float32]]:
    """Shifts of the lines of `key`, and what to multiply the sums by: less for more lines, 0 for fewer than `least`."""
    shifts = _shifts(key)
    inside = _sums(_grids(np.ones((64, 33), np.float32)), shifts)
    factor = np.where(inside >= least - 0.5, 1 / np.sqrt(np.maximum(inside, 1)), 0)
    return shifts, factor.astype(np.float32)


@compiled
def _select(scores: Any, factor: Any, most: int) -> Any:
    """Indices of about `most` highest scores times factor, not fewer where there are as many above 0."""
    levels = 2048
    top = np.float32(0)
    for i in range(len(scores)):
        scores[i] *= factor[i]
        top = max(top, scores[i])
    counts = np.zeros(levels + 1, np.int64)
    scale = np.float32(levels) / max(top, np.float32(1e-6))
    for i in range(len(scores)):
        if scores[i] > 0:
            counts[int(scores[i] * scale)] += 1
    total = 0
    level = levels + 1
    while level > 0 and total < most:
        level -= 1
        total += counts[level]
    chosen = np.empty(total, np.int64)
    found = 0
    for i in range(len(scores)):
        if scores[i] > 0 and int(scores[i] * scale) >= level:
            chosen[found] = i
            found += 1
    return chosen


def _maps_at(index: NDArray[np.int64]) -> NDArray[np.float32]:
    """Maps float32 [n, 4] as (a, b, c, d), picture at canonical scale to lattice frame, of the scores at `index`."""
    upright, turned = index[index < _UPRIGHT_MAPS], index[index >= _UPRIGHT_MAPS] - _UPRIGHT_MAPS
    orientation, tall, lean = np.unravel_index(upright, _UPRIGHT_SHAPE)
    stretch = np.zeros((len(upright), 2, 2))
    stretch[:, 0, 0] = np.exp((tall + lean - _LEAN) * _STEP)
    stretch[:, 1, 1] = np.exp(tall * _STEP)
    first = np.array(ORIENTATIONS, float)[orientation] @ stretch
    mirror, scale, angle = np.unravel_index(turned, _TURNED_SHAPE)
    turn = (angle / _ANGLES - 0.5) * np.pi
    cosine, sine = np.cos(turn), np.sin(turn)
    sign = 1 - 2 * mirror
    second = np.stack([sign * cosine, -sign * sine, sine, cosine], 1) * np.exp(scale * _STEP)[:, None]
    return (LOWEST_SCALE * np.concatenate([first.reshape(-1, 4), second])).astype(np.float32)


def strongest_maps(grids: LogGrids, key: MarkKey, count: int, least_lines: int) -> NDArray[np.float32]:
    """About `count` maps (float32 [n, 4] as (a, b, c, d), canonical picture to lattice) with the most power.

    Only maps under which at least `least_lines` sync lines lie below the Nyquist frequency count.
    """
    shifts, factor = _plan(key, least_lines)
    return _maps_at(_select(_sums(grids, shifts), factor, count))


def oriented(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every map (float64 [n, 4]) followed by each orientation a tile can have."""
    turned = np.array(ORIENTATIONS, float)[:, None] @ maps.reshape(-1, 2, 2)
    return turned.reshape(-1, 4)
