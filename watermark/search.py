"""Finding the geometry of a cropped, scaled, turned or mirrored picture from the sync lines alone.

Stage 1 adds up the power at the places where the sync lines would lie under each of some 197,000 maps; it needs no
phase and no translation. Stage 2 takes the best of them, and every plain scale, and sums the lines *with* their phases
over all translations at once: a matched filter, which is what finds small crops and chains of edits.
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
from watermark.lattice import SYNC_LINES, TILE, lattice_of
from watermark.planes import CHROMA_SOFT, LUMA_SOFT, Planes, at_canonical_scale, normalise

_GRID = 64
"""Translations tried per axis over one tile: three per period of the highest sync line."""
_KEPT = 1500
_REFINED = 12
_PERTURBED = 20
_ROUNDS = 4
_MIX_LUMA, _MIX_CHROMA = 0.6, 0.8
_LEAST_LINES = 0.6
"""Share of the sync lines that must lie below the Nyquist frequency of the picture under a map."""


@dataclass(frozen=True)
class Spectra:
    """Whitened half spectra of one or more frames, complex64 [NY, NX / 2 + 1], and their power in local means.

    `size` (NX, NY) is the transform's size, `to_canonical` the scale of the pictures in it.
    """

    luma: NDArray[np.complex64]
    chroma: NDArray[np.complex64] | None
    power: NDArray[np.float32]
    size: tuple[int, int]
    to_canonical: float


def _taper(length: int) -> NDArray[np.float32]:
    place = np.arange(length) + 0.5
    return np.minimum(1, np.minimum(place, length - place) / (0.1 * length)).astype(np.float32)


def _transform(plane: NDArray[np.float32], size: tuple[int, int]) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    height, width = plane.shape
    padded = np.zeros((size[1], size[0]), np.float32)
    padded[:height, :width] = plane * _taper(height)[:, None] * _taper(width)
    # With the picture's centre at the origin the phase varies slowly between bins, so the nearest bin will do.
    padded = np.roll(padded, (-(height // 2), -(width // 2)), (0, 1))
    spectrum = np.fft.rfft2(padded).astype(np.complex64)
    power = spectrum.real**2 + spectrum.imag**2
    mean = np.asarray(cv2.blur(power, (33, 33), borderType=cv2.BORDER_REFLECT), np.float32) + np.float32(1e-6)
    relative = power / mean
    limit = np.minimum(1, 3.5 / np.sqrt(np.maximum(relative, 1e-9))) / np.sqrt(mean)
    return spectrum * limit.astype(np.float32), relative


def spectra_of(planes: Planes) -> Spectra:
    """Whitened spectra of one picture at its canonical scale, were it uncropped."""
    scale = planes.to_canonical
    width, height = (max(8, round(side * scale)) for side in planes.size)
    size = (1024 if width <= 1024 else 2048, 1024 if height <= 1024 else 2048)
    luma, power = _transform(normalise(at_canonical_scale(planes.luma, (width, height)), LUMA_SOFT), size)
    power = np.minimum(power, 14)
    chroma = None
    if planes.chroma is not None:
        plane = normalise(at_canonical_scale(planes.chroma, (width, height)), CHROMA_SOFT)
        chroma, power_chroma = _transform(plane, size)
        power = power + np.minimum(power_chroma, 14)
    return Spectra(luma, chroma, power, size, scale)


def add_spectra(frames: list[Spectra]) -> Spectra:
    """Sum the spectra of frames of one size: the mark adds up, the moving picture does not."""
    if len(frames) == 1:
        return frames[0]

    def unit(spectrum: Any) -> NDArray[np.complex64]:
        return np.asarray(spectrum / math.sqrt(float(np.mean(np.abs(spectrum) ** 2))), np.complex64)

    luma = unit(sum(frame.luma for frame in frames))
    coloured = [frame.chroma for frame in frames if frame.chroma is not None]
    chroma = unit(sum(coloured)) if coloured else None
    power = np.mean([frame.power for frame in frames], axis=0)
    power = np.maximum(0, 1 + (power - power.mean()) / power.std()).astype(np.float32)
    return Spectra(luma, chroma, power, frames[0].size, frames[0].to_canonical)


@lru_cache(maxsize=1)
def _all_maps() -> NDArray[np.float32]:
    """Stage 1 maps, float32 [n, 4] as (a, b, c, d), picture to marked canonical frame."""
    scales = np.exp(np.arange(math.log(0.2), math.log(3.4), 0.0115))
    wide, tall = (v.ravel() for v in np.meshgrid(scales, scales))
    likely = (wide / tall > 0.53) & (wide / tall < 1.9)
    wide, tall = wide[likely], tall[likely]
    zero = np.zeros_like(wide)
    upright = np.stack([wide, zero, zero, tall], 1)
    scale, angle = (v.ravel() for v in np.meshgrid(scales, np.deg2rad(np.arange(-90, 90, 0.6))))
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    turned = np.stack([cosine, -sine, sine, cosine], 1)
    mirror_upright, mirror_turned = upright * [-1, 1, 1, 1], turned * [-1, -1, 1, 1]
    return np.concatenate([upright, mirror_upright, turned, mirror_turned]).astype(np.float32)


@lru_cache(maxsize=1)
def _plain_scales() -> NDArray[np.float32]:
    """Upright maps of one scale, plain and mirrored, float32 [n, 4]: pure crops, the most frequent edit of all."""
    scales = np.exp(np.arange(math.log(0.19), math.log(3.3), 0.006))
    zero = np.zeros_like(scales)
    plain = np.stack([scales, zero, zero, scales], 1)
    return np.concatenate([plain, plain * [-1, 1, 1, 1]]).astype(np.float32)


@dataclass(frozen=True)
class _Waves:
    """The sync lines in the order of the matched filter (even ky first) and their waves on the translation grid.

    `across` complex64 [64, lines]: e^(2 pi j kx x / 64); `cosine`, `sine` float32 [lines, 32] of 2 pi ky y / 64. The
    lower half of the grid follows from the upper: there odd ky change their sign.
    """

    lines: NDArray[np.float32]
    unturn: NDArray[np.complex64]
    even: int
    across: NDArray[np.complex64]
    cosine: NDArray[np.float32]
    sine: NDArray[np.float32]


@lru_cache(maxsize=16)
def _waves(key: MarkKey) -> _Waves:
    lattice = lattice_of(key)
    order = np.argsort(lattice.sync[:, 1] % 2, kind="stable")
    sync = lattice.sync[order]
    step = 2 * np.pi * np.arange(_GRID) / _GRID
    down = sync[:, 1:] * step[: _GRID // 2]
    return _Waves(
        lines=(sync / TILE).astype(np.float32),
        unturn=np.exp(-1j * lattice.sync_phases[order]).astype(np.complex64),
        even=int((sync[:, 1] % 2 == 0).sum()),
        across=np.exp(1j * step[:, None] * sync[:, 0]).astype(np.complex64),
        cosine=np.cos(down).astype(np.float32),
        sine=np.sin(down).astype(np.float32),
    )


@compiled
def _match(values: Any, even: int, across: Any, cosine: Any, sine: Any) -> Any:
    count, lines = values.shape
    half = cosine.shape[1]
    best = np.zeros(count, np.float32)
    sums = np.empty((2, half), np.float32)
    for i in range(count):
        top = np.float32(0)
        for x in range(across.shape[0]):
            sums[:] = 0
            for s in range(lines):
                turned = values[i, s] * across[x, s]
                real, imaginary = turned.real, turned.imag
                row = sums[0] if s < even else sums[1]
                for y in range(half):
                    row[y] += real * cosine[s, y] - imaginary * sine[s, y]
            for y in range(half):
                top = max(top, abs(sums[0, y]) + abs(sums[1, y]))
        best[i] = top
    return best


@compiled
def _sum_powers(maps: Any, lines: Any, table: Any, size: Any, least: int) -> Any:
    wide, tall = size
    scores = np.empty(maps.shape[0], np.float32)
    for i in range(maps.shape[0]):
        a, b, c, d = maps[i, 0], maps[i, 1], maps[i, 2], maps[i, 3]
        total = np.float32(0)
        inside = 0
        for j in range(lines.shape[0]):
            u = a * lines[j, 0] + c * lines[j, 1]
            v = b * lines[j, 0] + d * lines[j, 1]
            if u < 0:
                u, v = -u, -v
            if u < 0.5 and abs(v) < 0.5:
                column = int(u * wide + np.float32(0.5))
                row = int(np.floor(v * tall + np.float32(0.5)))
                if row < 0:
                    row += tall
                if row < tall:
                    total += table[row, column]
                    inside += 1
        scores[i] = total / math.sqrt(inside) if inside >= least else np.float32(-9)
    return scores


def _coherent(maps: NDArray[np.float32], spectra: Spectra, waves: _Waves) -> NDArray[np.float32]:
    """Best matched-filter response of each map over translations, turn by 180 degrees and sign, in deviations."""
    wide, tall = spectra.size
    u = maps[:, :1] * waves.lines[:, 0] + maps[:, 2:3] * waves.lines[:, 1]
    v = maps[:, 1:2] * waves.lines[:, 0] + maps[:, 3:4] * waves.lines[:, 1]
    back = u < 0
    u, v = np.where(back, -u, u), np.where(back, -v, v)
    inside = (u < 0.49) & (np.abs(v) < 0.49)
    columns = np.rint(np.where(inside, u, 0) * wide).astype(np.int32)
    rows = np.rint(np.where(inside, v, 0) * tall).astype(np.int32) % tall

    def look_up(spectrum: NDArray[np.complex64]) -> NDArray[np.complex64]:
        values = spectrum[rows, columns]
        return np.where(inside, np.where(back, np.conj(values), values), 0).astype(np.complex64)

    luma = look_up(spectra.luma)
    chroma = None if spectra.chroma is None else look_up(spectra.chroma)
    best = np.zeros(len(maps), np.float32)
    for turned in (False, True):
        values = np.conj(luma) if turned else luma
        if chroma is not None:
            values = _MIX_LUMA * values - 1j * _MIX_CHROMA * (np.conj(chroma) if turned else chroma)
        values = np.ascontiguousarray(values * waves.unturn, np.complex64)
        best = np.maximum(best, _match(values, waves.even, waves.across, waves.cosine, waves.sine))
    count = inside.sum(1)
    return np.where(count >= _LEAST_LINES * SYNC_LINES, best / np.sqrt(np.maximum(count, 1) / 2), 0).astype(np.float32)


def search(spectra: Spectra, key: MarkKey) -> list[tuple[float, NDArray[np.float64]]]:
    """Best maps, as (deviations, float64 [2, 2] from canonical-scale picture to marked canonical frame), best first."""
    waves = _waves(key)
    power = np.minimum(spectra.power, np.float32(12))
    # Three bins wide, since the maps are that far apart at the highest lines.
    power = cv2.copyMakeBorder(power, 1, 1, 0, 0, cv2.BORDER_WRAP)
    power = cv2.dilate(power, np.ones((3, 3), np.uint8))[1:-1]
    table = np.ascontiguousarray((power - power.mean()) / max(float(power.std()), 1e-6), np.float32)
    maps = _all_maps()
    scores = _sum_powers(maps, waves.lines, table, spectra.size, math.ceil(_LEAST_LINES * SYNC_LINES))
    maps = np.concatenate([maps[np.argpartition(-scores, _KEPT)[:_KEPT]], _plain_scales()])
    coherent = _coherent(maps, spectra, waves)
    chosen: list[int] = []
    for i in np.argsort(-coherent)[:200]:
        reach = 0.012 * max(0.5, float(np.abs(maps[i]).max()))
        if all(float(np.abs(maps[i] - maps[j]).max()) > reach for j in chosen):
            chosen.append(int(i))
        if len(chosen) == _REFINED:
            break
    best, best_score = maps[chosen].astype(np.float64), coherent[chosen].astype(np.float64)
    generator = np.random.Generator(np.random.PCG64(0))
    step = 0.004 * np.sqrt(np.abs(best[:, 0] * best[:, 3] - best[:, 1] * best[:, 2]))
    for _ in range(_ROUNDS):
        trial = best[:, None] + generator.normal(0, 1, (len(best), _PERTURBED, 4)) * step[:, None, None]
        score = _coherent(trial.reshape(-1, 4).astype(np.float32), spectra, waves).reshape(len(best), _PERTURBED)
        top = score.argmax(1)
        for i, j in enumerate(top):
            if score[i, j] > best_score[i]:
                best_score[i], best[i] = float(score[i, j]), trial[i, j]
        step = step * 0.65
    order = np.argsort(-best_score)
    return [(float(best_score[i]), best[i].reshape(2, 2)) for i in order]
