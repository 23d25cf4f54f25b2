"""The face's shape between target and source: features move towards the source's places, expression stays.

The source's mesh is fitted to the target's by a rigid 3-D motion with scale, so that both have the same pose. What then
differs is identity and expression. Identity is taken over by half: the outline stays pinned (there is no background
behind it to fill a gap with), lids keep their opening, lips keep their opening and corners.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.faces import regions
from worker.faces.topology import TOPOLOGY
from worker.faces.types import Floats

# How far in from the outline the full displacement is reached, in outer-eye distances.
_PIN_WIDTH: Final = 0.34
_MESH: Final = 468


def _rigid_points() -> NDArray[np.int64]:
    """Points that hardly move with expression: above the mouth, without the lids and brows."""
    face = TOPOLOGY.canonical[:_MESH]
    moving = {int(i) for ring in (TOPOLOGY.left_eye, TOPOLOGY.right_eye) for i in ring}
    moving |= {i for brow in regions.BROWS for i in brow}
    return np.array([i for i in range(_MESH) if face[i, 1] < 0.45 and i not in moving])


def _pins() -> Floats:
    """Share of the displacement each landmark takes, 0 on the outline to 1 inside; float32 [478, 1]."""
    face = TOPOLOGY.canonical
    outline = face[TOPOLOGY.oval]
    following = np.roll(outline, -1, axis=0)
    steps = np.linspace(0, 1, 8, endpoint=False)[:, None, None]
    dense = (outline[None] * (1 - steps) + following[None] * steps).reshape(-1, 3)
    away = np.linalg.norm(face[:, None] - dense[None], axis=2).min(axis=1)
    share = np.clip(away / _PIN_WIDTH, 0, 1)
    return (share * share * (3 - 2 * share)).astype(np.float32)[:, None]


def _smoother(strength: float = 2.0) -> Floats:
    """(I + s L)^-1 with the mesh's graph Laplacian: takes single-point noise out of a displacement field."""
    count = len(TOPOLOGY.canonical)
    joined = np.zeros((count, count))
    for a, b in ((0, 1), (1, 2), (2, 0)):
        joined[TOPOLOGY.triangles[:, a], TOPOLOGY.triangles[:, b]] = 1
        joined[TOPOLOGY.triangles[:, b], TOPOLOGY.triangles[:, a]] = 1
    degree = np.maximum(joined.sum(axis=1, keepdims=True), 1)
    laplacian = np.eye(count) - joined / degree
    return np.linalg.inv(np.eye(count) + strength * laplacian).astype(np.float32)


_RIGID: Final = _rigid_points()
_PINS: Final = _pins()
_SMOOTHER: Final = _smoother()


def opening(landmarks: Floats, points: tuple[int, int, int, int]) -> float:
    """Height over width of an eye or the mouth; `points` as in `regions` (upper, lower, corner, corner)."""
    upper, lower, one, other = (landmarks[i, :2] for i in points)
    return float(np.linalg.norm(upper - lower) / (np.linalg.norm(one - other) + 1e-6))


def fit(source: Floats, target: Floats) -> Floats:
    """`source` [478, 3] moved, turned and scaled onto `target` [478, 3] by its rigid points (Umeyama 1991)."""
    a, b = source[_RIGID].astype(np.float64), target[_RIGID].astype(np.float64)
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    centred_a, centred_b = a - mean_a, b - mean_b
    u, singular, vt = np.linalg.svd(centred_b.T @ centred_a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ np.diag(sign) @ vt
    scale = float((singular * sign).sum() / (centred_a**2).sum())
    return (scale * (source - mean_a) @ rotation.T + mean_b).astype(np.float32)


def morph(source: Floats, target: Floats, amount: float, mouth_kept: float) -> Floats:
    """The target's landmarks with the source's features moved in by `amount` (0..1): float32 [478, 3].

    `mouth_kept` 0..1 holds the lips where the target has them, for a mouth whose inside stays the target's.
    """
    if amount <= 0:
        return target
    wanted = (fit(source, target) - target) * np.float32(amount)
    # Lips: their place follows the upper lip, their thickness the rings, their opening and width stay the target's.
    lips = TOPOLOGY.lip_rings
    place = wanted[list(regions.UPPER_LIP)].mean(axis=0) * np.float32(1 - mouth_kept)
    thickness = wanted[lips] - wanted[lips[0]][None]
    corners = np.array([0, lips.shape[1] // 2])
    thickness[:, corners] = 0
    moved = wanted.copy()
    moved[lips] = place + thickness * np.float32(1 - mouth_kept)
    moved = _SMOOTHER @ moved * _PINS
    # Lids move as one, so that a blink stays a blink, and the iris with them.
    for ring, iris in ((TOPOLOGY.right_eye, TOPOLOGY.right_iris), (TOPOLOGY.left_eye, TOPOLOGY.left_iris)):
        together = moved[ring].mean(axis=0)
        moved[ring] = together
        moved[iris] = together
    inner = moved[lips[0]].mean(axis=0)
    moved[lips] += inner - moved[lips[0]]
    return np.asarray(target + moved, np.float32)
