"""Similarity alignment: fits between point sets, the templates of the field, and crops taken along them.

A transform is float64 [2, 3] and maps image points to points of the crop: `crop = M @ (x, y, 1)`.
"""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.faces.types import Floats, Frame, Rgb
from worker.media.planes import TO_RGB, Planes

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

# Crop pixels per frame pixel under which the frame is first averaged over whole blocks.
_AVERAGED: Final = 0.6
# Crop pixels per frame pixel from which the colours of planes need no more than half of the crop's.
_FINE: Final = 0.8
# Luma and colours of black in planes.
_BLACK: Final = (16, 128)

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


def corners_in_frame(matrix: Affine, square: Sequence[tuple[float, float]]) -> Floats:
    """Where points of the crop lie in the image, float32 [N, 2]."""
    return apply(invert(matrix), np.array(square, np.float32))


def warp(frame: Frame, matrix: Affine, out: int, *, border: int = cv2.BORDER_CONSTANT) -> Rgb:
    """Cut the square crop uint8 [out, out, 3] RGB that `matrix` describes; black beyond the frame unless `border` says.

    Of planes each is sampled for itself and only the crop becomes RGB, whatever the frame's size.
    """
    if not isinstance(frame, Planes):
        return _sample(frame, matrix, out, border, 0)
    luma = _sample(frame.y, matrix, out, border, _BLACK[0])
    chroma, side = to_chroma(matrix), out
    if scale_of(matrix) >= _FINE and out % 2 == 0:
        # The crop has a pixel for each of luma's, so a quarter of them hold all that there is of a colour.
        chroma, side = _halved(chroma), out // 2
    colours = [_sample(plane, chroma, side, border, _BLACK[1]) for plane in (frame.u, frame.v)]
    if side != out:
        colours = [np.asarray(cv2.resize(one, (out, out), interpolation=cv2.INTER_LINEAR), np.uint8) for one in colours]
    return np.asarray(cv2.transform(cv2.merge([luma, *colours]), TO_RGB), np.uint8)


def resized(frame: Frame, size: tuple[int, int], how: int = cv2.INTER_AREA) -> Rgb:
    """The whole frame at `size` (width, height), uint8 [h, w, 3] RGB."""
    if not isinstance(frame, Planes):
        return _resized(frame, size, how)
    parts = [_resized(plane, size, how) for plane in (frame.y, frame.u, frame.v)]
    return np.asarray(cv2.transform(cv2.merge(parts), TO_RGB), np.uint8)


def _resized(pixels: NDArray[np.uint8], size: tuple[int, int], how: int) -> NDArray[np.uint8]:
    # Halving is OpenCV's fastest path, and what comes after it works on a quarter of the pixels.
    while pixels.shape[1] >= 2 * size[0] and pixels.shape[0] >= 2 * size[1]:
        half = (pixels.shape[1] // 2, pixels.shape[0] // 2)
        pixels = np.asarray(cv2.resize(pixels, half, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.resize(pixels, size, interpolation=how), np.uint8)


def to_chroma(matrix: Affine) -> Affine:
    """The same transform for a chroma plane, whose samples lie in the middle of 2 x 2 pixels."""
    chroma = matrix * 2.0
    chroma[:, 2] = matrix[:, 2] + matrix[:, :2] @ (0.5, 0.5)
    return chroma


def _halved(matrix: Affine) -> Affine:
    """The transform to a crop of half the side, whose pixels lie in the middle of 2 x 2 of the whole one's."""
    half = matrix / 2
    half[:, 2] -= 0.25
    return half


def _sample(pixels: NDArray[np.uint8], matrix: Affine, out: int, border: int, black: int) -> NDArray[np.uint8]:
    """uint8 [out, out] of a plane, [out, out, 3] of a picture.

    A crop much smaller than its part of the image is first averaged over whole blocks: a plain warp would skip pixels,
    and the nets see the aliasing. Whole blocks are OpenCV's fast path; areas of broken factors take five times as long.
    """
    scale = scale_of(matrix)
    if scale < _AVERAGED:
        pixels, matrix = _averaged(pixels, matrix, out, max(2, int(1 / scale + 0.25)))
    return np.asarray(
        cv2.warpAffine(pixels, matrix, (out, out), flags=cv2.INTER_LINEAR, borderMode=border, borderValue=(black,) * 4),
        np.uint8,
    )


def _averaged(pixels: NDArray[np.uint8], matrix: Affine, out: int, factor: int) -> tuple[NDArray[np.uint8], Affine]:
    """The part that is needed, averaged over blocks of `factor` pixels, and the transform from there."""
    corners = corners_in_frame(matrix, ((0, 0), (out, 0), (out, out), (0, out)))
    low, high = np.floor(corners.min(axis=0)).astype(int), np.ceil(corners.max(axis=0)).astype(int)
    height, width = pixels.shape[:2]
    x0, y0 = (int(np.clip(value - factor, 0, end - 1)) for value, end in zip(low, (width, height), strict=True))
    columns = max(1, (min(width, int(high[0]) + factor) - x0) // factor)
    rows = max(1, (min(height, int(high[1]) + factor) - y0) // factor)
    part = pixels[y0 : y0 + rows * factor, x0 : x0 + columns * factor]
    small = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
    moved = matrix * 1.0
    # Pixel centres, not corners, keep their place when an image is resized.
    moved[:, 2] += matrix[:, :2] @ (x0 + (factor - 1) / 2, y0 + (factor - 1) / 2)
    moved[:, :2] *= factor
    return np.asarray(small, np.uint8), moved


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
