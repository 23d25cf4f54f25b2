"""What a cheap camera adds: noise, an exposure that drifts, a little blur."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from worker.faces.types import Rgb


def filmed(
    frames: Iterable[Rgb], fps: float, seed: int = 0, *, noise: float = 3.0, light: float = 1.0
) -> Iterator[Rgb]:
    """`frames` as a sensor would give them; `noise` is its standard deviation in grey levels, `light` a gain."""
    rng = np.random.default_rng(seed)
    phase, pace = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.2)
    grain = None
    for number, rgb in enumerate(frames):
        height, width = rgb.shape[:2]
        if grain is None:
            # One field of noise, read from another corner each time, looks the same and costs a tenth.
            grain = rng.normal(0, noise, (height + 64, width + 64, 1)).astype(np.float32)
        x, y = rng.integers(0, 64, 2)
        gain = light * (1 + 0.06 * np.sin(phase + 2 * np.pi * pace * number / fps))
        soft = cv2.GaussianBlur(rgb, (0, 0), 0.6).astype(np.float32) * gain
        yield np.clip(soft + grain[y : y + height, x : x + width], 0, 255).astype(np.uint8)
