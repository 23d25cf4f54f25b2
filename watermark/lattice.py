"""The keyed Fourier lattice of the mark: which spatial frequencies carry what, and with which phase.

The mark is a tile, repeated from the picture's corner. In the Fourier domain a repeated tile lives on the lattice
k / period, k integer. Keyed *sync* lines fix geometry and translation; all others carry the code word, two chips (real
and imaginary part) per line, in luma and again in blue difference (Cb).

How large the tile is, and how it lies, the id decides (`SyncSet`): the lines of many outputs under one key are spread
over a good part of the band, so that averaging their spectra shows no template. The reader pays next to nothing for it.
It looks for maps to the *lattice frame*, in which the tile has TILE x TILE pixels and lies upright, and a larger, a
turned or a mirrored tile only means another map.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from watermark.keys import MarkKey, keyed_permutation, keyed_phases, keyed_words
from watermark.payload import CODED_BITS

SHORT_SIDE = 512
"""The canonical frame's short side in pixels; the mark's scale is fixed relative to the picture, not to its pixels."""
TILE = 128
"""Side of the tile in the lattice frame, pixels."""
SIDES = tuple(range(112, 145, 2))
"""Sides a tile can have, canonical pixels."""
ORIENTATIONS = (((1, 0), (0, 1)), ((0, 1), (-1, 0)), ((-1, 0), (0, 1)), ((0, 1), (1, 0)))
"""How a tile can lie, as maps from canonical to lattice frame: upright, a quarter turn, mirrored, transposed.

Those of the square up to half a turn, which the symmetry of spectra makes free.
"""
LOWEST, HIGHEST = 6, 32
HIGHEST_CHROMA = 24
SYNC_LINES = 32
_SYNC_LOWEST, _SYNC_HIGHEST = 9, 20


@dataclass(frozen=True)
class Band:
    """The payload lines of one plane.

    `lines` int64 [n, 2] as (kx, ky); `phases` float64 [n] radians; `bit_of` int64 [2n]: the coded bit each chip
    carries (chips of a line are adjacent: real, imaginary); `flip` float64 [2n]: +1 or -1, the keyed scrambling;
    `ring` int64 [n]: index of the line's 2-wide ring |k|.
    """

    lines: NDArray[np.int64]
    phases: NDArray[np.float64]
    bit_of: NDArray[np.int64]
    flip: NDArray[np.float64]
    ring: NDArray[np.int64]

    @property
    def radius(self) -> NDArray[np.float64]:
        """|k| per line, float64 [n]."""
        return np.hypot(self.lines[:, 0], self.lines[:, 1])


@dataclass(frozen=True)
class Lattice:
    """Everything about the mark that follows from the key alone. Key material: never leaves the keyed processes."""

    sync: NDArray[np.int64]
    sync_phases: NDArray[np.float64]
    luma: Band
    chroma: Band


@dataclass(frozen=True)
class SyncSet:
    """`side`: of the tile in canonical pixels; `orientation`: index into ORIENTATIONS."""

    side: int
    orientation: int

    @property
    def to_lattice(self) -> NDArray[np.float64]:
        """Map from canonical pixels to the lattice frame, float64 [2, 2]."""
        return np.array(ORIENTATIONS[self.orientation]) * (TILE / self.side)


SYNC_SETS = tuple(SyncSet(side, orientation) for side in SIDES for orientation in range(len(ORIENTATIONS)))


@lru_cache(maxsize=1)
def set_maps() -> NDArray[np.float64]:
    """`to_lattice` of every one of SYNC_SETS, float64 [sets, 2, 2]."""
    return np.stack([where.to_lattice for where in SYNC_SETS])


def sync_set_of(mark_id: bytes, key: MarkKey) -> SyncSet:
    """The tile's size and orientation that go with `mark_id` (8 bytes) under `key`."""
    word = int(keyed_words(key.key, f"sync set {mark_id.hex()}", 1)[0])
    return SYNC_SETS[word % len(SYNC_SETS)]


def lattice_of(key: MarkKey) -> Lattice:
    """Derive the lattice of `key` (a few milliseconds, remembered for the last keys used)."""
    return _lattice(key.key)


def _band(key: bytes, name: str, lines: NDArray[np.int64]) -> Band:
    chips = 2 * len(lines)
    radius = np.hypot(lines[:, 0], lines[:, 1])
    bits = np.empty(chips, np.int64)
    # Dealing a permuted deck gives every coded bit the same number of chips, to within one.
    bits[keyed_permutation(key, f"{name} order", chips)] = np.arange(chips) % CODED_BITS
    flip = 1.0 - 2.0 * (keyed_words(key, f"{name} scrambling", chips) >> np.uint64(63)).astype(np.float64)
    ring = ((radius - LOWEST) // 2).astype(np.int64)
    return Band(lines, keyed_phases(key, f"{name} phases", len(lines)), bits, flip, ring)


@lru_cache(maxsize=16)
def _lattice(key: bytes) -> Lattice:
    grid = np.array(
        [
            (x, y)
            for y in range(HIGHEST + 1)
            for x in range(-HIGHEST, HIGHEST + 1)
            if (y > 0 or x > 0) and LOWEST <= np.hypot(x, y) <= HIGHEST
        ],
        np.int64,
    )
    radius = np.hypot(grid[:, 0], grid[:, 1])
    # Lines on the axes are where pictures (and block codecs) are strongest.
    eligible = np.flatnonzero((radius >= _SYNC_LOWEST) & (radius <= _SYNC_HIGHEST) & (np.abs(grid).min(axis=1) > 2))
    area = np.pi / 2 * (_SYNC_HIGHEST**2 - _SYNC_LOWEST**2)
    apart = 0.62 * np.sqrt(area / SYNC_LINES)
    chosen: list[int] = []
    for candidate in eligible[keyed_permutation(key, "sync lines", len(eligible))]:
        gaps = np.hypot(*(grid[candidate] - grid[chosen]).T) if chosen else np.array([np.inf])
        if gaps.min() >= apart:
            chosen.append(int(candidate))
        if len(chosen) == SYNC_LINES:
            break
    is_sync = np.zeros(len(grid), bool)
    is_sync[chosen] = True
    payload = grid[~is_sync]
    inner = np.hypot(payload[:, 0], payload[:, 1]) <= HIGHEST_CHROMA
    return Lattice(
        sync=grid[is_sync],
        sync_phases=keyed_phases(key, "sync phases", int(is_sync.sum())),
        luma=_band(key, "luma", payload),
        chroma=_band(key, "chroma", payload[inner]),
    )
