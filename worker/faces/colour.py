"""Bring the source's colours and light to those of the target, comparing both faces texel by texel.

Colour: mean and spread of luma and chroma are matched (after Reinhard et al. 2001), as one affine map of RGB, because
an affine map costs nine multiplications per pixel and no change of colour space. Light: what differs beyond that at
low frequency, side light above all, is added as a smooth field.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.faces.types import Floats

# BT.601 luma and scaled differences: any fixed opponent space serves, the map is brought back to RGB.
_OPPONENT: Final = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])
_BACK: Final = np.linalg.inv(_OPPONENT)
# Bounds of the change of contrast. Raising a dark, noisy skin's contrast raises its noise; raising chroma paints lips.
_LUMA_GAIN: Final = (0.7, 1.6)
_CHROMA_GAIN: Final = (0.3, 1.15)
_LEAST_TEXELS: Final = 150


@dataclass(frozen=True)
class ColourMap:
    """`rgb' = matrix @ rgb + shift`, float64 [3, 3] and [3], values 0..255."""

    matrix: NDArray[np.float64]
    shift: NDArray[np.float64]

    @classmethod
    def identity(cls) -> "ColourMap":
        return cls(np.eye(3), np.zeros(3))

    def blend(self, newer: "ColourMap", weight: float) -> "ColourMap":
        """Move towards `newer` by `weight` 0..1."""
        return ColourMap(
            matrix=self.matrix + weight * (newer.matrix - self.matrix),
            shift=self.shift + weight * (newer.shift - self.shift),
        )

    def apply(self, rgb: Floats) -> Floats:
        """Map float32 [H, W, 3]."""
        return (rgb.reshape(-1, 3) @ self.matrix.T.astype(np.float32) + self.shift.astype(np.float32)).reshape(
            rgb.shape
        )


def match(source: Floats, target: Floats, skin: NDArray[np.bool_]) -> ColourMap | None:
    """The map that brings the source's skin to the target's; both float32 [128, 128, 3]. None with too little skin."""
    if int(skin.sum()) < _LEAST_TEXELS:
        return None
    # A quarter of the texels tells as much: they are neighbours.
    a = source[skin][::4].astype(np.float64) @ _OPPONENT.T
    b = target[skin][::4].astype(np.float64) @ _OPPONENT.T
    # The spread is measured between the deciles: a highlight or a mole must not set the contrast of the whole face.
    spread_a = np.subtract(*np.percentile(a, [90, 10], axis=0))
    spread_b = np.subtract(*np.percentile(b, [90, 10], axis=0))
    gain = spread_b / (spread_a + 1e-3)
    gain[0] = np.clip(gain[0], *_LUMA_GAIN)
    # Both chroma axes get one gain, or hues would turn.
    gain[1:] = np.clip(np.sqrt(gain[1] * gain[2]), *_CHROMA_GAIN)
    matrix = _BACK @ np.diag(gain) @ _OPPONENT
    shift = _BACK @ (np.median(b, axis=0) - gain * np.median(a, axis=0))
    return ColourMap(matrix, shift)


def light(source: Floats, target: Floats, weight: Floats, strength: float) -> Floats:
    """The smooth field float32 [128, 128, 3] to add to the matched source, from texels weighted by `weight` 0..1.

    Normalised convolution: texels without weight take the light of their surroundings, fading out far from any.
    """
    quarter = (source.shape[1] // 4, source.shape[0] // 4)
    difference = cv2.resize((target - source) * weight[..., None], quarter, interpolation=cv2.INTER_AREA)
    known = cv2.resize(weight, quarter, interpolation=cv2.INTER_AREA)
    sigma = 0.075 * quarter[0]
    field = cv2.GaussianBlur(difference, (0, 0), sigma) / (cv2.GaussianBlur(known, (0, 0), sigma)[..., None] + 0.02)
    field = cv2.resize(field * np.float32(strength), (source.shape[1], source.shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(field, np.float32)
