"""How far a marked picture is from the first, and how sure a counted rate is."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark.bench.attack_kit import RGB

_K1, _K2 = 0.01, 0.03
MOST_PSNR = 99.0
"""Beyond this two pictures count as equal, so that means over pictures stay finite."""


def psnr(first: RGB, second: RGB) -> float:
    """Peak signal-to-noise ratio in dB over all channels; MOST_PSNR for equal pictures."""
    error = float(cv2.norm(first, second, cv2.NORM_L2SQR)) / first.size
    return min(MOST_PSNR, 10 * math.log10(65025 / error)) if error else MOST_PSNR


def ssim(first: RGB, second: RGB) -> float:
    """Structural similarity in RGB: mean over channels and pixels.

    Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity", 2004:
    Gaussian window of 11 x 11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03, only where the window fits.
    """
    c1, c2 = (_K1 * 255) ** 2, (_K2 * 255) ** 2

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.GaussianBlur(values, (11, 11), 1.5)[5:-5, 5:-5], np.float32)

    total = 0.0
    for channel in range(3):
        a, b = first[..., channel].astype(np.float32), second[..., channel].astype(np.float32)
        mean_a, mean_b = mean(a), mean(b)
        # Moments of the values less the first picture's mean: the squares stay small enough for 32 bits.
        middle = float(a.mean())
        a, b = a - middle, b - middle
        da, db = mean_a - middle, mean_b - middle
        var_a, var_b, both = mean(a * a) - da * da, mean(b * b) - db * db, mean(a * b) - da * db
        map_ = (2 * mean_a * mean_b + c1) * (2 * both + c2)
        map_ /= (mean_a * mean_a + mean_b * mean_b + c1) * (var_a + var_b + c2)
        total += float(map_.mean(dtype=np.float64))
    return total / 3


def wilson(hits: int, tries: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson, "Probable inference", 1927); (0, 1) without tries."""
    if tries == 0:
        return 0.0, 1.0
    z = 1.959964
    share, spread = hits / tries, z * z / tries
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / tries + spread / (4 * tries)) / (1 + spread)
    # The interval holds the share, but for the last digit of a float at 0 and at 1.
    return min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))
