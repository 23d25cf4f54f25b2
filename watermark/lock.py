"""Whitening of folded spectra, and the lock on the sync lines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark.geometry import Geometry
from watermark.lattice import TILE, Lattice, SyncSet
from watermark.planes import Folded, Planes

_SIDE = 2 * TILE
_STRONGEST_SYNC = 4.0


@dataclass(frozen=True)
class Whitened:
    """Lattice spectra in units of the noise between the lines, complex [128, 128] (chroma None for grey pictures)."""

    luma: NDArray[np.complex64]
    chroma: NDArray[np.complex64] | None


@dataclass(frozen=True)
class Lock:
    """A lock on the sync lines.

    `z`: height of the correlation peak in standard deviations of noise. `coherence`: the same relative to the energy
    of the lines; a picture marked with another key has strong lines without agreement. `shift` (x, y) pixels
    of the lattice frame, `turned`: by 180 degrees, `inverted`: negative picture.
    """

    z: float
    coherence: float
    shift: tuple[float, float]
    turned: bool
    inverted: bool


@lru_cache(maxsize=1)
def _between() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight of the bins off the lattice, and that weight's local mean, float32 [256, 256]."""
    weight = np.ones((_SIDE, _SIDE), np.float32)
    weight[::2, ::2] = 0
    return weight, _local_mean(weight)


def _local_mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
    padded = cv2.copyMakeBorder(values, 8, 8, 8, 8, cv2.BORDER_WRAP)
    return np.asarray(cv2.boxFilter(padded, -1, (15, 15))[8:-8, 8:-8], np.float32)


def _whiten(spectrum: NDArray[np.complex64]) -> NDArray[np.complex64]:
    weight, mean_weight = _between()
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    power[0, 0] = 0
    noise = np.maximum(_local_mean(power * weight) / mean_weight, 0)
    whitened: NDArray[np.complex64] = spectrum[::2, ::2] / np.sqrt(noise[::2, ::2] + 1e-9)
    return whitened


def whiten(folded: Folded) -> Whitened:
    """Divide the lattice bins by the noise their neighbours off the lattice show."""
    return Whitened(_whiten(folded.luma), None if folded.chroma is None else _whiten(folded.chroma))


def _at(spectrum: NDArray[np.complex64], lines: NDArray[np.int64]) -> NDArray[np.complex64]:
    return spectrum[lines[:, 1] % TILE, lines[:, 0] % TILE]


def _limit(values: NDArray[np.complex64], most: float) -> NDArray[np.complex64]:
    return values * np.minimum(1, most / np.maximum(np.abs(values), 1e-9)).astype(np.float32)


def sync_weights(white: Whitened, lattice: Lattice) -> tuple[float, float]:
    """Weights of luma and chroma (0 for grey pictures) on the sync lines, by the signal each has left."""
    luma = _limit(_at(white.luma, lattice.sync), _STRONGEST_SYNC)
    if white.chroma is None:
        return 1.0, 0.0
    chroma = _limit(_at(white.chroma, lattice.sync), _STRONGEST_SYNC)
    weights = [math.sqrt(max(float((np.abs(v) ** 2).mean()) - 1, 0.05)) for v in (luma, chroma)]
    norm = math.hypot(*weights)
    return weights[0] / norm, weights[1] / norm


def sync_lines(white: Whitened, lattice: Lattice) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Limited, weighted and derotated sync lines of both planes together: upright, and as turned by 180 degrees."""
    weights = sync_weights(white, lattice)
    luma = weights[0] * _limit(_at(white.luma, lattice.sync), _STRONGEST_SYNC)
    chroma = np.zeros_like(luma)
    if white.chroma is not None:
        chroma = weights[1] * _limit(_at(white.chroma, lattice.sync), _STRONGEST_SYNC)
    unturn = np.exp(-1j * lattice.sync_phases).astype(np.complex64)
    return (luma - 1j * chroma) * unturn, (np.conj(luma) - 1j * np.conj(chroma)) * unturn


def _surface(lines: NDArray[np.complex64], lattice: Lattice) -> NDArray[np.float32]:
    """Correlation with the sync pattern at every half pixel of translation, [256, 256]."""
    grid = np.zeros((_SIDE, _SIDE), np.complex64)
    grid[lattice.sync[:, 1] % _SIDE, lattice.sync[:, 0] % _SIDE] = lines
    return np.asarray(np.fft.ifft2(grid).real * _SIDE**2, np.float32)


def _peak(surface: NDArray[np.float32], y: int, x: int, lines: NDArray[np.complex64], *, turned: bool) -> Lock:
    sign = 1.0 if surface[y, x] > 0 else -1.0
    height = abs(float(surface[y, x]))
    around = sign * surface
    dx = _vertex(around[y, x - 1], around[y, x], around[y, (x + 1) % _SIDE])
    dy = _vertex(around[y - 1, x], around[y, x], around[(y + 1) % _SIDE, x])
    energy = float((np.abs(lines) ** 2).sum())
    return Lock(
        z=height / math.sqrt(len(lines) / 2),
        coherence=height / math.sqrt(max(energy, 1e-9) / 2),
        shift=((x + dx) / 2, (y + dy) / 2),
        turned=turned,
        inverted=sign < 0,
    )


def lock(white: Whitened, lattice: Lattice) -> Lock:
    """Find translation, 180 degree turn and sign that agree best with the sync lines of `lattice`."""
    found = []
    for turned, lines in zip((False, True), sync_lines(white, lattice), strict=True):
        surface = _surface(lines, lattice)
        y, x = divmod(int(np.abs(surface).argmax()), _SIDE)
        found.append(_peak(surface, y, x, lines, turned=turned))
    return max(found, key=lambda one: one.z)


def _vertex(left: float, middle: float, right: float) -> float:
    """Offset of the vertex of the parabola through three neighbours."""
    bend = left - 2 * middle + right
    return 0.0 if bend == 0 else float(0.5 * (left - right) / bend)


def geometry(folded: Folded, found: Lock, planes: Planes, where: SyncSet) -> Geometry:
    """The map a lock stands for, from pixels of the picture as it was given to the reader."""
    sign = -1.0 if found.turned else 1.0
    # Pixel centres of the given picture to those of the planes: (x + 1/2) s - 1/2.
    centre = np.full(2, (planes.shrink - 1) / 2)
    from_lattice = np.linalg.inv(where.to_lattice)
    matrix = sign * from_lattice @ folded.matrix
    shift = sign * from_lattice @ (folded.matrix @ centre + folded.offset) - from_lattice @ np.array(found.shift)
    # How an uncropped, unturned picture would lie.
    scale = planes.normal.scale
    whole = float(np.abs((matrix - np.diag(scale)) * planes.size).max()) < 3 and all(
        min(gap % where.side, -gap % where.side) < 3 for gap in shift - (scale * planes.shrink - 1) / 2
    )
    matrix = matrix * planes.shrink
    return Geometry(
        a=float(matrix[0, 0]),
        b=float(matrix[0, 1]),
        c=float(matrix[1, 0]),
        d=float(matrix[1, 1]),
        tx=float(shift[0] % where.side),
        ty=float(shift[1] % where.side),
        period=where.side,
        inverted=found.inverted,
        whole=whole,
    )
