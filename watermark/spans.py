"""When a mark that was read is in a video."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from watermark.frames import FrameSource
from watermark.lattice import TILE, lattice_of
from watermark.lock import whiten
from watermark.payload import encode
from watermark.planes import Planes, fold_under
from watermark.reading import Hit
from watermark.weights import align

_PRESENT, _PRESENT_ANYWHERE = 5.5, 7.0
"""Deviations by which the known code word stands out in a frame that carries it, where it was read and shifted.

Chance: 2e-8 for one place, and as much for the best of the 16,000 places a tile can be shifted to.
"""
_SIDE = 2 * TILE
_SHARPNESS = 0.5
"""Seconds to which the ends of a span are found."""
_MOST_PROBES = 64


class Presence:
    """Asks a frame whether it carries an id that was read, under the geometry it was read in.

    Knowing the id, all lines agree or do not, not the sync lines alone. Codecs move the mark along with the picture, so
    it counts wherever it went.
    """

    def __init__(self, hit: Hit, size: tuple[int, int]) -> None:
        self._hit, self._size = hit, size
        lattice = lattice_of(hit.key)
        coded = 1.0 - 2.0 * encode(hit.mark_id, hit.key)
        white = whiten(hit.folded)
        self._planes = []
        for spectrum, band in ((white.luma, lattice.luma), (white.chroma, lattice.chroma)):
            chips = coded[band.bit_of] * band.flip
            known = np.conj(chips[0::2] + 1j * chips[1::2]) / np.sqrt(2)
            if spectrum is not None:
                agreement = (align(spectrum, band.lines, band.phases, hit.found) * known).real
                ring = np.bincount(band.ring, agreement) / np.maximum(np.bincount(band.ring), 1)
                known = known * np.maximum(ring, 0.01)[band.ring]
            self._planes.append((band.lines, band.phases, known))

    def __call__(self, planes: Planes) -> bool:
        """Whether it does."""
        folded = fold_under(planes, self._hit.folded.matrix) if planes.size == self._size else None
        if folded is None:
            return False
        white = whiten(folded)
        grid = np.zeros((_SIDE, _SIDE), np.complex128)
        energy = 1e-9
        for spectrum, (lines, phases, known) in zip((white.luma, white.chroma), self._planes, strict=True):
            if spectrum is None:
                continue
            values = align(spectrum, lines, phases, self._hit.found)
            values = values * known * np.minimum(1, 4 / np.maximum(np.abs(values), 1e-9))
            grid[lines[:, 1] % _SIDE, lines[:, 0] % _SIDE] += values
            energy += float((np.abs(values) ** 2).sum()) / 2
        surface = np.fft.ifft2(grid).real * (_SIDE**2 / np.sqrt(energy))
        return float(surface[0, 0]) > _PRESENT or float(surface.max()) > _PRESENT_ANYWHERE


def spans_of(
    source: FrameSource,
    present: Callable[[NDArray[np.uint8]], bool],
    marked: dict[float, bool],
    gap: float,
    longest_gap: float,
) -> tuple[tuple[float, float], ...]:
    """(first, last) seconds of the runs of marked frames.

    `marked`: what is known already; all that is found out is added to it. Keyframes at least `gap` seconds apart are
    asked first. Two marked neighbours speak for what is between them; two others may hide a marked piece, so no more
    than `longest_gap` stays unasked there; and where neighbours differ, the end of the span is narrowed down.
    """
    for seconds, frame in source.keyframes(gap):
        if seconds not in marked:
            marked[seconds] = present(frame)
    if marked and marked[max(marked)] and source.duration - max(marked) > _SHARPNESS:
        for early in (0.1, _SHARPNESS):
            last = next(source.frames(source.duration - early, 1), None)
            if last is not None:
                marked.setdefault(last[0], present(last[1]))
                break
    for first, second in list(pairwise(sorted(marked))):
        count = int((second - first) / longest_gap * 0.999)
        if count and not marked[first] and not marked[second]:
            for seconds, frame in source.frames(first + longest_gap, count, longest_gap):
                marked.setdefault(seconds, present(frame))
    for _ in range(_MOST_PROBES):
        edges = [
            (first, second)
            for first, second in pairwise(sorted(marked))
            if marked[first] != marked[second] and second - first > _SHARPNESS
        ]
        fresh = [found for edge in edges if (found := next(source.frames(sum(edge) / 2, 1), None)) is not None]
        fresh = [(seconds, frame) for seconds, frame in fresh if seconds not in marked]
        if not fresh:
            break
        marked.update((seconds, present(frame)) for seconds, frame in fresh)
    runs = [list(run) for value, run in groupby(sorted(marked), key=marked.__getitem__) if value]
    return tuple((run[0], run[-1]) for run in runs)
