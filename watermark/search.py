"""Finding the geometry of a cropped, scaled, turned or mirrored picture from the sync lines alone.

Stage 1 (`loggrid`) adds up the power at the places where the sync lines would lie under each of some 260,000 maps; it
needs no phase and no translation. Stage 2 takes the best of them, and every plain scale, and sums the lines *with*
their phases over all translations at once: a matched filter, which is what finds small crops and chains of edits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark.compiled import compiled
from watermark.keys import MarkKey
from watermark.lattice import SYNC_LINES, SYNC_SETS, TILE, SyncSet, lattice_of, set_maps
from watermark.loggrid import HIGHEST_SCALE, LOWEST_SCALE, LogGrids, log_grids, oriented, strongest_maps, widened
from watermark.planes import Planes

_COARSE, _FINE = 48, 64
"""Translations tried per axis over one tile: at first, and while a map is refined. Multiples of four."""
_KEPT = 1500
_COMPARED = 200
_REFINED = 12
_PERTURBED = 20
_ROUNDS = 4
MIX_LUMA, MIX_CHROMA = 0.6, 0.8
_LEAST_LINES = math.ceil(0.6 * SYNC_LINES)
"""Sync lines that must lie below the Nyquist frequency of the picture under a map."""
_STRONGEST = np.float32(3.5)
_STRONGEST_POWER = np.float32(14)
_NEIGHBOURS = 33
"""Bins, across and down, over which the spectrum of a picture is taken to be even."""
_LANES = 4


@dataclass(frozen=True)
class Spectra:
    """Whitened half spectra of one or more frames, and their power in local means.

    `bins` float32 [NY, NX / 2 + 1, 4]: real and imaginary parts of luma, then of chroma (0 where not `coloured`).
    `power` float32 [NY, NX / 2 + 1]. `size` (NX, NY) is the transform's size, `scale` float64 [2] canonical pixels per
    plane pixel of the pictures in it.
    """

    bins: NDArray[np.float32]
    coloured: bool
    power: NDArray[np.float32]
    size: tuple[int, int]
    scale: NDArray[np.float64]

    @property
    def luma(self) -> NDArray[np.complex64]:
        """Luma as complex64 [NY, NX / 2 + 1]."""
        return np.asarray(self.bins.view(np.complex64)[..., 0])

    @property
    def chroma(self) -> NDArray[np.complex64] | None:
        """Cb as complex64 [NY, NX / 2 + 1]; None for grey pictures."""
        return np.asarray(self.bins.view(np.complex64)[..., 1]) if self.coloured else None

    @cached_property
    def wide_power(self) -> NDArray[np.float32]:
        """The power, limited and three bins wide, for all keys."""
        return widened(self.power)

    @cached_property
    def grids(self) -> LogGrids:
        """The same on logarithmic grids."""
        return log_grids(self.wide_power)


def _taper(length: int) -> NDArray[np.float32]:
    place = np.arange(length) + 0.5
    return np.minimum(1, np.minimum(place, length - place) / (0.1 * length)).astype(np.float32)


@compiled
def _place(plane: Any, across: Any, down: Any, out: Any) -> None:
    """Taper `plane` into `out` (zeros) with its centre at the origin, wrapped round."""
    height, width = plane.shape
    tall, wide = out.shape
    half = width // 2
    for y in range(height):
        row = out[(y - height // 2) % tall]
        source = plane[y]
        for x in range(half):
            row[wide - half + x] = source[x] * across[x] * down[y]
        for x in range(half, width):
            row[x - half] = source[x] * across[x] * down[y]


@compiled
def _separate(both: Any, bins: Any, luma: Any, chroma: Any) -> None:
    """Half spectra of two real planes from the spectrum of their complex sum, and the power of each."""
    tall, wide = both.shape[:2]
    columns = luma.shape[1]
    for y in range(tall):
        row, back = both[y], both[(tall - y) % tall]
        for x in range(columns):
            mirror = (wide - x) % wide
            a, b, c, d = row[x, 0], row[x, 1], back[mirror, 0], back[mirror, 1]
            lr, li, cr, ci = (a + c) * 0.5, (b - d) * 0.5, (b + d) * 0.5, (c - a) * 0.5
            bins[y, x, 0], bins[y, x, 1], bins[y, x, 2], bins[y, x, 3] = lr, li, cr, ci
            luma[y, x] = lr * lr + li * li
            chroma[y, x] = cr * cr + ci * ci


@compiled
def _whiten(bins: Any, first: int, power: Any, mean: Any, total: Any) -> None:
    """Divide parts `first` and `first` + 1 of `bins` by the root of `mean`; add the relative power to `total`."""
    for y in range(power.shape[0]):
        for x in range(power.shape[1]):
            around = mean[y, x] + np.float32(1e-6)
            relative = power[y, x] / around
            factor = min(np.float32(1), _STRONGEST / np.sqrt(max(relative, np.float32(1e-9)))) / np.sqrt(around)
            bins[y, x, first] *= factor
            bins[y, x, first + 1] *= factor
            total[y, x] += min(relative, _STRONGEST_POWER)


def spectra_of(planes: Planes) -> Spectra:
    """Whitened spectra of one picture at its canonical scale, were it uncropped."""
    normal = planes.normal
    height, width = normal.luma.shape
    least = 2 * planes.canonical
    size = (least if width <= least else 2 * least, least if height <= least else 2 * least)
    across, down = _taper(width), _taper(height)
    both = np.zeros((size[1], size[0], 2), np.float32)
    # With the picture's centre at the origin the phase varies slowly between bins, so the nearest bin will do.
    _place(normal.luma, across, down, both[..., 0])
    if normal.chroma is not None:
        _place(normal.chroma, across, down, both[..., 1])
    half = (size[1], size[0] // 2 + 1)
    bins = np.empty((*half, 4), np.float32)
    powers = np.empty((2, *half), np.float32)
    cv2.dft(both, dst=both)
    _separate(both, bins, powers[0], powers[1])
    total = np.zeros(half, np.float32)
    for plane in range(1 if normal.chroma is None else 2):
        mean = cv2.blur(powers[plane], (_NEIGHBOURS, _NEIGHBOURS), borderType=cv2.BORDER_REFLECT)
        _whiten(bins, 2 * plane, powers[plane], mean, total)
    return Spectra(bins, normal.chroma is not None, total, size, normal.scale)


def add_spectra(frames: list[Spectra]) -> Spectra:
    """Sum the spectra of frames of one size: the mark adds up, the moving picture does not."""
    if len(frames) == 1:
        return frames[0]
    bins = np.sum([frame.bins for frame in frames], axis=0)
    coloured = any(frame.coloured for frame in frames)
    for first in (0, 2) if coloured else (0,):
        part = bins[..., first : first + 2]
        part /= math.sqrt(2 * float(np.mean(part**2)))
    power = np.mean([frame.power for frame in frames], axis=0)
    power = np.maximum(0, 1 + (power - power.mean()) / power.std()).astype(np.float32)
    return Spectra(bins, coloured, power, frames[0].size, frames[0].scale)


@lru_cache(maxsize=1)
def _plain_scales() -> NDArray[np.float32]:
    """Upright maps of one scale, float32 [n, 4]: pure crops, the most frequent edit of all."""
    scales = np.exp(np.arange(math.log(LOWEST_SCALE), math.log(HIGHEST_SCALE), 0.006))
    zero = np.zeros_like(scales)
    return oriented(np.stack([scales, zero, zero, scales], 1)).astype(np.float32)


@dataclass(frozen=True)
class _Waves:
    """The sync lines in four classes by the parity of kx and ky, each padded to a multiple of four, and their waves.

    `lines` float32 [n, 4]: cycles per lattice pixel across and down, and e^(-j phase), zero where padded. `ends`
    int64 [4]: where each class ends. `waves` float32 [n, 2, points]: cos and -sin of 2 pi k.t at an eighth of the
    translations; the others differ from one of them by sign or by half a tile, where the classes change their signs.
    """

    lines: NDArray[np.float32]
    ends: NDArray[np.int64]
    waves: NDArray[np.float32]


@lru_cache(maxsize=32)
def _waves(key: MarkKey, grid: int) -> _Waves:
    lattice = lattice_of(key)
    parity = 2 * (lattice.sync[:, 0] % 2) + lattice.sync[:, 1] % 2
    order: list[int] = []
    ends = np.zeros(4, np.int64)
    for one in range(4):
        order += np.flatnonzero(parity == one).tolist()
        order += [-1] * (-len(order) % _LANES)
        ends[one] = len(order)
    real = np.array(order) >= 0
    sync = np.where(real[:, None], lattice.sync[order], 1)
    # Half a step off the origin no point is its own mirror image.
    x, y = (v.ravel() + 0.5 for v in np.meshgrid(np.arange(grid // 2), np.arange(grid // 4)))
    phase = 2 * np.pi / grid * (sync[:, :1] * x + sync[:, 1:] * y)
    unturn = np.exp(-1j * lattice.sync_phases[order]) * real
    return _Waves(
        lines=np.column_stack([sync / TILE, unturn.real, unturn.imag]).astype(np.float32),
        ends=ends,
        waves=np.stack([np.cos(phase), -np.sin(phase)], 1).astype(np.float32),
    )


@compiled
def _highest(values: Any, ends: Any, waves: Any, sums: Any) -> Any:
    """Largest |Re sum values e^(2 pi j k.t)| over the translations, of two sets of values, float32 [2, n, 2], at once.

    `sums` is scratch space, float32 [2, 8, points].
    """
    points = waves.shape[2]
    first = 0
    sums[:] = 0
    for one in range(4):
        for s in range(first, ends[one], 4):
            for part in range(2):
                a0, b0 = values[0, s, part], values[1, s, part]
                a1, b1 = values[0, s + 1, part], values[1, s + 1, part]
                a2, b2 = values[0, s + 2, part], values[1, s + 2, part]
                a3, b3 = values[0, s + 3, part], values[1, s + 3, part]
                for p in range(points):
                    w0, w1 = waves[s, part, p], waves[s + 1, part, p]
                    w2, w3 = waves[s + 2, part, p], waves[s + 3, part, p]
                    sums[0, 2 * one + part, p] += a0 * w0 + a1 * w1 + a2 * w2 + a3 * w3
                    sums[1, 2 * one + part, p] += b0 * w0 + b1 * w1 + b2 * w2 + b3 * w3
        first = ends[one]
    top = np.float32(0)
    for each in range(2):
        for p in range(points):
            a, b = sums[each, 0, p] + sums[each, 1, p], sums[each, 2, p] + sums[each, 3, p]
            c, d = sums[each, 4, p] + sums[each, 5, p], sums[each, 6, p] + sums[each, 7, p]
            e, f = sums[each, 0, p] - sums[each, 1, p], sums[each, 2, p] - sums[each, 3, p]
            g, h = sums[each, 4, p] - sums[each, 5, p], sums[each, 6, p] - sums[each, 7, p]
            same, other = abs(a + b) + abs(c + d), abs(a - b) + abs(c - d)
            mirror, across = abs(e + f) + abs(g + h), abs(e - f) + abs(g - h)
            same = same if same > other else other
            mirror = mirror if mirror > across else across
            # Kept and compared in a loop of its own: the compiler vectorises the sums only then.
            sums[each, 0, p] = same if same > mirror else mirror
        for p in range(points):
            top = sums[each, 0, p] if sums[each, 0, p] > top else top
    return top


@compiled
def _match(maps: Any, bins: Any, mix: Any, lines: Any, waves: Any) -> Any:
    ends, points = waves
    tall, columns = bins.shape[:2]
    wide = 2 * (columns - 1)
    count = lines.shape[0]
    best = np.zeros(maps.shape[0], np.float32)
    values = np.empty((2, count, 2), np.float32)
    sums = np.empty((2, 8, points.shape[2]), np.float32)
    for i in range(maps.shape[0]):
        a, b, c, d = maps[i, 0], maps[i, 1], maps[i, 2], maps[i, 3]
        inside = 0
        values[:] = 0
        for s in range(count):
            tr, ti = lines[s, 2], lines[s, 3]
            u = a * lines[s, 0] + c * lines[s, 1]
            v = b * lines[s, 0] + d * lines[s, 1]
            sign = np.float32(1)
            if u < 0:
                u, v, sign = -u, -v, -sign
            if u < 0.49 and abs(v) < 0.49 and (tr != 0 or ti != 0):
                inside += 1
                row, column = int(np.rint(v * tall)), int(np.rint(u * wide))
                row = row + tall if row < 0 else row
                lr, li = mix[0] * bins[row, column, 0], mix[0] * bins[row, column, 1] * sign
                cr, ci = mix[1] * bins[row, column, 2], mix[1] * bins[row, column, 3] * sign
                # luma - j chroma, and the same of the conjugates: the picture turned by 180 degrees.
                r, m = lr + ci, li - cr
                values[0, s, 0], values[0, s, 1] = r * tr - m * ti, r * ti + m * tr
                r, m = lr - ci, -li - cr
                values[1, s, 0], values[1, s, 1] = r * tr - m * ti, r * ti + m * tr
        if inside >= _LEAST_LINES:
            best[i] = _highest(values, ends, points, sums) / math.sqrt(inside / 2)
    return best


def _coherent(maps: NDArray[np.float32], spectra: Spectra, waves: _Waves) -> NDArray[np.float32]:
    """Best matched-filter response of each map over translations, turn by 180 degrees and sign, in deviations."""
    mix = np.array([MIX_LUMA, MIX_CHROMA] if spectra.coloured else [1, 0], np.float32)
    found: NDArray[np.float32] = _match(maps, spectra.bins, mix, waves.lines, (waves.ends, waves.waves))
    return found


def rank_sets(spectra: Spectra, key: MarkKey) -> list[tuple[float, SyncSet]]:
    """Sync sets of an uncropped picture by matched-filter response, as (deviations, set), best first."""
    maps = set_maps().reshape(-1, 4).astype(np.float32)
    score = _coherent(maps, spectra, _waves(key, _FINE))
    return [(float(score[i]), SYNC_SETS[i]) for i in np.argsort(-score)]


def search(
    spectra: Spectra, key: MarkKey, maps: NDArray[np.float32] | None = None
) -> list[tuple[float, NDArray[np.float64]]]:
    """Best maps, as (deviations, float64 [2, 2] from canonical-scale picture to lattice frame), best first.

    `maps` (float32 [n, 4]) are tried instead of all scales, turns and reflections.
    """
    if maps is None:
        maps = np.concatenate([strongest_maps(spectra.grids, key, _KEPT, _LEAST_LINES), _plain_scales()])
    coherent = _coherent(maps, spectra, _waves(key, _COARSE))
    waves = _waves(key, _FINE)
    chosen: list[int] = []
    maps = maps[np.argsort(-coherent)[:_COMPARED]]
    coherent = _coherent(maps, spectra, waves)
    for i in np.argsort(-coherent):
        reach = 0.012 * max(0.5, float(np.abs(maps[i]).max()))
        if all(float(np.abs(maps[i] - maps[j]).max()) > reach for j in chosen):
            chosen.append(int(i))
        if len(chosen) == _REFINED:
            break
    best = maps[chosen].astype(np.float64)
    best_score = coherent[chosen].astype(np.float64)
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
