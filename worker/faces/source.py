"""A source photo made ready once: its face as a flat texture, complete on both sides, and what is known of it."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from worker.faces import atlas, mask, raster
from worker.faces.landmarks import box_of
from worker.faces.topology import TOPOLOGY
from worker.faces.types import MIN_FACE_PIXELS, Face, FaceError, Floats, Pose, Rgb

# Texels per source pixel: above one, because the texture is sampled once more.
_OVERSAMPLING: Final = 1.35
_SMALLEST_SIDE, _LARGEST_SIDE = 256, 1280
# Distances in standard deviations of the skin colour for a source photo; stricter than for a target, because a foreign
# patch in the source is carried into every frame.
_NEAR, _FAR = 2.6, 4.0
_SHRINK = 3
# Least share of the flat face that must show the face itself.
_LEAST_SHOWN: Final = 0.35


@dataclass(frozen=True)
class SourceFace:
    """One prepared source photo.

    `textures` are uint8 [S, S, 3] from full size downwards by the square root of two; `control` float32 [128, 128, 3]
    is the same, small; `validity` float32 [128, 128] tells where it shows the face; `landmarks` float32 [478, 3] are
    those of the photo; `sharpness` is `quality.sharpness` of the photo's face.
    """

    textures: tuple[Rgb, ...]
    control: Floats
    validity: Floats
    landmarks: Floats
    pose: Pose
    descriptor: Floats | None
    sharpness: float


def prepare_source(rgb: Rgb, face: Face) -> SourceFace:
    """Make the source photo `rgb` (uint8 [H, W, 3]) with `face` in it ready for swapping.

    Raises FaceError `face_too_small`, or `source_unusable` if most of the face is hidden.
    """
    from worker.faces.quality import sharpness

    if float(box_of(face.landmarks)[2:].max()) < MIN_FACE_PIXELS:
        raise FaceError("face_too_small", f"least size is {MIN_FACE_PIXELS} pixels")
    side = _texture_side(face.landmarks)
    texture = atlas.unwrap(rgb, face.landmarks, side, cubic=True)
    control = _small(texture)
    shown = _shown(face.landmarks, rgb.shape)
    lab = mask.to_lab(control)
    valid = mask.validity(lab, mask.fit_skin(lab, shown > 0.3), near=_NEAR, far=_FAR, shrink=_SHRINK)
    texture, valid = _complete(texture, valid, shown)
    texture, valid = _smooth_forehead(texture, valid)
    if float((valid * atlas.CONTROL.covered).sum() / atlas.CONTROL.covered.sum()) < _LEAST_SHOWN:
        raise FaceError("source_unusable")
    return SourceFace(
        textures=_pyramid(texture),
        control=_small(texture).astype(np.float32),
        validity=valid,
        landmarks=face.landmarks,
        pose=face.pose,
        descriptor=face.descriptor,
        sharpness=sharpness(rgb, face.landmarks),
    )


def _texture_side(landmarks: Floats) -> int:
    """A side that keeps the photo's resolution: from the areas that the triangles cover in photo and layout."""
    seen = np.maximum(raster.signed_areas(landmarks, TOPOLOGY.triangles), 0).sum()
    flat = raster.signed_areas(atlas.LAYOUT, TOPOLOGY.triangles).sum()
    side = float(np.sqrt(seen / flat)) * _OVERSAMPLING
    return int(np.clip(16 * round(side / 16), _SMALLEST_SIDE, _LARGEST_SIDE))


