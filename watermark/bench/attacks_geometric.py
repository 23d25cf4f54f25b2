"""Group C: attacks that move pixels."""

from __future__ import annotations

import math

import cv2
import numpy as np

from watermark.bench.attack_kit import LEAST_SIDE, RGB, Attack, attacks_of, plain, resized, scaled, warped


def there_and_back(rgb: RGB, factor: float) -> RGB:
    """Scale by `factor` and back to the first size."""
    return resized(scaled(rgb, factor), (rgb.shape[1], rgb.shape[0]))


def stretched(rgb: RGB, factor: float) -> RGB:
    """Scale the width alone."""
    return resized(rgb, (round(rgb.shape[1] * factor), rgb.shape[0]))


def turned(rgb: RGB, degrees: float, *, corners: bool) -> RGB:
    """Turn counter-clockwise about the middle.

    With `corners` the canvas grows and its corners are black; without, the largest rectangle of the picture's shape
    without any black is cut out.
    """
    height, width = rgb.shape[:2]
    radians = math.radians(degrees)
    cosine, sine = abs(math.cos(radians)), abs(math.sin(radians))
    if corners:
        size = (round(width * cosine + height * sine), round(width * sine + height * cosine))
    else:
        inside = min(width / (width * cosine + height * sine), height / (width * sine + height * cosine))
        size = (max(LEAST_SIDE, int(width * inside)), max(LEAST_SIDE, int(height * inside)))
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    matrix[:, 2] += (np.array(size) - (width, height)) / 2
    return warped(rgb, matrix, size)


def turned_either_way(rgb: RGB, generator: np.random.Generator, degrees: float, *, corners: bool) -> RGB:
    """As `turned`, left or right by chance."""
    return turned(rgb, degrees * float(generator.choice([-1, 1])), corners=corners)


def perspective(rgb: RGB, generator: np.random.Generator, most: float) -> RGB:
    """Move each corner by up to `most` of the side, in and out; black where nothing lands."""
    height, width = rgb.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners + generator.uniform(-most, most, (4, 2)) * (width, height)
    return warped(rgb, cv2.getPerspectiveTransform(corners, moved.astype(np.float32)), (width, height))


def shear(rgb: RGB, generator: np.random.Generator) -> RGB:
    """Slant sideways by 5 degrees, left or right, on the picture's own canvas."""
    height, width = rgb.shape[:2]
    slope = math.tan(math.radians(5)) * float(generator.choice([-1, 1]))
    return warped(rgb, np.array([[1, slope, -slope * height / 2], [0, 1, 0]]), (width, height))


def small_affine(rgb: RGB, generator: np.random.Generator) -> RGB:
    """A general linear map: each entry up to 3 % off the identity, about the middle."""
    height, width = rgb.shape[:2]
    linear = np.eye(2) + generator.uniform(-0.03, 0.03, (2, 2))
    middle = np.array([width / 2, height / 2])
    return warped(rgb, np.column_stack([linear, middle - linear @ middle]), (width, height))


def barrel(rgb: RGB, generator: np.random.Generator) -> RGB:
    """Lens distortion r' = r (1 + k r^2), k = +-0.04, r = 1 in the corner, scaled so that nothing black shows."""
    height, width = rgb.shape[:2]
    k = 0.04 * float(generator.choice([-1, 1]))
    y, x = np.indices((height, width), np.float32)
    x, y = x - (width - 1) / 2, y - (height - 1) / 2
    radius = (x * x + y * y) / ((width / 2) ** 2 + (height / 2) ** 2)
    # The long side's middle would look furthest outside where k < 0 and the corner where k > 0.
    widest = 1 + k if k > 0 else 1 + k * min(width, height) ** 2 / (width**2 + height**2)
    grow = ((1 + k * radius) / widest).astype(np.float32)
    return np.asarray(
        cv2.remap(
            rgb,
            (x * grow + (width - 1) / 2).astype(np.float32),
            (y * grow + (height - 1) / 2).astype(np.float32),
            cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT_101,
        ),
        np.uint8,
    )


def translation(rgb: RGB, generator: np.random.Generator) -> RGB:
    """Shift by 3 to 10 % of each side, parts of a pixel included; what comes in is black."""
    height, width = rgb.shape[:2]
    shift = generator.uniform(0.03, 0.1, 2) * generator.choice([-1, 1], 2) * (width, height)
    return warped(rgb, np.array([[1, 0, shift[0]], [0, 1, shift[1]]]), (width, height))


def _turn(degrees: float, corners: bool) -> Attack:
    where = "corners" if corners else "inside"
    what = "with black corners" if corners else "cut to the inside"
    return Attack(
        f"rot_{degrees:g}_{where}",
        "geometric",
        lambda rgb, generator: turned_either_way(rgb, generator, degrees, corners=corners),
        f"turned by {degrees:g} degrees, {what}",
    )


GEOMETRIC: list[Attack] = [
    *attacks_of(
        "geometric",
        [
            ("scale_0.25_kept", plain(lambda rgb: scaled(rgb, 0.25)), "a quarter of the size, kept small"),
            ("scale_0.5_kept", plain(lambda rgb: scaled(rgb, 0.5)), "half the size, kept small"),
            ("scale_0.75_kept", plain(lambda rgb: scaled(rgb, 0.75)), "three quarters of the size, kept"),
            ("scale_0.5_back", plain(lambda rgb: there_and_back(rgb, 0.5)), "half the size and back"),
            ("scale_1.5_kept", plain(lambda rgb: scaled(rgb, 1.5)), "one and a half times the size, kept"),
            ("scale_2_kept", plain(lambda rgb: scaled(rgb, 2.0)), "twice the size, kept"),
            ("aspect_0.8", plain(lambda rgb: stretched(rgb, 0.8)), "width by 0.8"),
            ("aspect_1.25", plain(lambda rgb: stretched(rgb, 1.25)), "width by 1.25"),
            ("flip_h", plain(lambda rgb: np.ascontiguousarray(rgb[:, ::-1])), "mirrored left to right"),
            ("flip_v", plain(lambda rgb: np.ascontiguousarray(rgb[::-1])), "mirrored top to bottom"),
            ("rot_90", plain(lambda rgb: np.ascontiguousarray(np.rot90(rgb, 1))), "quarter turn"),
            ("rot_180", plain(lambda rgb: np.ascontiguousarray(np.rot90(rgb, 2))), "half turn"),
            ("rot_270", plain(lambda rgb: np.ascontiguousarray(np.rot90(rgb, 3))), "three quarter turns"),
        ],
    ),
    _turn(1, False),
    _turn(3, False),
    _turn(5, False),
    _turn(10, False),
    _turn(30, True),
    _turn(45, True),
    *attacks_of(
        "geometric",
        [
            ("perspective_3", lambda rgb, generator: perspective(rgb, generator, 0.03), "corners moved by up to 3 %"),
            ("perspective_8", lambda rgb, generator: perspective(rgb, generator, 0.08), "corners moved by up to 8 %"),
            ("shear_5", shear, "slanted by 5 degrees"),
            ("affine_small", small_affine, "linear map up to 3 % off the identity"),
            ("barrel", barrel, "lens distortion of 4 % in the corner"),
            ("translation", translation, "shifted by 3 to 10 %, black margin"),
        ],
    ),
]
