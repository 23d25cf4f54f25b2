"""The arithmetic both embedders share: canonical frame, laid tiles, and the gain that meets a fidelity target."""

from __future__ import annotations

import math
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark.lattice import SHORT_SIDE, TILE
from watermark.mark_errors import MarkError
from watermark.pattern import MarkPattern

MarkMode = Literal["default", "durable"]
SMALLEST_SIDE = 96
TARGET_DB = {"default": 44.6, "durable": 42.1}
LONGEST_ASPECT = 20
SMALL_PICTURE = 640
_SMALL_ALLOWANCE = 0.5
"""Decibels the default mode gives up where the shorter side is below SMALL_PICTURE: codecs leave little room there."""
_ROUNDING = 1.0 / 12.0
"""Mean squared error that rounding to whole grey levels adds."""
# What a change D of luma and C of Cb does to RGB (ITU-T T.871): R += D, G += D - 0.344 C, B += D + 1.772 C.
GREEN_PER_CB, BLUE_PER_CB = -0.344136, 1.772
_ERROR_CC = (GREEN_PER_CB**2 + BLUE_PER_CB**2) / 3
_ERROR_DC = 2 * (GREEN_PER_CB + BLUE_PER_CB) / 3


def target_db(mode: str, width: int, height: int) -> float:
    """PSNR in dB aimed at in `mode` for a picture of this size. Raises MarkError "mode"."""
    if mode not in TARGET_DB:
        raise MarkError(
            "mode", f"There is no mark mode {mode!r}. Nothing was marked. Choose one of {', '.join(TARGET_DB)}."
        )
    small = mode == "default" and min(width, height) < SMALL_PICTURE
    return TARGET_DB[mode] - (_SMALL_ALLOWANCE if small else 0.0)


def check_side(width: int, height: int) -> None:
    """Raise MarkError "too_small" or "too_long" when a picture of this size cannot hold a mark."""
    if max(width, height) > LONGEST_ASPECT * min(width, height):
        raise MarkError(
            "too_long",
            f"The picture is {width} x {height} pixels, too long a strip to carry a mark. Nothing was written. "
            f"Use one whose longer side is at most {LONGEST_ASPECT} times the shorter.",
        )
    if min(width, height) < SMALLEST_SIDE:
        raise MarkError(
            "too_small",
            f"The picture is {width} x {height} pixels, too small to carry a mark. Nothing was written. "
            f"Use one whose shorter side is at least {SMALLEST_SIDE} pixels.",
        )


def canonical_size(width: int, height: int) -> tuple[int, int]:
    """Size (width, height) of the canonical frame of a picture of this size."""
    scale = SHORT_SIDE / min(width, height)
    return max(8, round(width * scale)), max(8, round(height * scale))


def lay(tile: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Repeat `tile` over a plane of `size` (width, height) from its corner; float32 [height, width]."""
    width, height = size
    return np.tile(tile, (-(-height // TILE), -(-width // TILE)))[:height, :width].copy()


def lay_pattern(pattern: MarkPattern, size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both tiles of `pattern` laid over `size` (width, height)."""
    return lay(pattern.luma, size), lay(pattern.chroma, size)


def gain(luma: NDArray[np.float32], chroma: NDArray[np.float32], target: float) -> float:
    """Factor for a luma change and a Cb change (float32, same shape) to meet the PSNR `target` in dB; at most 1.

    The cap keeps flat pictures well above the target: there the eye has nothing to be distracted by.
    """
    area = luma.size
    error = float(cv2.norm(luma, cv2.NORM_L2SQR)) + _ERROR_CC * float(cv2.norm(chroma, cv2.NORM_L2SQR))
    error = (error + _ERROR_DC * float(np.dot(luma.ravel(), chroma.ravel()))) / area
    allowed = max(65025.0 / 10 ** (target / 10) - _ROUNDING, 0.25)
    return min(1.0, math.sqrt(allowed / max(error, 1e-9)))