def _small(texture: Rgb) -> Rgb:
    size = (atlas.CONTROL_SIDE, atlas.CONTROL_SIDE)
    return np.asarray(cv2.resize(texture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _pyramid(texture: Rgb) -> tuple[Rgb, ...]:
    levels = [texture]
    side = texture.shape[0] / np.sqrt(2)
    while side >= atlas.CONTROL_SIDE:
        size = round(side)
        levels.append(np.asarray(cv2.resize(texture, (size, size), interpolation=cv2.INTER_AREA), np.uint8))
        side /= np.sqrt(2)
    return tuple(levels)


def _shown(landmarks: Floats, shape: tuple[int, ...]) -> Floats:
    """How well the photo shows each texel, float32 [128, 128] in 0..1: squarely faced, not hidden, inside the photo."""
    triangles = TOPOLOGY.triangles
    box = box_of(landmarks)
    scale = min(1.0, 400.0 / float(box[2:].max()))
    points = landmarks.copy()
    points[:, :2] = (points[:, :2] - box[:2]) * scale + 1
    size = np.ceil(box[2:] * scale).astype(int) + 3
    index = raster.cover(points, triangles, int(size[0]), int(size[1]))
    seen = np.bincount(index[index >= 0], minlength=len(triangles)).astype(np.float64)
    expected = np.maximum(raster.signed_areas(points, triangles) / 2, 1e-6)
    visible = np.where(expected > 4, np.clip(seen / expected, 0, 1), 1.0)
    middle = landmarks[triangles, :2].mean(axis=1)
    within = ((middle >= 0) & (middle < np.array([shape[1], shape[0]]))).all(axis=1)
    per_triangle = np.clip(atlas.facing(landmarks), 0, 1) * visible * within
    texels = np.where(atlas.CONTROL.covered, per_triangle[np.maximum(atlas.CONTROL.index, 0)], 0)
    weight = atlas.CONTROL.covered.astype(np.float32)
    smooth = cv2.GaussianBlur(texels.astype(np.float32), (0, 0), 2.5) / (cv2.GaussianBlur(weight, (0, 0), 2.5) + 1e-3)
    return np.where(atlas.CONTROL.covered, smooth, 0).astype(np.float32)


def _complete(texture: Rgb, valid: Floats, shown: Floats) -> tuple[Rgb, Floats]:
    """Fill what the photo hides or covers on one side from the other: (texture, validity).

    The layout is its own mirror image, so the other side is a flip; its light is brought to this side's first.
    """
    other_valid, other_shown = valid[:, ::-1], shown[:, ::-1]
    turned = np.clip((other_shown - shown - 0.12) / 0.25, 0, 1)
    covered = np.clip((other_valid - valid) * 1.5, 0, 1) * (other_shown > 0.25)
    weight = np.maximum(turned * np.clip(other_valid * 2, 0, 1), covered).astype(np.float32)
    weight = cv2.GaussianBlur(weight, (0, 0), 2.0) * atlas.CONTROL.covered
    if float(weight.max()) < 0.05:
        return texture, (valid * np.clip(shown / 0.2, 0, 1)).astype(np.float32)
    small = _small(texture).astype(np.float32)
    flipped = small[:, ::-1]
    sure = (valid * np.clip(shown / 0.4, 0, 1) * atlas.CONTROL.plain).astype(np.float32)
    both = sure * sure[:, ::-1]
    shift = _blurred(small - flipped, both)
    side = texture.shape[0]
    full_weight = cv2.resize(weight, (side, side), interpolation=cv2.INTER_LINEAR)[..., None]
    full_shift = cv2.resize(shift, (side, side), interpolation=cv2.INTER_LINEAR)
    own = texture.astype(np.float32)
    made = own + (own[:, ::-1] + full_shift - own) * full_weight
    share = np.clip(np.maximum(shown * (1 - weight), other_shown * weight) / 0.2, 0, 1)
    merged = (valid * (1 - weight) + other_valid * weight) * share
    return np.clip(made + 0.5, 0, 255).astype(np.uint8), np.asarray(merged, np.float32)


def _smooth_forehead(texture: Rgb, valid: Floats) -> tuple[Rgb, Floats]:
    """Lay plain skin under a fringe: (texture, validity).

    Else the target's forehead would meet the source's brows in a visible line. Light and grain come from the target
    when it is pasted, and a target's own fringe stays in front.
    """
    hidden = (atlas.CONTROL.forehead * (1 - _clipped(valid, 0.5, 0.9)) * atlas.CONTROL.covered).astype(np.float32)
    hidden = cv2.GaussianBlur(hidden, (0, 0), 1.0)
    if float(hidden.max()) < 0.1:
        return texture, valid
    skin = (_clipped(valid, 0.6, 1.0) * atlas.CONTROL.plain).astype(np.float32)
    plain = _blurred(_small(texture).astype(np.float32), skin, sigma=12.0, floor=1e-4)
    side = texture.shape[0]
    share = cv2.resize(hidden, (side, side), interpolation=cv2.INTER_LINEAR)[..., None]
    laid = cv2.resize(plain, (side, side), interpolation=cv2.INTER_LINEAR)
    made = texture + (laid - texture) * share
    return np.clip(made + 0.5, 0, 255).astype(np.uint8), (valid + hidden * (1 - valid)).astype(np.float32)


def _clipped(values: Floats, low: float, high: float) -> Floats:
    return np.clip((values - low) / (high - low), 0, 1).astype(np.float32)


def _blurred(values: Floats, weight: Floats, sigma: float = 8.0, floor: float = 0.05) -> Floats:
    """Normalised convolution of float32 [128, 128, 3]."""
    top = cv2.GaussianBlur(values * weight[..., None], (0, 0), sigma)
    return np.asarray(top / (cv2.GaussianBlur(weight, (0, 0), sigma)[..., None] + floor), np.float32)
