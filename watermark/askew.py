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


@lru_cache(maxsize=1)
def _maps() -> NDArray[np.float64]:
    """Maps to the lattice frame, float64 [n, 4] as (a, b, c, d), from a canonical frame seen askew."""
    scales = np.exp(np.arange(-0.36, 0.361, 0.03))
    shears = np.arange(-0.175, 0.176, 0.035)
    wide, tall, across, down = (v.ravel() for v in np.meshgrid(scales, scales, shears, shears))
    likely = (np.abs(np.log(wide / tall)) < 0.25) & (np.abs(across + down) < 0.25)
    return oriented(np.stack([wide, across * wide, down * tall, tall], 1)[likely])


@compiled
def _sum_powers(maps: Any, lines: Any, table: Any) -> Any:
    tall, columns = table.shape
    wide = 2 * (columns - 1)
    scores = np.zeros(maps.shape[0], np.float32)
    for i in range(maps.shape[0]):
        a, b, c, d = maps[i, 0], maps[i, 1], maps[i, 2], maps[i, 3]
        for j in range(lines.shape[0]):
            u = a * lines[j, 0] + c * lines[j, 1]
            v = b * lines[j, 0] + d * lines[j, 1]
            if u < 0:
                u, v = -u, -v
            if u < 0.5 and abs(v) < 0.5:
                row = int(np.floor(v * tall + np.float32(0.5)))
                row = row + tall if row < 0 else row
                if row < tall:
                    scores[i] += table[row, int(u * wide + np.float32(0.5))]
    return scores


def askew_maps(spectra: Spectra, key: MarkKey, scale: NDArray[np.float64]) -> NDArray[np.float32]:
    """Maps with the most power under the sync lines, float32 [n, 4] from the canonical frame of `spectra`.

    `scale` float64 [2]: pixels of the whole picture's canonical frame per pixel of the frame the part is searched in.
    """
    maps = (_maps() * np.tile(scale, 2)).astype(np.float32)
    scores = _sum_powers(maps, (lattice_of(key).sync / TILE).astype(np.float32), spectra.wide_power)
    return np.ascontiguousarray(maps[np.argpartition(-scores, _KEPT)[:_KEPT]])
