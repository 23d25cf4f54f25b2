"""A picture as a camera sees it on a screen or a halftone print, and a film of a screen that flickers. Simulated."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
FINE = 6  # samples of the surface per pixel of the screen


def on_screen(
    rgb: Rgb, *, zoom: float, degrees: float = 2.0, tilt: float = 0.03, blur: float = 0.5, quality: int = 90
) -> Rgb:
    """`rgb` [H, W, 3] shown pixel by pixel in three coloured stripes with dark gaps, then photographed: `zoom` camera
    pixels for each of the screen's, turned by `degrees`, one side further away by `tilt`, through a lens that blurs."""
    surface = np.repeat(np.repeat(rgb, FINE, axis=0), FINE, axis=1)
    height, width = surface.shape[:2]
    rows, columns = np.arange(height) % FINE, np.arange(width) % FINE
    lit = np.zeros((height, width, 3), np.float32)
    for colour in range(3):
        lit[..., colour] = (columns // 2 == colour)[None, :] * (rows < FINE - 1)[:, None]
    light = (surface.astype(np.float32) * lit) * (3 * FINE / (FINE - 1))
    return _photographed(light, zoom, degrees, tilt, blur, quality)


def on_print(rgb: Rgb, *, zoom: float, degrees: float = 2.0, tilt: float = 0.03, quality: int = 90) -> Rgb:
    """As `on_screen`, in black dots whose size gives the tone, on a grid turned by 45 degrees."""
    surface = np.repeat(np.repeat(rgb, FINE, axis=0), FINE, axis=1).astype(np.float32)
    height, width = surface.shape[:2]
    down, across = np.mgrid[:height, :width].astype(np.float32) * (2 * np.pi / (2 * FINE))
    dots = (np.cos((down + across) * 0.7071) + np.cos((down - across) * 0.7071) + 2) / 4
    light = 255.0 * np.clip((surface / 255.0 - dots[..., None]) * 4 + 0.5, 0, 1)
    return _photographed(light.astype(np.float32), zoom, degrees, tilt, 0.5, quality)


def _photographed(
    light: NDArray[np.float32], zoom: float, degrees: float, tilt: float, blur: float, quality: int
) -> Rgb:
    height, width = light.shape[:2]
    scale = zoom / FINE
    reduced = cv2.GaussianBlur(light, (0, 0), max(0.35 / scale, 0.1))  # the area of one camera pixel
    size = (round(width * scale), round(height * scale))
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.12)
    seen = (np.c_[corners, np.ones(4)] @ turn.T) * [size[0] / width, size[1] / height]
    seen[1] += [-tilt * size[0], tilt * size[1]]
    seen[2] += [-tilt * size[0], -tilt * size[1]]
    matrix = cv2.getPerspectiveTransform(corners, seen.astype(np.float32))
    photo = cv2.warpPerspective(reduced, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    photo = cv2.GaussianBlur(photo, (0, 0), blur)
    photo += np.random.default_rng(5).normal(0, 1.5, photo.shape).astype(np.float32)
    return jpeg(np.clip(photo, 0, 255).astype(np.uint8), quality)


def jpeg(rgb: Rgb, quality: int) -> Rgb:
    """`rgb` once through JPEG."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), np.uint8)


def scaled(rgb: Rgb, factor: float) -> Rgb:
    """`rgb` resized by `factor`."""
    return np.asarray(cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)


def banded(rgb: Rgb, *, frames: int = 6, depth: float = 0.06, cycles: float = 2.3, step: float = 0.17) -> list[Rgb]:
    """Frames of a still screen whose refresh beats with a rolling shutter: `cycles` bands wander by `step` of one."""
    rows = np.arange(rgb.shape[0])[:, None, None] / rgb.shape[0]
    found = []
    for number in range(frames):
        gain = 1 + depth * np.sin(2 * np.pi * (cycles * rows + step * number))
        found.append(np.clip(rgb * gain, 0, 255).astype(np.uint8))
    return found
