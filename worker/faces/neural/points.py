"""What the neural models know of a face, and its five points whatever markup it is given in."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from worker.faces import align
from worker.faces.landmarks import pose_of
from worker.faces.types import LANDMARK_COUNT, Floats

FAN_POINTS: Final = 68
# Eyes, nose tip, corners of the mouth in the 68 points of the 300-W markup, those on the left of the picture first.
_EYES: Final = (slice(36, 42), slice(42, 48))
_NOSE: Final = 30
_MOUTH: Final = (48, 54)


@dataclass(frozen=True)
class NeuralDetection:
    """One face as a detector sees it, in pixels of the picture.

    `box` float32 [4] x, y, width, height; `points` float32 [5, 2]: eyes, nose tip, corners of the mouth, those on the
    left of the picture first; `score` 0..1.
    """

    box: Floats
    score: float
    points: Floats


@dataclass(frozen=True)
class Landmarks68:
    """68 points of the 300-W markup, float32 [68, 2] in pixels of the picture; `score` 0..1 is how sure the net is."""

    points: Floats
    score: float


def five_of(landmarks: Floats) -> Floats:
    """The five points of the templates, float32 [5, 2], from landmarks [478, 3], [68, 2] or [5, 2]. ValueError else."""
    count = len(landmarks)
    if count == LANDMARK_COUNT:
        return align.five_points(landmarks)
    if count == FAN_POINTS:
        eyes = [landmarks[group, :2].mean(axis=0) for group in _EYES]
        return np.stack([*eyes, landmarks[_NOSE, :2], *landmarks[list(_MOUTH), :2]]).astype(np.float32)
    if count == 5:
        return np.asarray(landmarks[:, :2], np.float32)
    raise ValueError(f"{count} points are no known markup")


def box_of_points(points: Floats) -> Floats:
    """The upright box float32 [4] (x, y, width, height) of points [N, 2 or 3]."""
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    return np.concatenate([low, high - low]).astype(np.float32)


def yaw_of(landmarks: Floats) -> float:
    """The head's yaw in degrees from landmarks of any known markup, as good as the markup allows."""
    return pose_of(landmarks).yaw if len(landmarks) == LANDMARK_COUNT else yaw_of_five(five_of(landmarks))


def yaw_of_five(five: Floats) -> float:
    """A rough yaw in degrees from five points [5, 2], positive when the nose points to the right of the image.

    The nose tip moves off the line between eyes and mouth by the sine of the yaw times its height over the face, about
    0.6 of the distance of the eyes seen from the front; good to some ten degrees, enough to rank frames.
    """
    eyes, mouth = (five[0] + five[1]) / 2, (five[3] + five[4]) / 2
    down = (mouth - eyes).astype(np.float64)
    length = float(np.hypot(*down))
    if length < 1e-6:
        return 0.0
    across = np.array([down[1], -down[0]]) / length
    # The eyes' own distance shrinks with the yaw, eyes to mouth does not: it is about as long as the eyes are apart.
    aside = float((five[2] - (eyes + mouth) / 2) @ across) / length
    return float(np.degrees(np.arcsin(np.clip(aside / 0.6, -1.0, 1.0))))
