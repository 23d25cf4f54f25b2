"""Group F: attempts to remove a mark with means everybody has, and no trained model."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark.bench.attack_kit import LEAST_SIDE, RGB, Attack, attacks_of, jpeg, plain, resized, scaled, whole_levels
from watermark.bench.attacks_value import noise


def non_local_means(rgb: RGB, strength: float) -> RGB:
    """Non-local means (Buades, Coll, Morel 2005) on luma and chroma."""
    return np.asarray(cv2.fastNlMeansDenoisingColored(rgb, None, strength, strength, 5, 15), np.uint8)


def bilateral(rgb: RGB, diameter: int, tone: float, reach: float) -> RGB:
    """Bilateral filter (Tomasi, Manduchi 1998)."""
    return np.asarray(cv2.bilateralFilter(rgb, diameter, tone, reach), np.uint8)


def down_noise_up(rgb: RGB, generator: np.random.Generator) -> RGB:
    """To 35 % of the size, noise of sigma 5 there, and back."""
    return resized(noise(scaled(rgb, 0.35), generator, 5), (rgb.shape[1], rgb.shape[0]))


def jitter_warp(rgb: RGB, generator: np.random.Generator) -> RGB:
    """Random bending after StirMark (Petitcolas, Anderson, Kuhn 1998): smooth shifts up to 0.3 % of the short side."""
    height, width = rgb.shape[:2]
    y, x = np.indices((height, width), np.float32)
    most = 0.003 * min(height, width)
    shifts = [
        cv2.resize(
            generator.uniform(-most, most, (7, 9)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
        for _ in range(2)
    ]
    return np.asarray(
        cv2.remap(rgb, x + shifts[0], y + shifts[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101), np.uint8
    )


def drop_rows_and_columns(rgb: RGB, generator: np.random.Generator) -> RGB:
    """Leave out one row and one column in a hundred, by chance (StirMark)."""
    kept = [
        np.sort(generator.permutation(side)[: max(LEAST_SIDE, side - max(1, side // 100))]) for side in rgb.shape[:2]
    ]
    return np.ascontiguousarray(rgb[kept[0]][:, kept[1]])


def total_variation(rgb: RGB, weight: float = 8.0, rounds: int = 25) -> RGB:
    """Total-variation denoising by Chambolle's projection (2004), per channel; `weight` in grey levels."""

    def divergence(px: NDArray[np.float32], py: NDArray[np.float32]) -> NDArray[np.float32]:
        result = px + py
        result[:, 1:] -= px[:, :-1]
        result[1:] -= py[:-1]
        return result

    values = rgb.astype(np.float32)
    result = np.empty_like(values)
    for channel in range(3):
        plane = np.ascontiguousarray(values[..., channel])
        px, py, dx, dy = (np.zeros_like(plane) for _ in range(4))
        for _ in range(rounds):
            step = divergence(px, py) - plane / weight
            dx[:, :-1] = step[:, 1:] - step[:, :-1]
            dy[:-1] = step[1:] - step[:-1]
            shrink = 1 + 0.25 * np.sqrt(dx * dx + dy * dy)
            px += 0.25 * dx
            py += 0.25 * dy
            px /= shrink
            py /= shrink
        result[..., channel] = plane - weight * divergence(px, py)
    return whole_levels(result)


REMOVAL: list[Attack] = attacks_of(
    "removal",
    [
        ("nlm_8", plain(lambda rgb: non_local_means(rgb, 8)), "non-local means, h = 8"),
        ("bilateral", plain(lambda rgb: bilateral(rgb, 9, 40, 5)), "bilateral filter, 9 px, tone 40"),
        ("down_noise_up", down_noise_up, "to 35 %, noise, back"),
        ("jitter_warp", jitter_warp, "random bending"),
        ("row_col_drop", drop_rows_and_columns, "1 % of the rows and columns left out"),
        (
            "bilateral_q60",
            plain(lambda rgb: jpeg(bilateral(rgb, 11, 80, 7), 60)),
            "strong bilateral filter, then JPEG 60",
        ),
        ("total_variation", plain(total_variation), "total-variation denoising"),
    ],
)
