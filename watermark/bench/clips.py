"""Moving pictures made by rule: a pan over a landscape, a talking head, and a slow sky with little to hold on to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark.bench.attack_kit import RGB
from watermark.bench.attacks import seeded
from watermark.bench.scenes import cloud, landscape, skin

FRAME_RATE = 24
I420 = NDArray[np.uint8]
"""Planar 4:2:0, uint8 [H * 3 / 2, W]: luma, then Cb and Cr packed below it; limited range."""


@dataclass(frozen=True)
class Clip:
    """`size` (width, height), both even. `shots(generator)` gives the frame of a time in seconds; `grain` in levels."""

    name: str
    size: tuple[int, int]
    shots: Callable[[np.random.Generator], Callable[[float], RGB]]
    grain: float

    def frames(self, count: int, seed: int) -> Iterator[I420]:
        """The first `count` frames, each an array of its own."""
        draw = seeded(seed, "clip", self.name)
        shot = self.shots(draw)
        width, height = self.size
        for index in range(count):
            planes = np.asarray(cv2.cvtColor(shot(index / FRAME_RATE), cv2.COLOR_RGB2YUV_I420), np.uint8)
            noise = draw.standard_normal((height, width), np.float32)
            cv2.addWeighted(planes[:height], 1.0, noise, self.grain, 0.0, dst=planes[:height], dtype=cv2.CV_8U)
            yield planes


def planes_of(frame: I420) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Views of Y, Cb and Cr."""
    height, width = frame.shape[0] * 2 // 3, frame.shape[1]
    flat = frame.reshape(-1)
    area, quarter = height * width, height * width // 4
    half = (height // 2, width // 2)
    return (
        flat[:area].reshape(height, width),
        flat[area : area + quarter].reshape(half),
        flat[area + quarter :].reshape(half),
    )


def _camera(canvas: RGB, size: tuple[int, int], *, zoom: float, x: float, y: float, turn: float) -> RGB:
    """The part of `canvas` a camera sees: middle at (x, y) of its size, `zoom` frame pixels per canvas pixel."""
    width, height = size
    middle = (x * canvas.shape[1], y * canvas.shape[0])
    matrix = cv2.getRotationMatrix2D(middle, turn, zoom)
    matrix[:, 2] += (width / 2 - middle[0], height / 2 - middle[1])
    return np.asarray(cv2.warpAffine(canvas, matrix, size, borderMode=cv2.BORDER_REFLECT_101), np.uint8)


def _pan(draw: np.random.Generator) -> Callable[[float], RGB]:
    canvas = landscape((2560, 1440), draw)
    return lambda t: _camera(
        canvas, (1920, 1080), zoom=0.95 + 0.02 * t, x=0.42 + 0.02 * t, y=0.5 + 0.004 * t, turn=0.3 * math.sin(t)
    )


def _talk(draw: np.random.Generator) -> Callable[[float], RGB]:
    size = (1080, 1920)
    still = skin(size, draw)
    y, x = np.indices((size[1], size[0]), np.float32)
    mouth = np.exp(-(((x - 540) / 170) ** 2) - ((y - 1024) / 110) ** 2).astype(np.float32)
    head = np.exp(-(((x - 540) / 520) ** 2) - ((y - 860) / 620) ** 2).astype(np.float32)

    def shot(t: float) -> RGB:
        sway, nod = 9 * math.sin(1.3 * t), 6 * math.sin(1.9 * t + 1)
        spoken = 12 * math.sin(9 * t) * math.sin(2.3 * t)
        moved_y = y + nod * head + spoken * mouth
        return np.asarray(cv2.remap(still, x + sway * head, moved_y, cv2.INTER_LINEAR), np.uint8)

    return shot


def _slow_sky(draw: np.random.Generator) -> Callable[[float], RGB]:
    side = 1600
    down = np.linspace(0, 1, side, dtype=np.float32)[:, None]
    wisps = cloud((2048, side), draw, 3.4)
    colours = np.array([[80, 128, 190], [215, 222, 228]], np.float32)

    def shot(t: float) -> RGB:
        left = round(30 * t)
        light = np.clip(0.75 * down + 0.06 * wisps[:, left : left + side], 0, 1)[..., None]
        return (colours[0] + (colours[1] - colours[0]) * light + 0.5).astype(np.uint8)

    return shot


CLIPS: dict[str, Clip] = {
    clip.name: clip
    for clip in (
        Clip("pan", (1920, 1080), _pan, 2.0),
        Clip("talk", (1080, 1920), _talk, 1.5),
        Clip("sky", (1600, 1600), _slow_sky, 0.8),
    )
}
