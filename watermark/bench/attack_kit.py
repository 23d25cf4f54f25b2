"""What an attack is, and the few picture operations that several groups of attacks are made of."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

RGB = NDArray[np.uint8]
Group = Literal["valuemetric", "codec", "geometric", "occlusion", "chain", "removal"]
GROUPS: tuple[Group, ...] = ("valuemetric", "codec", "geometric", "occlusion", "chain", "removal")
LEAST_SIDE = 64
"""No attack leaves a side shorter than this, in pixels: what remains would be no picture of use to anybody."""


@dataclass(frozen=True)
class Attack:
    """One way a marked picture is hurt: `apply(uint8 [H, W, 3] RGB, generator)` returns another uint8 [h, w, 3] RGB.

    The same picture and a generator in the same state give the same result. `what` says in a few words what is done.
    """

    name: str
    group: Group
    apply: Callable[[RGB, np.random.Generator], RGB]
    what: str

    def __call__(self, rgb: RGB, generator: np.random.Generator) -> RGB:
        """Apply the attack."""
        return self.apply(rgb, generator)


def plain(function: Callable[[RGB], RGB]) -> Callable[[RGB, np.random.Generator], RGB]:
    """An attack without chance, given the signature of one with it."""
    return lambda rgb, generator: function(rgb)


def in_turn(*steps: Callable[[RGB, np.random.Generator], RGB]) -> Callable[[RGB, np.random.Generator], RGB]:
    """The attack that does `steps` one after the other."""

    def apply(rgb: RGB, generator: np.random.Generator) -> RGB:
        for step in steps:
            rgb = step(rgb, generator)
        return rgb

    return apply


def whole_levels(values: NDArray[np.floating]) -> RGB:
    """Round and clip float [H, W, 3] to uint8."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def resized(rgb: RGB, size: tuple[int, int]) -> RGB:
    """Resize to `size` (width, height), each side at least LEAST_SIDE; area average down, bicubic up."""
    width, height = max(LEAST_SIDE, size[0]), max(LEAST_SIDE, size[1])
    down = width * height < rgb.shape[0] * rgb.shape[1]
    return np.asarray(
        cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA if down else cv2.INTER_CUBIC), np.uint8
    )


def scaled(rgb: RGB, factor: float) -> RGB:
    """Resize by `factor`, or by as much of it as LEAST_SIDE allows."""
    factor = max(factor, LEAST_SIDE / min(rgb.shape[:2]))
    return resized(rgb, (round(rgb.shape[1] * factor), round(rgb.shape[0] * factor)))


def long_side(rgb: RGB, longest: int) -> RGB:
    """Shrink so that the longer side is `longest`; smaller pictures stay as they are, as platforms leave them."""
    factor = longest / max(rgb.shape[:2])
    return scaled(rgb, factor) if factor < 1 else rgb


def cropped(rgb: RGB, area: float, generator: np.random.Generator) -> RGB:
    """Keep the fraction `area` of the picture: a rectangle of its shape at a seeded place."""
    height, width = rgb.shape[:2]
    side = math.sqrt(area)
    w, h = min(width, max(LEAST_SIDE, round(width * side))), min(height, max(LEAST_SIDE, round(height * side)))
    left, top = int(generator.integers(0, width - w + 1)), int(generator.integers(0, height - h + 1))
    return rgb[top : top + h, left : left + w].copy()


def through_pillow(rgb: RGB, kind: str, **options: int | bool | str) -> RGB:
    """Encode with Pillow as `kind` ("JPEG", "WEBP", ...) and decode again."""
    data = io.BytesIO()
    Image.fromarray(rgb).save(data, kind, **options)
    with Image.open(data) as image:
        return np.asarray(image.convert("RGB"), np.uint8).copy()


def jpeg(rgb: RGB, quality: int) -> RGB:
    """JPEG with chroma 4:2:0, as phones and platforms write it."""
    return through_pillow(rgb, "JPEG", quality=quality, subsampling=2)


def webp(rgb: RGB, quality: int) -> RGB:
    """Lossy WebP."""
    return through_pillow(rgb, "WEBP", quality=quality, method=4)


def avif(rgb: RGB, quality: int) -> RGB:
    """AVIF with chroma 4:2:0, as Pillow writes it on one thread."""
    return through_pillow(rgb, "AVIF", quality=quality, subsampling="4:2:0", speed=7, max_threads=1)


def warped(rgb: RGB, matrix: NDArray[np.floating], size: tuple[int, int]) -> RGB:
    """Warp by a 2x3 affine or 3x3 projective `matrix` onto a black canvas of `size` (width, height)."""
    if matrix.shape == (2, 3):
        matrix = np.vstack([matrix, [0, 0, 1]])
    return np.asarray(cv2.warpPerspective(rgb, matrix, size, flags=cv2.INTER_CUBIC), np.uint8)


def attacks_of(
    group: Group, rows: Sequence[tuple[str, Callable[[RGB, np.random.Generator], RGB], str]]
) -> list[Attack]:
    """Attacks of one group from rows (name, apply, what)."""
    return [Attack(name, group, apply, what) for name, apply, what in rows]
