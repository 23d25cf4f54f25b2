"""478 landmarks by the attention mesh (Grishchenko et al. 2020, arXiv:2006.10962; weights of MediaPipe, Apache-2.0).

The net sees a square of 192 pixels round the face, turned so that the eyes are level. Lips, eyes and irises come from
refining heads inside the net and have already replaced the points of the plain mesh (468..472 and 473..477 are the
irises of the right and the left eye).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.faces import align
from worker.faces.types import Detection, Floats, Frame, ModelRunner, Pose

# Below this the net itself says that it does not see a face.
FACE_SCORE: Final = 0.5

_INPUT: Final = 192
_MARGIN: Final = 1.5
_MESH_POINTS: Final = 468
# Forehead and chin do not lie above each other: median pitch of 46 portraits taken at eye level.
_LEVEL_PITCH: Final = 9.0


class FaceMesh:
    """Locates landmarks; thread-safe as its runner is."""

    def __init__(self, runner: ModelRunner) -> None:
        self._runner = runner

    def locate(self, frame: Frame, start: Detection | Floats) -> tuple[Floats, float]:
        """Landmarks float32 [478, 3] and the net's face score 0..1.

        `start` is a detection (the net then looks twice, because a detector's square is only roughly placed) or the
        landmarks of the frame before (one look). A score under `FACE_SCORE` means that there is no face: discard.
        """
        if isinstance(start, Detection):
            right, left = start.keypoints[0], start.keypoints[1]
            angle = float(np.arctan2(left[1] - right[1], left[0] - right[0]))
            centre = start.box[:2] + start.box[2:] / 2
            rough, score = self._look(frame, centre, _MARGIN * float(start.box[2:].max()), angle)
            if score < FACE_SCORE / 2:
                return rough, score
            return self._look(frame, *region(rough))
        return self._look(frame, *region(start))

    def _look(self, frame: Frame, centre: NDArray[np.floating], side: float, angle: float) -> tuple[Floats, float]:
        matrix = align.square(centre, max(side, 8.0), angle, _INPUT)
        crop = align.warp(frame, matrix, _INPUT)
        out = self._runner.run("face_mesh", {"image": crop[None].astype(np.float32) / 255.0})
        points = np.asarray(out["landmarks"][0], np.float32)
        return align.apply(align.invert(matrix), points), float(out["presence"].item())


def region(landmarks: Floats, margin: float = _MARGIN) -> tuple[Floats, float, float]:
    """The square round a face: (centre float32 [2], side in pixels, angle in radians), eyes level, with a margin."""
    right, left = landmarks[33, :2], landmarks[263, :2]
    angle = float(np.arctan2(left[1] - right[1], left[0] - right[0]))
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]], np.float32)
    level = landmarks[:_MESH_POINTS, :2] @ turn.T
    low, high = level.min(axis=0), level.max(axis=0)
    centre = ((low + high) / 2) @ turn
    return centre.astype(np.float32), margin * float((high - low).max()), angle


def box_of(landmarks: Floats) -> Floats:
    """The upright box float32 [4] (x, y, width, height) of the landmarks."""
    low, high = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
    return np.concatenate([low, high - low]).astype(np.float32)


def pose_of(landmarks: Floats) -> Pose:
    """The head's direction, from the mesh's own axes: temple to temple and forehead to chin.

    Good to a few degrees up to about 45 degrees of yaw, beyond which the hidden side of the mesh is a guess.
    """
    points = landmarks.astype(np.float64)
    across = points[454] - points[234]
    across /= np.linalg.norm(across)
    down = points[152] - points[10]
    down -= across * (across @ down)
    down /= np.linalg.norm(down)
    yaw = np.arctan2(across[2], np.hypot(across[0], across[1]))
    pitch = np.arctan2(down[2], np.hypot(down[0], down[1]))
    roll = np.arctan2(across[1], across[0])
    return Pose(yaw=float(np.degrees(yaw)), pitch=float(np.degrees(pitch)) - _LEVEL_PITCH, roll=float(np.degrees(roll)))
