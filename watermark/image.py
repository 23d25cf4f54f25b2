"""The invisible mark in still pictures: embed, read, and the question whether a picture can carry one at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark import pattern as patterns
from watermark.embedding import (
    BLUE_PER_CB,
    GREEN_PER_CB,
    LONGEST_ASPECT,
    SMALLEST_SIDE,
    MarkMode,
    canonical_size,
    check_side,
    gain,
    lay_pattern,
    target_db,
)
from watermark.keys import MarkKey
from watermark.mark_errors import MarkError
from watermark.mask import CHROMA_STRENGTH, strength
from watermark.pattern import MarkPattern

if TYPE_CHECKING:
    from watermark.reading import Effort, Reading

_STRIP = 512
"""Rows added at a time, to bound the memory of large pictures."""
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

    "default" aims at 44.5 dB PSNR, "durable" at 42 dB; flat pictures stay above. Raises MarkError ("picture_format",
    "too_small", "too_long", "mark_id", "mode").
    """
    return embed_pattern(rgb, patterns.derive(mark_id, key), mode)


def embed_pattern(rgb: NDArray[np.uint8], pattern: MarkPattern, mode: MarkMode = "default") -> NDArray[np.uint8]:
    """As `embed`, with a pattern derived elsewhere: for processes that hold no keys."""
    check_rgb(rgb)
    height, width = rgb.shape[:2]
    target = target_db(mode, width, height)
    check_side(width, height)
    size = canonical_size(width, height)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    shrinks = size[0] < width
    luma = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC).astype(np.float32)
    mask = strength(luma)
    tile_luma, tile_chroma = lay_pattern(pattern, size)
    change = cv2.multiply(mask, tile_luma)
    change_cb = cv2.multiply(mask, tile_chroma, scale=CHROMA_STRENGTH)
    if size != (width, height):
        change = cv2.resize(change, (width, height), interpolation=cv2.INTER_CUBIC)
        change_cb = cv2.resize(change_cb, (width, height), interpolation=cv2.INTER_CUBIC)
    factor = gain(change, change_cb, target)
    marked = np.empty_like(rgb)
    for top in range(0, height, _STRIP):
        rows = slice(top, top + _STRIP)
        d, c = cv2.multiply(change[rows], factor), cv2.multiply(change_cb[rows], factor)
        delta = cv2.merge([d, cv2.scaleAdd(c, GREEN_PER_CB, d), cv2.scaleAdd(c, BLUE_PER_CB, d)])
        cv2.add(rgb[rows], delta, dst=marked[rows], dtype=cv2.CV_8U)
    return marked


def markable(rgb: NDArray[np.uint8]) -> str | None:
    """None when `rgb` (uint8 [H, W, 3] RGB) can carry a mark, else the reason: a key of UNMARKABLE.

    Raises MarkError "picture_format".
    """
    check_rgb(rgb)
    height, width = rgb.shape[:2]
    if min(width, height) < SMALLEST_SIDE:
        return "too_small"
    if max(width, height) > LONGEST_ASPECT * min(width, height):
        return "too_long"
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
