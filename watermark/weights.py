"""How much each ring of the lattice counts when the mark is faint: codecs and scaling take the rings one by one.

At the edge of what can be read, the power of a ring says next to nothing about the signal in it: a hundred lines of
unit noise scatter by a tenth, as much as the signal is worth. The sync lines, whose phases are known, show the
amplitude far more surely. So the rings are believed only as far as they depart clearly from what the sync lines and a
smooth decay predict (linear shrinkage; James and Stein 1961).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from watermark.lattice import LOWEST, TILE, Band, Lattice
from watermark.lock import Lock, Whitened
from watermark.pattern import SYNC_SHARE_CHROMA, SYNC_SHARE_LUMA, TILT_CHROMA, TILT_LUMA
from watermark.payload import CODED_BITS

_STRONGEST = 4.0
_DECAYS = np.array([0.0, 0.06, 0.12, 0.2, 0.3, 0.45, 0.7])
_TRUST = 0.3
"""Standard deviation of a ring's true power around the prediction, relative to it."""
_FAINTEST = 0.005


def align(
    spectrum: NDArray[np.complex64], lines: NDArray[np.int64], phases: NDArray[np.float64], found: Lock
) -> NDArray[np.complex128]:
    """Values of `spectrum` at `lines` (int64 [n, 2]), freed of the lock's shift, turn and sign and of `phases`."""
    values = spectrum[lines[:, 1] % TILE, lines[:, 0] % TILE]
    if found.turned:
        values = np.conj(values)
    turn = 2 * np.pi * (lines[:, 0] * found.shift[0] + lines[:, 1] * found.shift[1]) / TILE - phases
    return (-1.0 if found.inverted else 1.0) * values * np.exp(1j * turn)


def ring_weights(
    payload: NDArray[np.complex128],
    band: Band,
    sync: NDArray[np.complex128],
    sync_radius: NDArray[np.float64],
    *,
    share: float,
    tilt: float,
) -> NDArray[np.float64]:
    """Weight of each ring of `band`, float64 [rings], from its aligned lines and the plane's aligned sync lines.

    `share`: amplitude of a payload line relative to a sync line's, in the mean of squares; `tilt`: how it falls with
    frequency, as the embedder lays it.
    """
    count = np.maximum(np.bincount(band.ring), 1).astype(np.float64)
    power = np.bincount(band.ring, np.clip(np.abs(payload) ** 2 - 1, -1, 12)) / count
    amplitude = max(float(np.clip(sync.real, -_STRONGEST, _STRONGEST).mean()), 0.0) * share
    decay = np.exp(-_DECAYS[:, None] * np.arange(len(count)))
    decay /= np.exp(-_DECAYS[:, None] * ((sync_radius - LOWEST) / 2)).mean(1)[:, None]
    lines_laid = band.radius ** (-2 * tilt)
    laid = np.bincount(band.ring, lines_laid / lines_laid.mean()) / count
    shapes = (2 * amplitude**2 + _FAINTEST) * decay * laid
    misfit = (count * (power - shapes) ** 2 / (1 + shapes) ** 2).sum(1)
    expected = shapes[int(misfit.argmin())]

    def neighbours(values: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.convolve(np.pad(values, 1, mode="edge"), kernel, "valid")

    kernel = np.array([0.25, 0.5, 0.25])
    lines = neighbours(count, kernel)
    smooth = neighbours(power * count, kernel) / lines
    scatter = float((kernel**2).sum()) / lines
    spread = (_TRUST * expected) ** 2 + 1e-12
    signal = expected + (smooth - expected) * spread / (spread + scatter)
    return np.asarray(np.sqrt(np.maximum(signal, 0.05 * expected)))


def _chips(white: Whitened, lattice: Lattice, found: Lock) -> list[tuple[Band, NDArray[np.float64]]]:
    """Weighted, descrambled soft chips of each plane, float64 [2n]."""
    radius = np.hypot(lattice.sync[:, 0], lattice.sync[:, 1])
    result = []
    for spectrum, band, turn, sync_share, tilt in (
        (white.luma, lattice.luma, 0.0, SYNC_SHARE_LUMA, TILT_LUMA),
        (white.chroma, lattice.chroma, np.pi / 2, SYNC_SHARE_CHROMA, TILT_CHROMA),
    ):
        if spectrum is None:
            continue
        payload = align(spectrum, band.lines, band.phases, found)
        sync = align(spectrum, lattice.sync, lattice.sync_phases + turn, found)
        # Amplitude of a payload line against a sync line's, from the shares of power both have in the tile.
        share = math.sqrt((1 - sync_share) / len(band.lines) * len(lattice.sync) / sync_share)
        weight = ring_weights(payload, band, sync, radius, share=share, tilt=tilt)[band.ring]
        parts = np.clip(np.stack([payload.real, payload.imag], 1), -_STRONGEST, _STRONGEST)
        result.append((band, (parts * weight[:, None]).reshape(-1) * band.flip))
    return result


def soft_bits(white: Whitened, lattice: Lattice, found: Lock) -> NDArray[np.float64]:
    """Soft code word under a lock, float64 [600], positive favours 0; those of several views may be added."""
    total = np.zeros(CODED_BITS)
    for band, chips in _chips(white, lattice, found):
        total += np.bincount(band.bit_of, chips, CODED_BITS)
    return total
