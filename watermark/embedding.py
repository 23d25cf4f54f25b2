"""What both embedders share: canonical frame, laid tiles, and the gain that meets the fidelity of a mode.

A change is held as 8-bit codes, CODE_ZERO + CODE_STEPS per grey level: OpenCV enlarges bytes into a picture's own
layout and adds them to it several times faster than floats, and a fifth of a level is finer than rounding shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from watermark.lattice import SHORT_SIDE
from watermark.mark_errors import MarkError
from watermark.mask import FLOOR, STRENGTH_STEPS
from watermark.pattern import MarkPattern

MarkMode = Literal["default", "durable"]
TARGET_DB = {"default": 44.6, "durable": 42.05}
MOST_LOSS = {"default": 0.0085, "durable": 1.0}
"""Most of 1 - SSIM over RGB for a picture of _LARGE pixels that keeps _EVEN_DB, and for video; 1 limits nothing."""
_EVEN_DB, _EVENNESS, _LOST_AT_MOST = 46.6, 2.5, 0.02
"""A picture that such a loss leaves with more PSNR may lose more, by this power of the squared error's inverse and up
to this much; one with less PSNR may lose less.

SSIM is lost where a picture is smooth, and there strong codecs leave nothing of a mark; so the pictures that came to
the same loss with the least change were those whose mark was lost. On 53 pictures after 25 of the hardest attacks 41
readings fail in place of 54, with 0.2 dB less change and a mean SSIM of 0.9931 in place of 0.9933.
"""
_MORE_LOSS_MOVING = 1.28
"""Times as much in video, where codecs are stronger and the eye has less time."""
_MOST_FLAT, _MOST_FLAT_EVEN = {"default": 1.08, "durable": 1.36}, 0.81
"""Most grey levels (RMS of luma) where nothing happens; the second where SSIM no longer keeps a flat wall from more."""
SMALLEST_SIDE = 96
LONGEST_ASPECT = 20
SMALL_PICTURE = 640
_SMALL_ALLOWANCE = 0.55
"""Decibels the default mode gives up where the shorter side is below SMALL_PICTURE: codecs leave little room there."""
_LARGE, _LOSS_POWER, _LEAST_MORE_LOSS, _MOST_MORE_LOSS = 1_000_000, 0.37, 0.75, 2.0
"""Below so many pixels more SSIM is given up, above less, by this power of their number and between these factors.

The margin a mark has left after strong compression falls by 3 dB with every halving of the pixels; half of the pictures
of a megapixel have 6 dB to spare.
"""
ANALYSIS_SIDE = SHORT_SIDE // 2
"""Shorter side, in pixels, of the picture the mask is made from."""
CODE_ZERO, CODE_STEPS = 128, 10
# What a change D of luma and C of Cb does to RGB (ITU-T T.871): R += D, G += D - 0.344 C, B += D + 1.772 C.
ERROR_PER_CB = (0.344136**2 + 1.772**2) / 3
_ROUNDING = 1.0 / 12.0
"""Mean squared error that rounding to whole grey levels adds."""
_SAMPLED_PIXELS, _SAMPLED_WINDOWS = 1 << 16, 18
"""Samples, and windows along each side, that the squared error and SSIM are measured by."""
WINDOW = 11
"""Side of the windows of SSIM (Wang et al. 2004), and the Gaussian's sigma, pixels."""
_WINDOW_SIGMA = 1.5
_SSIM_MEANS, _SSIM_SPREADS = (0.01 * 255) ** 2, (0.03 * 255) ** 2


@dataclass(frozen=True)
class Allowance:
    """How much a mode may change a picture.

    `target`: PSNR in dB. `loss`: most of 1 - SSIM over RGB; where `even` is not 0, at that mean squared error, see
    `loss_at`. `gain`: most of the mask's own strength; it keeps flat pictures well above the target, where the eye has
    nothing to be distracted by.
    """

    target: float
    loss: float
    gain: float
    even: float = 0.0

    def loss_at(self, squared: float) -> float:
        """Most of 1 - SSIM for a picture whose mean squared error the mark makes `squared`."""
        if not self.even:
            return self.loss
        return min(self.loss * (self.even / squared) ** _EVENNESS, max(self.loss, _LOST_AT_MOST))


