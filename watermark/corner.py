"""The cheapest question about a picture: does it carry a mark just as it was laid, from the corner on?

No search at all: for an uncropped picture the phases of the sync lines are known for each sync set, so their agreement
is one number of unit variance per set. It can be added up over frames, and stands out long before a lock would.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from watermark.keys import MarkKey
from watermark.lattice import LOWEST, SIDES, TILE, Lattice, SyncSet, lattice_of, set_maps
from watermark.lock import Lock, Whitened, sync_lines, whiten
from watermark.planes import Planes, fold_whole
from watermark.search import MIX_CHROMA, MIX_LUMA, Spectra

_INNER = 10
"""|k| of the lines that blur and median filters leave of a small picture's mark; hardly any sync line is among them."""
_STRONGEST_POWER = 12.0
"""Above this, in units of noise, a line is the picture's own."""


@lru_cache(maxsize=16)
def _places(
    key: MarkKey, shape: tuple[int, int], size: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.complex64]]:
    """Rows and columns of the sync lines in half spectra of `size`, whether their conjugates lie there, and phasors.

    All [sets, lines]. `shape` (h, w) of the picture, whose middle is the origin of its spectra.
    """
    lattice = lattice_of(key)
    frequency = np.einsum("sij,ki->skj", set_maps(), lattice.sync / TILE)
    middle = np.array([shape[1] // 2, shape[0] // 2])
    phase = lattice.sync_phases + 2 * np.pi * frequency @ middle
    back = frequency[..., 0] < 0
    u, v = (np.where(back, -frequency[..., axis], frequency[..., axis]) for axis in (0, 1))
    columns = np.rint(u * size[0]).astype(np.int64)
    rows = np.rint(v * size[1]).astype(np.int64) % size[1]
    return rows, columns, back, np.exp(-1j * phase).astype(np.complex64)


def corner_response(spectra: Spectra, shape: tuple[int, int], key: MarkKey) -> NDArray[np.float64]:
    """Agreement of a picture of `shape` (h, w), at canonical scale, with each of SYNC_SETS, in deviations of noise."""
    rows, columns, back, unturn = _places(key, shape, spectra.size)

    def agreement(spectrum: NDArray[np.complex64], turn: complex) -> NDArray[np.float64]:
        values = spectrum[rows, columns]
        values = np.where(back, np.conj(values), values)
        return np.asarray((values * unturn * turn).real.sum(1) / math.sqrt(rows.shape[1] / 2), np.float64)

    luma = agreement(spectra.luma, 1.0)
    if spectra.chroma is None:
        return luma
    # Strong compression leaves nothing in chroma but noise, so luma alone is asked too.
    return np.maximum(luma, MIX_LUMA * luma + MIX_CHROMA * agreement(spectra.chroma, -1j))


def corner_lock(white: Whitened, lattice: Lattice) -> Lock:
    """The lock of a tile that starts at the picture's corner, whether or not another place would agree better."""
    lines, _ = sync_lines(white, lattice)
    height = float(lines.real.sum())
    energy = float((np.abs(lines) ** 2).sum())
    return Lock(
        z=height / math.sqrt(len(lines) / 2),
        coherence=height / math.sqrt(max(energy, 1e-9) / 2),
        shift=(0.0, 0.0),
        turned=False,
        inverted=False,
    )


def side_by_power(planes: Planes) -> tuple[int, float]:
    """The side of the tile that an uncropped picture would have by the power of its lowest lines, under any key.

    With it, how far that power lies above the median of all sides, in deviations of noise. The orientation stays open:
    it only tells which line is which.
    """
    rows, columns = np.indices((_INNER + 1, 2 * _INNER + 1)).reshape(2, -1)
    columns = columns - _INNER
    radius = np.hypot(rows, columns)
    inner = (radius >= LOWEST) & (radius <= _INNER) & ((rows > 0) | (columns > 0))
    powers = []
    for side in SIDES:
        white = whiten(fold_whole(planes, SyncSet(side, 0)))
        power = [
            np.minimum(np.abs(spectrum[rows[inner], columns[inner]]) ** 2, _STRONGEST_POWER)
            for spectrum in (white.luma, white.chroma)
            if spectrum is not None
        ]
        powers.append(float(np.sum(power)) / math.sqrt(np.size(power)))
    best = int(np.argmax(powers))
    return SIDES[best], powers[best] - float(np.median(powers))
