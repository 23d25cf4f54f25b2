"""One-Euro smoothing of landmarks (Casiez, Roussel, Vogel 2012): steady when still, quick when moving.

A point's cut-off frequency grows with its speed. Eyes and lips are filtered less, since a blink lasts three frames and
a lip that lags looks worse than one that trembles.
"""

from typing import Final

import numpy as np

from worker.faces.topology import TOPOLOGY
from worker.faces.types import LANDMARK_COUNT, Floats

_FAN_COUNT: Final = 68

# Cut-off at rest in hertz and its growth per outer-eye distance per second.
_REST_HZ: Final = 1.0
_GROWTH: Final = 2.0
_SPEED_HZ: Final = 1.0
_QUICK: Final = 3.0


def _rest_cutoffs(count: int) -> Floats:
    rest = np.full((count, 1), _REST_HZ, np.float32)
    if count == LANDMARK_COUNT:
        for part in (
            *(TOPOLOGY.left_eye, TOPOLOGY.right_eye),
            *(TOPOLOGY.left_iris, TOPOLOGY.right_iris, TOPOLOGY.lip_rings),
        ):
            rest[np.unique(part)] = _REST_HZ * _QUICK
    elif count == _FAN_COUNT:
        rest[36:] = _REST_HZ * _QUICK  # eyes and lips come last in the 300-W markup
    return rest


def _eye_distance(landmarks: Floats) -> float:
    """How far the outer corners of the eyes are apart, by markup; of five points, the eyes' middles."""
    right, left = {LANDMARK_COUNT: (33, 263), _FAN_COUNT: (36, 45)}.get(len(landmarks), (0, 1))
    return float(np.linalg.norm(landmarks[right, :2] - landmarks[left, :2]))


class OneEuro:
    """Smooths the landmarks of one track, all of one markup (mesh, 68 points or five); feed the frames in order."""

    def __init__(self) -> None:
        self._rest: Floats | None = None
        self._seconds = 0.0
        self._points: Floats | None = None
        self._speed: Floats | None = None

    def reset(self) -> None:
        """Forget the past, as after a cut or a loss."""
        self._points = None

    def __call__(self, landmarks: Floats, seconds: float) -> Floats:
        """Smoothed landmarks, float32 [N, 2 or 3] as they came, at the time `seconds`.

        Time running backwards starts anew.
        """
        step = seconds - self._seconds
        self._seconds = seconds
        if self._rest is None:
            self._rest = _rest_cutoffs(len(landmarks))
        if self._points is None or self._speed is None or not 0 < step < 0.5:
            self._points = landmarks.astype(np.float32).copy()
            self._speed = np.zeros_like(self._points)
            return self._points.copy()
        scale = _eye_distance(landmarks) + 1e-6
        speed = (landmarks - self._points) / np.float32(scale * step)
        self._speed = self._speed + _share(np.float32(_SPEED_HZ), step) * (speed - self._speed)
        # One cut-off for all axes of a point: they move together.
        moving = np.linalg.norm(self._speed[:, :2], axis=1, keepdims=True)
        share = _share(self._rest + np.float32(_GROWTH) * moving, step)
        self._points = (self._points + share * (landmarks - self._points)).astype(np.float32)
        return self._points.copy()


def _share(cutoff: Floats | np.float32, step: float) -> Floats:
    """Share of the new value in a first-order low-pass of `cutoff` hertz after `step` seconds."""
    turn = 2 * np.pi * cutoff * step
    return np.asarray(turn / (turn + 1), np.float32)