@dataclass(frozen=True)
class Laid:
    """A pattern laid over the canonical width of pictures of `size` (width, height).

    `luma`, `chroma`: float32 [T, w], one row of tiles; the rows below repeat it.
    """

    luma: NDArray[np.float32]
    chroma: NDArray[np.float32]
    size: tuple[int, int]
    allowance: Allowance


def _error_at(decibels: float) -> float:
    """The mean squared error of a PSNR in dB."""
    return float(255**2 / 10 ** (decibels / 10))


def allowance(mode: str, width: int, height: int, *, moving: bool = False) -> Allowance:
    """What `mode` allows for a picture of this size, or a frame of video. Raises MarkError "mode"."""
    if mode not in TARGET_DB:
        raise MarkError(
            "mode", f"There is no mark mode {mode!r}. Nothing was marked. Choose one of {', '.join(TARGET_DB)}."
        )
    small = mode == "default" and min(width, height) < SMALL_PICTURE
    least = _MORE_LOSS_MOVING if moving else _LEAST_MORE_LOSS
    more = min(max((_LARGE / (width * height)) ** _LOSS_POWER, least), _MOST_MORE_LOSS)
    target, loss = TARGET_DB[mode] - (_SMALL_ALLOWANCE if small else 0.0), MOST_LOSS[mode] * more
    if moving or MOST_LOSS[mode] >= 1:
        return Allowance(target, loss, _MOST_FLAT[mode] / FLOOR)
    return Allowance(target, loss, _MOST_FLAT_EVEN / FLOOR, even=more * _error_at(_EVEN_DB))


def unfit_side(width: int, height: int) -> Literal["too_small", "too_long"] | None:
    """Why a picture of this size cannot hold a mark; None when it can."""
    if min(width, height) < SMALLEST_SIDE:
        return "too_small"
    return "too_long" if max(width, height) > LONGEST_ASPECT * min(width, height) else None


def check_side(width: int, height: int) -> None:
    """Raise MarkError "too_small" or "too_long" when a picture of this size cannot hold a mark."""
    reason = unfit_side(width, height)
    if reason == "too_small":
        raise MarkError(
            reason,
            f"The picture is {width} x {height} pixels, too small to carry a mark. Nothing was written. "
            f"Use one whose shorter side is at least {SMALLEST_SIDE} pixels.",
        )
    if reason == "too_long":
        raise MarkError(
            reason,
            f"The picture is {width} x {height} pixels, too long a strip to carry a mark. Nothing was written. "
            f"Use one whose longer side is at most {LONGEST_ASPECT} times the shorter.",
        )


def canonical_size(width: int, height: int, side: int = SHORT_SIDE) -> tuple[int, int]:
    """Size (width, height) of the canonical frame of a picture of this size, or of one whose shorter side is `side`."""
    scale = side / min(width, height)
    return max(8, round(width * scale)), max(8, round(height * scale))


