"""PSNR, SSIM and the interval of a rate, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from watermark.bench.attacks import seeded
from watermark.bench.quality import MOST_PSNR, psnr, ssim, wilson
from watermark.bench.scenes import landscape


def test_psnr_of_a_known_error():
    grey = np.full((40, 50, 3), 100, np.uint8)
    assert psnr(grey, grey + 5) == pytest.approx(10 * np.log10(255**2 / 25))
    assert psnr(grey, grey) == MOST_PSNR


def test_ssim_agrees_with_its_definition_written_out():
    first = landscape((36, 28), seeded(1, "ssim"))
    noise = seeded(1, "noise").normal(0, 6, first.shape)
    second = np.clip(first + noise, 0, 255).astype(np.uint8)
    axis = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(axis, axis) / axis.sum() ** 2
    values = []
    for channel in range(3):
        for top in range(first.shape[0] - 10):
            for left in range(first.shape[1] - 10):
                a, b = (one[top : top + 11, left : left + 11, channel].astype(np.float64) for one in (first, second))
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
                both = (window * (a - mean_a) * (b - mean_b)).sum()
                c1, c2 = 2.55**2, 7.65**2
                values.append(
                    (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
                )
    assert ssim(first, second) == pytest.approx(np.mean(values), abs=2e-4)


def test_ssim_of_equal_pictures_is_one():
    picture = landscape((64, 48), seeded(2, "ssim"))
    assert ssim(picture, picture) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("hits", "tries", "low", "high"), [(15, 15, 0.796, 1.0), (0, 20, 0.0, 0.161), (5, 10, 0.237, 0.763), (0, 0, 0, 1)]
)
def test_the_interval_is_wilsons(hits, tries, low, high):
    assert wilson(hits, tries) == pytest.approx((low, high), abs=1e-3)


@pytest.mark.parametrize("tries", range(1, 60))
def test_the_interval_holds_the_share_to_the_last_digit(tries):
    """Plots draw bars from the share to its bounds: one a float's last digit short of it cannot be drawn."""
    for hits in range(tries + 1):
        low, high = wilson(hits, tries)
        assert low <= hits / tries <= high
