"""One-Euro smoothing of landmarks (Casiez, Roussel, Vogel 2012): steady when still, quick when moving.

A point's cut-off frequency grows with its speed. Eyes and lips are filtered less, since a blink lasts three frames and
a lip that lags looks worse than one that trembles.
"""

from typing import Final

import numpy as np

from worker.faces.topology import TOPOLOGY
from worker.faces.types import LANDMARK_COUNT, Floats

# Cut-off at rest in hertz and its growth per outer-eye distance per second.
_REST_HZ: Final = 1.0
_GROWTH: Final = 2.0
_SPEED_HZ: Final = 1.0
_QUICK: Final = 3.0


def _rest_cutoffs() -> Floats:
    rest = np.full((LANDMARK_COUNT, 1), _REST_HZ, np.float32)
    for part in (TOPOLOGY.left_eye, TOPOLOGY.right_eye, TOPOLOGY.left_iris, TOPOLOGY.right_iris, TOPOLOGY.lip_rings):
        rest[np.unique(part)] = _REST_HZ * _QUICK
    return rest


class OneEuro:
    """Smooths the landmarks of one track; feed the frames in order."""

    def __init__(self) -> None:
        self._rest = _rest_cutoffs()
        self._seconds = 0.0
        self._points: Floats | None = None
        self._speed: Floats | None = None

    def reset(self) -> None:
        """Forget the past, as after a cut or a loss."""
        self._points = None

    def __call__(self, landmarks: Floats, seconds: float) -> Floats:
        """Smoothed landmarks float32 [478, 3] at the time `seconds`; time running backwards starts anew."""
        step = seconds - self._seconds
        self._seconds = seconds
        if self._points is None or self._speed is None or not 0 < step < 0.5:
            self._points = landmarks.astype(np.float32).copy()
            self._speed = np.zeros_like(self._points)
            return self._points.copy()
        scale = float(np.linalg.norm(landmarks[33, :2] - landmarks[263, :2])) + 1e-6
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