def lay(tile: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Repeat `tile` [T, T] to the right from its left edge; float32 [T, width]."""
    repeated = cv2.repeat(tile, 1, -(-width // tile.shape[1]))
    return np.ascontiguousarray(repeated[:, :width], np.float32)


def prepare(pattern: MarkPattern, size: tuple[int, int], mode: str, *, moving: bool = False) -> Laid:
    """Lay `pattern` for pictures, or frames of video, of `size` (width, height).

    Raises MarkError ("mode", "too_small", "too_long").
    """
    allowed = allowance(mode, *size, moving=moving)
    check_side(*size)
    width = canonical_size(*size)[0]
    return Laid(lay(pattern.luma, width), lay(pattern.chroma, width), size, allowed)


def shrink(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize uint8 [H, W] or [H, W, 3] to `size` (width, height), by halves as far as they go.

    Halves take OpenCV's fast path: 0.7 ms for 1080p RGB where one area average of any other factor takes 5.
    """
    while pixels.shape[0] >= 2 * size[1] and pixels.shape[1] >= 2 * size[0]:
        half = (pixels.shape[1] // 2, pixels.shape[0] // 2)
        even = pixels[: 2 * half[1], : 2 * half[0]]
        pixels = np.asarray(cv2.resize(even, half, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def analysis_size(width: int, height: int) -> tuple[int, int]:
    """Size (width, height) of what the mask is made from, for a picture of this size."""
    scale = ANALYSIS_SIDE / min(width, height)
    return max(4, round(width * scale)), max(4, round(height * scale))


def codes(
    strength: tuple[NDArray[np.uint8], NDArray[np.uint8]], laid: Laid
) -> Iterator[tuple[slice, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield codes of the changes of luma and Cb at gain 1 by strips of the canonical frame: (rows, [n, w], [n, w]).

    `strength` as `mask.strengths` gives it. Strips of one tile stay in the processor's cache.
    """
    size = canonical_size(*laid.size)
    whole = [cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR) for plane in strength]
    for top in range(0, size[1], len(laid.luma)):
        rows = slice(top, min(top + len(laid.luma), size[1]))
        luma, chroma = (
            _code(plane[rows], tiles[: rows.stop - top])
            for plane, tiles in zip(whole, (laid.luma, laid.chroma), strict=True)
        )
        yield rows, luma, chroma


def _code(strength: NDArray[np.uint8], tiles: NDArray[np.float32]) -> NDArray[np.uint8]:
    change = np.multiply(strength, tiles, dtype=np.float32)
    return np.asarray(cv2.convertScaleAbs(change, alpha=CODE_STEPS / STRENGTH_STEPS, beta=CODE_ZERO), np.uint8)


def add_code(
    pixels: NDArray[np.uint8], code: NDArray[np.uint8], factor: float, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """`pixels` plus `factor` times the change that `code` (same shape) stands for, rounded and clipped; uint8."""
    step = factor / CODE_STEPS
    return np.asarray(cv2.addWeighted(pixels, 1.0, code, step, -CODE_ZERO * step, dst=out), np.uint8)


def sampled_error(before: NDArray[np.uint8], change: NDArray[np.uint8]) -> Callable[[float], float]:
    """The mean squared error that `change` (codes, uint8 [H, W] or [H, W, 3] as `before`) makes at a factor.

    Few rows are enough to see how rounding and clipping bend a change, but miss its energy by up to 5 %, 0.2 dB; seven
    times as many, looked at once, by 1 %. All rows of a small picture are measured.
    """
    height, width = before.shape[:2]
    step = max(1, min(height * width // _SAMPLED_PIXELS - 3, height // 32))
    rows = slice(step // 2, None, step)
    lines = change.reshape(height, -1)
    share = _energy(lines[:: max(1, step // 7)]) / _energy(lines[rows]) if step > 1 else 1.0
    few, moved = before[rows], change[rows]

    def error(factor: float) -> float:
        return share * float(cv2.norm(few, add_code(few, moved, factor), cv2.NORM_L2SQR)) / few.size

    return error


def _energy(code: NDArray[np.uint8]) -> float:
    mean, deviation = cv2.meanStdDev(code)
    return float(deviation[0, 0] ** 2 + (mean[0, 0] - CODE_ZERO) ** 2) + 1e-3


def windows(plane: NDArray[np.uint8], shape: tuple[int, int], grid: tuple[int, int]) -> NDArray[np.uint8]:
    """Windows of `shape` (rows, columns) of uint8 [H, W] at every `grid` (rows, columns) from the corner; [n, r, c]."""
    found = sliding_window_view(plane, shape)[:: grid[0], :: grid[1]]
    return np.ascontiguousarray(found).reshape(-1, *shape)


def window_grid(width: int, height: int) -> tuple[int, int]:
    """Even distances (rows, columns) between the windows SSIM is measured in."""
    down, across = (max(2, (side - WINDOW) // _SAMPLED_WINDOWS // 2 * 2) for side in (height, width))
    return down, across


@lru_cache(maxsize=1)
def _window_weights() -> NDArray[np.float32]:
    line = cv2.getGaussianKernel(WINDOW, _WINDOW_SIGMA)
    weights: NDArray[np.float32] = np.kron((line @ line.T).reshape(-1, 1), np.eye(3)).astype(np.float32)
    return weights


def structure_loss(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """1 - SSIM of RGB windows uint8 [n, WINDOW, 3 WINDOW], colours interleaved (Wang et al. 2004, equation 13)."""
    weights = _window_weights()
    x, y = (side.reshape(len(side), -1).astype(np.float32) - 128 for side in (before, after))
    mean_x, mean_y = x @ weights, y @ weights
    spread = (x * x) @ weights - mean_x**2 + (y * y) @ weights - mean_y**2
    shared = (x * y) @ weights - mean_x * mean_y
    mean_x, mean_y = mean_x + 128, mean_y + 128
    likeness = (2 * mean_x * mean_y + _SSIM_MEANS) * (2 * shared + _SSIM_SPREADS)
    return float(1 - (likeness / ((mean_x**2 + mean_y**2 + _SSIM_MEANS) * (spread + _SSIM_SPREADS))).mean())


def fit_gain(
    start: float, error: Callable[[float], float], loss: Callable[[float], float], allowed: Allowance
) -> float:
    """The largest gain within `allowed`, given the squared error and the SSIM loss that a gain leads to.

    Both are measured, not computed: rounding and clipping bend them where changes are near half a grey level. `start`:
    a first guess.
    """
    most = _largest(error, _error_at(allowed.target), start, allowed.gain, 0.01)
    squared = max(error(most) - _ROUNDING, 0.0) if allowed.even else 0.0

    def share(gain: float) -> float:
        return loss(gain) / allowed.loss_at(squared * (gain / most) ** 2 + _ROUNDING)

    return _largest(share, 1.0, most, most, 0.06, slope=2 + 2 * _EVENNESS if allowed.even else 2.0)


def _largest(
    measure: Callable[[float], float], wanted: float, start: float, most: float, tolerance: float, *, slope: float = 2.0
) -> float:
    """The largest gain up to `most` at which the growing `measure` stays within `wanted`, to a relative `tolerance`.

    `slope`: the power of the gain by which it grows, about.
    """
    low, high = 0.0, math.inf
    gain, last = min(start, most), None
    for _ in range(8):
        value = max(measure(gain), 1e-9)
        if value > wanted:
            high = gain
        else:
            low = gain
            if gain == most or value >= wanted * (1 - tolerance):
                break
        if last is not None:
            slope = min(max(math.log(value / last[1]) / math.log(gain / last[0]), 1.0), 8.0)
        last = (gain, value)
        factor = (wanted * (1 - tolerance / 2) / value) ** (1 / slope)
        step = min(gain * min(max(factor, 0.5), 2.0), most)
        gain = step if low < step < high else (low + high) / 2
    return low or gain / 2


def first_gain(strength: tuple[NDArray[np.uint8], NDArray[np.uint8]], target: float) -> float:
    """Gain at which the PSNR would be `target` dB if nothing were enlarged, rounded or clipped: tiles have unit RMS."""
    luma, chroma = (float(cv2.norm(plane, cv2.NORM_L2SQR)) / plane.size / STRENGTH_STEPS**2 for plane in strength)
    return math.sqrt(max(_error_at(target) - _ROUNDING, 0.25) / max(luma + ERROR_PER_CB * chroma, 1e-3))
