"""The vocabulary of this package: what a detector, the mesh and the descriptor say about a face.

Images are `uint8 [H, W, 3]` RGB, points are `(x, y)` or `(x, y, z)` in pixels of the image that was given, x to the
right, y down, z away from the camera. "Left" and "right" are the depicted person's own unless "of the image" is said.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from worker.faces.errors import FaceError
from worker.limits import MIN_FACE_PIXELS
from worker.media.planes import Planes

__all__ = [
    "LANDMARK_COUNT",
    "MIN_FACE_PIXELS",
    "Detection",
    "Face",
    "FaceError",
    "Floats",
    "Frame",
    "ModelRunner",
    "Pose",
    "Rgb",
    "size_of",
]

Rgb = NDArray[np.uint8]
Floats = NDArray[np.float32]
Frame = Planes | Rgb
"""A frame of a video as its decoder gives it, or a picture uint8 [H, W, 3] RGB."""

LANDMARK_COUNT: Final = 478


class ModelRunner(Protocol):
    """Runs one model of the model set on a batch; thread-safe. Implemented by `worker.inference`."""

    def run(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]: ...


@dataclass(frozen=True)
class Detection:
    """One face as the detector sees it.

    `box` is float32 [4]: x, y, width, height. `keypoints` is float32 [6, 2]: right eye, left eye, nose tip, mouth
    centre, right ear, left ear (the person's own sides). `score` is 0..1.
    """

    box: Floats
    score: float
    keypoints: Floats


@dataclass(frozen=True)
class Pose:
    """The head's direction in degrees.

    `yaw` is positive when the nose points to the right of the image, `pitch` when it points down, `roll` when the
    head is turned clockwise in the image.
    """

    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True)
class Face:
    """One face of an image.

    `box` float32 [4] x, y, width, height of the landmarks; `landmarks` float32 [478, 3]; `descriptor` float32 [128]
    or None where it was not asked for.
    """

    box: Floats
    score: float
    landmarks: Floats
    pose: Pose
    descriptor: Floats | None

    @property
    def size(self) -> float:
        """The longer side of the box in pixels."""
        return float(self.box[2:].max())


def size_of(frame: Frame) -> tuple[int, int]:
    """(width, height) in pixels."""
    return frame.size if isinstance(frame, Planes) else (frame.shape[1], frame.shape[0])
