"""Stage 1 of the search for small parts of a picture seen askew: uneven scales, turns and shears together.

In perspective every part of a picture has an affine map of its own, near the identity but with four coefficients free.
A small part needs no fine steps, so the maps can be tried one by one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from watermark.compiled import compiled
from watermark.keys import MarkKey
from watermark.lattice import TILE, lattice_of
from watermark.loggrid import oriented
from watermark.search import Spectra

_KEPT = 1200
_BLOCK = 2048


@lru_cache(maxsize=1)
def _maps() -> NDArray[np.float64]:
    """Maps to the lattice frame, float64 [n, 4] as (a, b, c, d), from a canonical frame seen askew."""
    scales = np.exp(np.arange(-0.36, 0.361, 0.03))
    shears = np.arange(-0.175, 0.176, 0.035)
    wide, tall, across, down = (v.ravel() for v in np.meshgrid(scales, scales, shears, shears))
    likely = (np.abs(np.log(wide / tall)) < 0.25) & (np.abs(across + down) < 0.25)
    return oriented(np.stack([wide, across * wide, down * tall, tall], 1)[likely])


@compiled
def _whole(table: Any, out: Any) -> None:
    """The whole spectrum [NY, NX] of which `table` [NY, NX / 2 + 1] is the half with u >= 0."""
    tall, columns = table.shape
    for y in range(tall):
        out[y, :columns] = table[y]
        back = table[(tall - y) % tall]
        for x in range(columns, out.shape[1]):
            out[y, x] = back[out.shape[1] - x]


@compiled
def _sum_powers(maps: Any, lines: Any, table: Any, scores: Any) -> None:
    """Add to scores [n] the powers in `table` [NY, NX] at the places of the `lines` under maps [4, n].

    Sides of the table are powers of two, so that places wrap round without being asked where they are.
    """
    tall, wide = np.int32(table.shape[0]), np.int32(table.shape[1])
    flat = table.reshape(-1)
    # Truncating to a whole number rounds to the nearest above 0; as many whole turns do not change a place.
    turns, half = np.float32(4), np.float32(0.5)
    for first in range(0, maps.shape[1], _BLOCK):
        a, b, c, d = maps[:, first : first + _BLOCK]
        out = scores[first : first + _BLOCK]
        for j in range(lines.shape[0]):
            x, y = lines[j, 0] * np.float32(wide), lines[j, 1] * np.float32(wide)
            p, q = lines[j, 0] * np.float32(tall), lines[j, 1] * np.float32(tall)
            for i in range(len(out)):
                column = np.int32(a[i] * x + c[i] * y + turns * wide + half) & (wide - np.int32(1))
                row = np.int32(b[i] * p + d[i] * q + turns * tall + half) & (tall - np.int32(1))
                out[i] += flat[row * wide + column]


def askew_maps(spectra: Spectra, key: MarkKey, scale: NDArray[np.float64]) -> NDArray[np.float32]:
    """Maps with the most power under the sync lines, float32 [n, 4] from the canonical frame of `spectra`.

    `scale` float64 [2]: pixels of the whole picture's canonical frame per pixel of the frame the part is searched in;
    below 1, so that all lines lie below the Nyquist frequency under all maps.
    """
    maps = np.ascontiguousarray(_maps().T * np.tile(scale, 2)[:, None], np.float32)
    table = np.empty(spectra.size[::-1], np.float32)
    _whole(spectra.wide_power, table)
    scores = np.zeros(maps.shape[1], np.float32)
    _sum_powers(maps, (lattice_of(key).sync / TILE).astype(np.float32), table, scores)
    return np.ascontiguousarray(maps[:, np.argpartition(-scores, _KEPT)[:_KEPT]].T)
