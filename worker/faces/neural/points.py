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

# Where the 68 points lie on the face mesh: jaw, brows, bridge and base of the nose, eyes, outer and inner lips. Jaw and
# lips are the mesh's own rings taken at even distances, so the contour is the mesh's, a little inside a drawn one.
MESH_TO_68: Final = (
    127, 234, 132, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 361, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 1, 98, 97, 2, 326, 327,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 81, 13, 311, 308, 402, 14, 178,
)  # fmt: skip
# The same for the 106 points of InsightFace, whose picture of the markup numbers each part in an order of its own;
# as programs that use both markups map them, not compared with the net's own output.
INSIGHT106_TO_68: Final = (
    1, 10, 12, 14, 16, 3, 5, 7, 0, 23, 21, 19, 32, 30, 28, 26, 17,
    43, 48, 49, 51, 50, 102, 103, 104, 105, 101,
    72, 73, 74, 86, 78, 79, 80, 85, 84,
    35, 41, 42, 39, 37, 36, 89, 95, 96, 93, 91, 90,
    52, 64, 63, 71, 67, 68, 61, 58, 59, 53, 56, 55,
    65, 66, 62, 70, 69, 57, 60, 54,
)  # fmt: skip


# Of the box: eyes nearer to each other than this are no eyes, not even seen from the side.
_EYES_APART: Final = 0.02


@dataclass(frozen=True)
class NeuralDetection:
    """One face as a detector sees it, in pixels of the picture.

    `box` float32 [4] x, y, width, height; `points` float32 [5, 2]: eyes, nose tip, corners of the mouth, the person's
    right before the left, so those on the left of an upright picture first; all in one place where nobody looked for
    them. `score` 0..1.
    """

    box: Floats
    score: float
    points: Floats

    @property
    def has_points(self) -> bool:
        """Whether the points say anything: the eyes are apart."""
        return float(np.hypot(*(self.points[1] - self.points[0]))) > _EYES_APART * float(self.box[2:].max())


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


def quarter_of(found: NeuralDetection) -> int:
    """By how many quarters of a circle, clockwise, the face is turned in the picture: 0 to 3."""
    if not found.has_points:
        return 0
    across = found.points[1] - found.points[0]
    return round(float(np.arctan2(across[1], across[0])) / (np.pi / 2)) % 4


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
