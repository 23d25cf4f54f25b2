"""Which texels of a flat face show the face itself: a skin-colour model per picture, soft, with the middle exempt.

A colour model keeps hair, hats, spectacle arms and most hands out of the swap. It cannot tell a hand in front of a
cheek, or blond hair on fair skin, from the face; that takes a trained occlusion model.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.faces.atlas import CONTROL, CONTROL_SIDE
from worker.faces.types import Floats, Rgb


@dataclass(frozen=True)
class SkinModel:
    """Mean and inverse covariance of a face's skin in OpenCV's 8-bit Lab; float64 [3] and [3, 3]."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def blend(self, newer: "SkinModel", weight: float) -> "SkinModel":
        """Move towards `newer` by `weight` 0..1."""
        return SkinModel(
            mean=self.mean + weight * (newer.mean - self.mean),
            covariance=self.covariance + weight * (newer.covariance - self.covariance),
        )


# Least spread: light falls differently on every part of a face, most of all its lightness.
_FLOOR = np.diag([14.0**2, 3.5**2, 3.5**2])


def to_lab(flat: Rgb) -> Floats:
    """8-bit Lab of a flat face as float32 [128, 128, 3]."""
    return np.asarray(cv2.cvtColor(flat, cv2.COLOR_RGB2LAB), np.float32)


def fit_skin(lab: Floats, seen: NDArray[np.bool_]) -> SkinModel | None:
    """Fit the model to the sure-skin texels that are `seen` (bool [128, 128]); None if too few are."""
    pixels = lab[CONTROL.samples & seen].astype(np.float64)
    if len(pixels) < 50:
        return None
    middle = np.median(pixels, axis=0)
    away = np.abs(pixels - middle)
    pixels = pixels[(away / (np.median(away, axis=0) * 1.48 + 2) < 3).all(axis=1)]
    if len(pixels) < 20:
        return None
    return SkinModel(mean=pixels.mean(axis=0), covariance=np.cov(pixels.T) + _FLOOR)


def likeness(lab: Floats, model: SkinModel, *, near: float, far: float, shrink: int, bridged: int) -> Floats:
    """Soft skin mask float32 [128, 128]: 1 within `near` standard deviations of the skin colour, 0 beyond `far`.

    It is shrunk by `shrink` texels, so that the rim of hair and its shadow stay out as well. Level gaps up to `bridged`
    texels high are closed: the arm of a pair of spectacles has skin above and below, hair at the temple has not.
    """
    away = (lab - model.mean.astype(np.float32)).reshape(-1, 3)
    inverse = np.linalg.inv(model.covariance).astype(np.float32)
    distance = np.sqrt(np.maximum(((away @ inverse) * away).sum(axis=1), 0)).reshape(CONTROL_SIDE, CONTROL_SIDE)
    soft = (np.clip((far - distance) / (far - near), 0, 1) * 255).astype(np.uint8)
    soft = cv2.medianBlur(soft, 5)
    soft = cv2.morphologyEx(soft, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    # Closed first: a mole or a highlight is no hole to be grown.
    soft = cv2.morphologyEx(soft, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    if bridged:
        soft = cv2.morphologyEx(soft, cv2.MORPH_CLOSE, np.ones((bridged, 1), np.uint8))
    soft = cv2.erode(soft, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * shrink + 1, 2 * shrink + 1)))
    return np.asarray(cv2.GaussianBlur(soft, (0, 0), 2.0), np.float32) / 255.0


def validity(lab: Floats, model: SkinModel | None, *, near: float, far: float, shrink: int, bridged: int = 0) -> Floats:
    """`likeness` with the middle of the face exempt; 1 everywhere on the face if there is no model."""
    if model is None:
        return CONTROL.covered.astype(np.float32)
    soft = np.maximum(likeness(lab, model, near=near, far=far, shrink=shrink, bridged=bridged), CONTROL.centre)
    return np.where(CONTROL.covered, soft, 0).astype(np.float32)
