"""From a rough lock to a sharp one: the phases of the sync lines, block by block, show how the map must bend.

A map a third of a per cent off still locks but loses the payload, and perspective, lenses and bent copies have no
single affine map at all. Each block of the picture, seen through the rough map, carries the sync lines with phases that
tell its own displacement. The displacement is a polynomial of the place; its coefficients are found by Fisher scoring
on the correlation of all lines of all blocks, from few coefficients to many and from the centre outwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from watermark.lattice import TILE, Lattice
from watermark.lock import Lock, Whitened, lock, sync_weights, whiten
from watermark.planes import Folded, Planes
from watermark.warp import Canvas, Warp, monomials, unfold

_BLOCKS = 12
"""Blocks wanted along the longer side of the canvas."""
_SMALLEST_BLOCK, _LARGEST_BLOCK = 24, 96
_STEPS = 6
_LONGEST_STEP = 2.5
"""Lattice pixels a block may move in one step: a quarter of the period of the highest sync lines and a little more."""
_REACHES = (0.45, 0.6, 0.8, 1.01)
_ORDERS = (1, 2, 3)
_WORTHWHILE = 1.02


@dataclass(frozen=True)
class Focus:
    """Where a lock was made: `centre` in plane pixels, `reaches` to grow over, as parts of the way to the far edge."""

    centre: tuple[float, float]
    reaches: tuple[float, ...]


@dataclass(frozen=True)
class Blocks:
    """Derotated sync lines per block, complex64 [blocks, lines], in deviations of the whole picture's noise.

    `centres` float64 [blocks, 2] on the canvas; `waves` float64 [lines, 2]: radians per lattice pixel.
    """

    lines: NDArray[np.complex64]
    centres: NDArray[np.float64]
    waves: NDArray[np.float64]


def blocks_of(canvas: Canvas, folded: Folded, white: Whitened, lattice: Lattice) -> Blocks:
    """Cut `canvas` into blocks and transform each at the sync lines."""
    height, width = canvas.luma.shape
    side = int(np.clip(max(width, height) // _BLOCKS, _SMALLEST_BLOCK, _LARGEST_BLOCK))
    waves = 2 * np.pi * lattice.sync / TILE
    down, across = np.indices((side, side)).reshape(2, -1)
    kernel = np.exp(-1j * (waves[:, :1] * across + waves[:, 1:] * down)).astype(np.complex64)
    real, imaginary = np.ascontiguousarray(kernel.real.T), np.ascontiguousarray(kernel.imag.T)
    rows, columns = height // side, width // side
    left, top = (width - columns * side) // 2, (height - rows * side) // 2
    corners = np.stack(np.meshgrid(left + side * np.arange(columns), top + side * np.arange(rows)), -1).reshape(-1, 2)
    weights = sync_weights(white, lattice)
    unturn = np.exp(-1j * lattice.sync_phases)
    total = np.zeros((len(corners), len(waves)), np.complex128)
    planes = (
        (canvas.luma, folded.luma, white.luma, weights[0], 1.0),
        (canvas.chroma, folded.chroma, white.chroma, weights[1], -1j),
    )
    for plane, spectrum, whitened, weight, turn in planes:
        if plane is None or spectrum is None or whitened is None:
            continue
        cut = plane[top : top + rows * side, left : left + columns * side]
        cut = np.ascontiguousarray(cut.reshape(rows, side, columns, side).swapaxes(1, 2)).reshape(-1, side * side)
        at = (lattice.sync[:, 1], lattice.sync[:, 0])
        noise = np.abs(spectrum[2 * at[0], 2 * at[1]]) / np.maximum(np.abs(whitened[at[0], at[1]]), 1e-9)
        total += (cut @ real + 1j * (cut @ imaginary)) * (weight * turn / np.maximum(noise, 1e-9))
    total *= unturn * np.exp(-1j * (corners @ waves.T))
    return Blocks(total.astype(np.complex64), corners + (side - 1) / 2, waves)


def _fit(blocks: Blocks, warp: Warp, start: NDArray[np.float64], order: int, reach: float) -> NDArray[np.float64]:
    """Bend float64 [2, terms] that makes the blocks within `reach` of the way to the farthest agree best."""
    near = (blocks.centres - warp.centre) / warp.radius
    chosen = np.abs(near).max(1) <= reach * float(np.abs(near).max())
    design = monomials(near[chosen], order)
    lines, waves = blocks.lines[chosen], blocks.waves
    bend = np.zeros((2, design.shape[1]))
    bend[:, : start.shape[1]] = start[:, : design.shape[1]]

    def derotated(bend: NDArray[np.float64]) -> NDArray[np.complex128]:
        return lines * np.exp(-1j * (design @ bend.T) @ waves.T)

    current = derotated(bend)
    score = float(current.real.sum())
    curvature = np.einsum("ki,kj->ij", waves, waves) / len(waves)
    terms = design.shape[1]
    normal = np.kron(curvature, design.T @ design / len(design))
    ridge = 1e-3 * np.trace(normal) / len(normal) * np.eye(len(normal))
    for _ in range(_STEPS):
        # Fisher scoring: the expected curvature, not the noisy one, times the agreement.
        slope = np.einsum("bp,bk,ki->ip", design, current.imag, waves)
        step = np.linalg.solve(normal + ridge, slope.ravel() / max(score, 1e-9)).reshape(2, terms)
        moved = float(np.abs(design @ step.T).max())
        step *= min(1.0, _LONGEST_STEP / max(moved, 1e-9))
        for _ in range(4):
            trial = derotated(bend + step)
            found = float(trial.real.sum())
            if found > score:
                break
            step *= 0.4
        else:
            break
        gained = found - score
        bend, current, score = bend + step, trial, found
        if gained < 1e-3 * score:
            break
    return bend


@dataclass(frozen=True)
class View:
    """Frames seen through a warp: what they fold to and the lock on it, ready to be decoded."""

    canvases: tuple[Canvas, ...]
    folded: Folded
    white: Whitened
    found: Lock

    @property
    def warp(self) -> Warp:
        """The warp all canvases share."""
        return self.canvases[0].warp


def view(frames: Sequence[Planes], warp: Warp, lattice: Lattice) -> View | None:
    """Fold `frames` (of one size) through `warp` and lock. None when the canvas has no sensible size."""
    canvases = tuple(canvas for canvas in (unfold(planes, warp) for planes in frames) if canvas is not None)
    if not canvases:
        return None
    folded = [canvas.fold() for canvas in canvases]
    total = sum(folded[1:], start=folded[0])
    white = whiten(total)
    return View(canvases, total, white, lock(white, lattice))


def refinements(
    frames: Sequence[Planes], folded: Folded, found: Lock, lattice: Lattice, focus: Focus | None = None
) -> Iterator[View]:
    """Ever better views of `frames` (of one size), from the lock `found` on `folded` onwards.

    Each gives the lock more height than the one before; a displacement that does not is left out. `focus` is where in
    the picture the lock was made, if not on the whole.
    """
    warp = Warp.from_lock(folded, found, frames[0].size)
    if focus is not None:
        warp = warp.focused(focus.centre)
    best = view(frames, warp, lattice)
    if best is None:
        return
    reaches = _REACHES if focus is None else focus.reaches
    for order in _ORDERS:
        warp = _bend(best, lattice, order, reaches)
        better = view(frames, warp, lattice)
        if better is not None and better.found.z > best.found.z * _WORTHWHILE:
            best = better
            yield best


def _bend(best: View, lattice: Lattice, order: int, reaches: Sequence[float]) -> Warp:
    sign = -1.0 if best.found.inverted else 1.0
    parts = [blocks_of(canvas, best.folded, best.white, lattice) for canvas in best.canvases]
    lines = np.sum([part.lines for part in parts], axis=0) * sign
    blocks = Blocks(lines, parts[0].centres, parts[0].waves)
    # The blocks are of the picture as it is seen now, so their displacement comes on top of the warp's own.
    bend = np.zeros((2, 1))
    bend[:, 0] = _signed(best.found.shift)
    for reach in reaches:
        for degree in range(1, order + 1):
            bend = _fit(blocks, best.warp, bend, degree, reach)
    return best.warp.followed(bend)


def _signed(shift: tuple[float, float]) -> NDArray[np.float64]:
    """The displacement that a lock's shift, known modulo a tile, asks for."""
    return -((np.array(shift) + TILE / 2) % TILE - TILE / 2)
