"""The invisible mark in still pictures: embed, read, and the question whether a picture can carry one at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark import pattern as patterns
from watermark.embedding import (
    CODE_ZERO,
    LONGEST_ASPECT,
    SMALLEST_SIDE,
    WINDOW,
    Laid,
    MarkMode,
    add_code,
    analysis_size,
    canonical_size,
    codes,
    first_gain,
    fit_gain,
    prepare,
    sampled_error,
    shrink,
    structure_loss,
    unfit_side,
    window_grid,
    windows,
)
from watermark.keys import MarkKey
from watermark.mark_errors import MarkError
from watermark.mask import strengths
from watermark.pattern import MarkPattern

if TYPE_CHECKING:
    from watermark.reading import Effort, Reading

UNMARKABLE = {
    "too_small": f"The shorter side is below {SMALLEST_SIDE} pixels; there is no room for a mark.",
    "too_long": f"The longer side is more than {LONGEST_ASPECT} times the shorter; a mark could not be read from it.",
    "too_flat": "Nearly the whole picture is pure black or pure white; a mark would not survive there.",
}
"""A sentence per reason `markable` can give."""


def check_rgb(rgb: NDArray[np.uint8]) -> None:
    """Raise MarkError "picture_format" unless `rgb` is uint8 [H, W, 3]."""
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size:
        raise MarkError(
            "picture_format",
            "A picture must be an array uint8 [height, width, 3] in RGB. Nothing was changed. Convert it first.",
        )


def embed(rgb: NDArray[np.uint8], mark_id: bytes, key: MarkKey, mode: MarkMode = "default") -> NDArray[np.uint8]:
    """Return a copy of `rgb` (uint8 [H, W, 3] RGB) that carries `mark_id` (8 bytes) under `key`.

    "default" aims at 44.6 dB PSNR, less change where SSIM would fall much, and SSIM above 0.986; "durable" at 42.05 dB.
    Raises MarkError ("picture_format", "too_small", "too_long", "mark_id", "mode").
    """
    return embed_pattern(rgb, patterns.derive(mark_id, key), mode)


def embed_pattern(rgb: NDArray[np.uint8], pattern: MarkPattern, mode: MarkMode = "default") -> NDArray[np.uint8]:
    """As `embed`, with a pattern derived elsewhere: for processes that hold no keys."""
    check_rgb(rgb)
    return embed_laid(rgb, prepare(pattern, (rgb.shape[1], rgb.shape[0]), mode))


def embed_laid(rgb: NDArray[np.uint8], laid: Laid) -> NDArray[np.uint8]:
    """Return a marked copy of `rgb` (uint8 [H, W, 3] RGB of the size `laid` was made for)."""
    rgb = np.ascontiguousarray(rgb)
    height, width = rgb.shape[:2]
    small = shrink(rgb, analysis_size(width, height))
    strength = strengths(np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb), np.uint8))
    across, down = canonical_size(width, height)
    code = np.empty((down, across, 3), np.uint8)
    for part, luma, chroma in codes(strength, laid):
        # Codes are a picture too: OpenCV's colour conversion turns changes of luma and Cb into changes of RGB.
        planes = cv2.merge([luma, np.full_like(luma, CODE_ZERO), chroma])
        cv2.cvtColor(planes, cv2.COLOR_YCrCb2RGB, dst=code[part])
    marked = np.empty_like(rgb)
    # The enlarged code waits where the marked picture will be: the largest pictures need no third copy.
    cv2.resize(code, (width, height), dst=marked, interpolation=cv2.INTER_CUBIC)
    grid, shape = window_grid(width, height), (WINDOW, 3 * WINDOW)
    before_windows, change_windows = (
        windows(side.reshape(height, 3 * width), shape, (grid[0], 3 * grid[1])) for side in (rgb, marked)
    )
    gain = fit_gain(
        first_gain(strength, laid.allowance.target),
        sampled_error(rgb, marked),
        lambda factor: structure_loss(before_windows, add_code(before_windows, change_windows, factor)),
        laid.allowance,
    )
    return add_code(rgb, marked, gain, out=marked)


def markable(rgb: NDArray[np.uint8]) -> str | None:
    """None when `rgb` (uint8 [H, W, 3] RGB) can carry a mark, else the reason: a key of UNMARKABLE.

    Raises MarkError "picture_format".
    """
    check_rgb(rgb)
    height, width = rgb.shape[:2]
    reason = unfit_side(width, height)
    if reason is not None:
        return reason
    size = canonical_size(width, height)
    luma = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    # At the ends of the scale half of every change is clipped and the rest is what codecs round away first.
    return "too_flat" if float(((luma <= 1) | (luma >= 254)).mean()) > 0.97 else None


def read(rgb: NDArray[np.uint8], keys: Sequence[MarkKey], effort: Effort = "full") -> Reading | None:
    """Look in `rgb` (uint8 [H, W, 3] RGB) for a mark written under one of `keys`.

    "fast" tries the picture as it is (any resize, codec or filter, no crop or turn), "full" also searches scale, crop,
    rotation and mirroring, "deep" adds local windows for warps and collages. None when nothing is found. Raises
    MarkError "picture_format".
    """
    from watermark.reading import read_picture  # numba: only readers pay for its import

    check_rgb(rgb)
    return read_picture(rgb, keys, effort)
