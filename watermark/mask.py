"""Where the eye forgives a change: strength of the mark per canonical pixel, from the picture's own activity."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

HIGH_PASS_SIGMA = 3.5
"""Gaussian sigma, canonical pixels, of the high pass shared by mask and reader."""
FLOOR = 0.9
_SLOPE = 0.12
_MOST_ACTIVITY = 25.0
CHROMA_STRENGTH = 0.63
"""Cb amplitude relative to luma; gives Cb 30 % of the squared error in RGB."""


def high_pass(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 [H, W] less its Gaussian average."""
    result: NDArray[np.float32] = cv2.subtract(plane, cv2.GaussianBlur(plane, (0, 0), HIGH_PASS_SIGMA))
    return result


def strength(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Strength of the luma mark, float32 [H, W] in grey levels, for the canonical luma plane float32 [H, W]."""
    detail = high_pass(luma)
    activity = cv2.sqrt(cv2.max(cv2.boxFilter(cv2.multiply(detail, detail), -1, (9, 9)), 0.0))
    # A flat region beside an edge must not inherit the edge's activity: that is where a mark shows first.
    quiet = cv2.blur(cv2.erode(activity, np.ones((7, 7), np.uint8)), (7, 7))
    activity = cv2.min(activity, cv2.add(cv2.multiply(quiet, 2.0), 1.0))
    return _from_activity(cv2.min(activity, _MOST_ACTIVITY), (5, 5))


def strength_fast(luma: NDArray[np.uint8], out: NDArray[np.float32]) -> None:
    """As `strength`, from a luma plane uint8 of about half the canonical size, into `out` of that size; for video."""
    small = luma.astype(np.float32)
    activity = cv2.blur(cv2.absdiff(small, cv2.blur(small, (5, 5))), (5, 5))
    quiet = cv2.blur(cv2.erode(activity, np.ones((3, 3), np.uint8)), (5, 5))
    activity = cv2.min(activity, cv2.add(cv2.multiply(quiet, 2.0), 0.6))
    # The mean absolute deviation of a Gaussian is 0.8 of its standard deviation.
    mask = _from_activity(cv2.min(cv2.multiply(activity, 1.25), _MOST_ACTIVITY), None)
    cv2.resize(mask, (out.shape[1], out.shape[0]), dst=out, interpolation=cv2.INTER_LINEAR)


def _from_activity(activity: Any, smooth: tuple[int, int] | None) -> NDArray[np.float32]:
    mask = cv2.add(cv2.multiply(activity, _SLOPE), FLOOR)
    return np.asarray(cv2.blur(mask, smooth) if smooth else mask, np.float32)
