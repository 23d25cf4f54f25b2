"""Similarity alignment: fits between point sets, the templates of the field, and crops taken along them.

A transform is float64 [2, 3] and maps image points to points of the crop: `crop = M @ (x, y, 1)`.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.faces.types import Floats, Rgb

Affine = NDArray[np.float64]

# Mesh points that stand for the five points of the field's templates: eye centres, nose tip, mouth corners. Each is
# the mean of a group; "right" is the person's own and comes first, as in the templates (left in the image).
_FIVE: Final = ((33, 133), (362, 263), (1,), (61,), (291,))

# Templates in units of the crop's side (FaceFusion's names and numbers), rows as above.
TEMPLATES: Final[dict[str, tuple[tuple[float, float], ...]]] = {
    "arcface_112_v1": ((0.3547, 0.4566), (0.6453, 0.4566), (0.5000, 0.6115), (0.3791, 0.7769), (0.6209, 0.7769)),
    "arcface_112_v2": ((0.3419, 0.4616), (0.6565, 0.4598), (0.5002, 0.6405), (0.3710, 0.8247), (0.6315, 0.8233)),
    "arcface_128": ((0.3617, 0.4039), (0.6370, 0.4024), (0.5002, 0.5604), (0.3871, 0.7216), (0.6151, 0.7203)),
    "ffhq_512": ((0.3769, 0.4686), (0.6229, 0.4691), (0.5012, 0.6133), (0.3931, 0.7254), (0.6115, 0.7249)),
    "mtcnn_512": ((0.3656, 0.4673), (0.6331, 0.4659), (0.5002, 0.6194), (0.3903, 0.7760), (0.6118, 0.7748)),
    # Ours: where DESCRIPTOR_TEMPLATE below puts the five points, for the built-in descriptor without a mesh.
    "dlib_150": ((0.3273, 0.3067), (0.6673, 0.3067), (0.4773, 0.5573), (0.3560, 0.6907), (0.6373, 0.6920)),
}

# Eight mesh points and where dlib's own alignment puts them in its 150-pixel chip, symmetrised about the middle.
DESCRIPTOR_POINTS: Final = (33, 133, 362, 263, 2, 61, 291, 1)
DESCRIPTOR_SIDE: Final = 150
DESCRIPTOR_TEMPLATE: Final = (
    (37.8, 45.0),
    (60.4, 47.0),
    (88.2, 47.0),
    (112.0, 45.0),
    (72.7, 87.5),
    (53.4, 103.6),
    (95.6, 103.8),
    (71.6, 83.6),
)


def similarity(points: NDArray[np.floating], target: NDArray[np.floating]) -> Affine:
    """Least-squares similarity (turn, scale, shift; no mirror) from `points` to `target`, both [N, 2], N >= 2.

    Umeyama 1991 for the plane, in closed form with complex numbers.
    """
    source = np.asarray(points, np.float64)
    wanted = np.asarray(target, np.float64)
    source_mean, wanted_mean = source.mean(axis=0), wanted.mean(axis=0)
    a = (source - source_mean) @ np.array([1, 1j])
    b = (wanted - wanted_mean) @ np.array([1, 1j])
    factor = np.vdot(a, b) / np.vdot(a, a)
    matrix = np.array([[factor.real, -factor.imag, 0.0], [factor.imag, factor.real, 0.0]])
    matrix[:, 2] = wanted_mean - matrix[:, :2] @ source_mean
    return matrix


def scale_of(matrix: Affine) -> float:
    """Crop pixels per image pixel of a similarity."""
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def square(centre: NDArray[np.floating], side: float, angle: float, out: int) -> Affine:
    """The transform that cuts a square of `side` image pixels, turned by `angle` radians, to `out` pixels."""
    scale = out / side
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    x, y = float(centre[0]), float(centre[1])
    half = out / 2
    return np.array([[cos, sin, half - cos * x - sin * y], [-sin, cos, half + sin * x - cos * y]])


def invert(matrix: Affine) -> Affine:
    """The transform back from crop to image."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.concatenate([linear, -linear @ matrix[:, 2:]], axis=1)


def apply(matrix: Affine, points: Floats) -> Floats:
    """Map points float32 [N, 2] or [N, 3]; z is scaled with the picture."""
    mapped = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    if points.shape[1] == 3:
        mapped = np.concatenate([mapped, points[:, 2:] * scale_of(matrix)], axis=1)
    return mapped.astype(np.float32)


def warp(rgb: Rgb, matrix: Affine, out: int, *, border: int = cv2.BORDER_CONSTANT) -> Rgb:
    """Cut the square crop uint8 [out, out, 3] that `matrix` describes.

    A crop much smaller than its part of the image is first reduced by area averaging: a plain warp would skip pixels,
    and the nets see the aliasing. Only the needed part of the image is touched, whatever the image's size.
    """
    scale = scale_of(matrix)
    corners = apply(invert(matrix), np.array([[0, 0], [out, 0], [out, out], [0, out]], np.float32))
    height, width = rgb.shape[:2]
    x0, y0 = np.floor(corners.min(axis=0)).astype(int) - 2
    x1, y1 = np.ceil(corners.max(axis=0)).astype(int) + 3
    x0, x1 = int(np.clip(x0, 0, width - 1)), int(np.clip(x1, 1, width))
    y0, y1 = int(np.clip(y0, 0, height - 1)), int(np.clip(y1, 1, height))
    part = rgb[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2] @ np.array([x0, y0])
    if scale < 0.6:
        small = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
        across, down = part.shape[1] / small[0], part.shape[0] / small[1]
        part = cv2.resize(part, small, interpolation=cv2.INTER_AREA)
        # Pixel centres, not corners, keep their place when an image is resized.
        shifted[:, 2] += shifted[:, :2] @ np.array([(across - 1) / 2, (down - 1) / 2])
        shifted[:, :2] *= np.array([across, down])
    return np.asarray(cv2.warpAffine(part, shifted, (out, out), flags=cv2.INTER_LINEAR, borderMode=border), np.uint8)


def five_points(landmarks: Floats) -> Floats:
    """The five points of the templates, float32 [5, 2], from landmarks [478, 3]."""
    return np.stack([landmarks[list(group), :2].mean(axis=0) for group in _FIVE]).astype(np.float32)


def to_template(landmarks: Floats, template: str, side: int) -> Affine:
    """The transform from the image to a crop of `side` pixels by one of `TEMPLATES`; KeyError for other names."""
    wanted = np.array(TEMPLATES[template]) * side
    return similarity(five_points(landmarks), wanted)


def to_descriptor(landmarks: Floats) -> Affine:
    """The transform from the image to the descriptor's 150-pixel chip."""
    return similarity(landmarks[list(DESCRIPTOR_POINTS), :2], np.array(DESCRIPTOR_TEMPLATE))
