"""A face's texture laid flat: one fixed layout for every face, in which both sides mirror each other.

Everything that belongs to a face and not to a frame lives in this layout: the source's texture, where it is valid, the
target's colours for comparison, masks. In it the same texel is the same place of the face whatever the pose, so colours
can be compared texel by texel and smoothed over time, and the hidden side of a turned face is filled by a plain flip.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.faces import raster, regions
from worker.faces.topology import TOPOLOGY
from worker.faces.types import Floats, Rgb

# Side of the small layout in which colour, light and validity are worked out.
CONTROL_SIDE: Final = 128
_MARGIN: Final = 0.02


def _flatten() -> Floats:
    """Positions of the 478 landmarks in the layout, float32 [478, 2] in 0..1, mirrored about x = 0.5.

    The canonical face seen from the front, its sides folded outwards (they would be a few texels wide otherwise), and
    relaxed where the wings of the nose still overlap.
    """
    face = TOPOLOGY.canonical
    flat = face[:, :2].astype(np.float64).copy()
    flat[:, 0] *= 1.0 + 0.25 * np.maximum(face[:, 2], 0.0)
    flat = _unfold(flat)
    flat = (flat + flat[TOPOLOGY.mirror] * [-1, 1]) / 2
    low, high = flat.min(axis=0), flat.max(axis=0)
    scale = (1.0 - 2 * _MARGIN) / (high - low).max()
    centred = (flat - (low + high) / 2) * scale + 0.5
    return centred.astype(np.float32)


def _unfold(flat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move points of folded triangles towards their neighbours until every triangle has area."""
    triangles = TOPOLOGY.triangles
    neighbours = _neighbours()
    oval = set(TOPOLOGY.oval.tolist())
    for _ in range(200):
        areas = raster.signed_areas(flat.astype(np.float32), triangles)
        bad = np.unique(triangles[areas < 2e-4])
        if bad.size == 0:
            break
        for point in bad:
            if int(point) not in oval:
                flat[point] = 0.7 * flat[point] + 0.3 * flat[neighbours[point]].mean(axis=0)
    return flat


def _neighbours() -> list[list[int]]:
    found: list[set[int]] = [set() for _ in range(len(TOPOLOGY.canonical))]
    for a, b, c in TOPOLOGY.triangles.tolist():
        found[a] |= {b, c}
        found[b] |= {a, c}
        found[c] |= {a, b}
    return [sorted(one) for one in found]


LAYOUT: Final = _flatten()


def positions(side: int) -> Floats:
    """The landmarks' places in texels of a layout of `side` x `side`, float32 [478, 2]."""
    return LAYOUT * side - 0.5


@dataclass(frozen=True)
class ControlPlane:
    """What is always the same in the small layout, all [128, 128].

    `index` is the triangle of each texel, `covered` whether there is one; `centre` (0..1) is the middle of the face,
    `forehead` (0..1) what lies above; `samples` marks sure skin, `plain` skin without brows, eyes and lips.
    """

    index: raster.IndexMap
    covered: NDArray[np.bool_]
    centre: Floats
    forehead: Floats
    samples: NDArray[np.bool_]
    plain: NDArray[np.bool_]


def _control_plane() -> ControlPlane:
    side = CONTROL_SIDE
    points = positions(side)
    index = raster.cover(points, TOPOLOGY.triangles, side, side)
    covered = index >= 0
    depth = cv2.distanceTransform(np.pad(covered.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1] / side
    features = np.zeros((side, side), np.uint8)
    rings = [ring.tolist() for ring in (TOPOLOGY.left_eye, TOPOLOGY.right_eye, TOPOLOGY.lips_outer)]
    for ring in rings + [list(brow) for brow in regions.BROWS]:
        cv2.fillPoly(features, [np.round(points[ring]).astype(np.int32)], 1)
    grown = cv2.dilate(features, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)))
    samples = np.zeros((side, side), np.uint8)
    for patch in regions.SKIN_SAMPLES:
        cv2.fillPoly(samples, [np.round(points[list(patch)]).astype(np.int32)], 1)
    centre = np.zeros((side, side), np.uint8)
    cv2.fillPoly(centre, [cv2.convexHull(np.round(points[list(regions.CENTRE)]).astype(np.int32))], 1)
    forehead = np.zeros((side, side), np.uint8)
    cv2.fillPoly(forehead, [np.round(points[list(regions.FOREHEAD)]).astype(np.int32)], 1)
    return ControlPlane(
        index=index,
        covered=covered,
        centre=cv2.GaussianBlur(centre.astype(np.float32), (0, 0), 2.5),
        forehead=cv2.GaussianBlur(forehead.astype(np.float32), (0, 0), 2.0),
        samples=samples.astype(bool),
        plain=covered & (grown == 0) & (depth > 0.03),
    )


CONTROL: Final = _control_plane()


def unwrap(rgb: Rgb, landmarks: Floats, side: int, index: raster.IndexMap | None = None, *, cubic: bool = False) -> Rgb:
    """Lay the face at `landmarks` [478, >=2] of `rgb` flat: uint8 [side, side, 3], black outside the face."""
    points = positions(side)
    if index is None:
        index = raster.cover(points, TOPOLOGY.triangles, side, side)
    map_x, map_y = raster.maps(index, raster.affines(points, landmarks, TOPOLOGY.triangles))
    interpolation = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
    flat = cv2.remap(rgb, map_x, map_y, interpolation, borderMode=cv2.BORDER_REPLICATE)
    flat[index < 0] = 0
    return np.asarray(flat, np.uint8)


def facing(landmarks: Floats) -> Floats:
    """How squarely each triangle faces the camera: cosine of its normal, float32 [T], negative when turned away."""
    p = landmarks[TOPOLOGY.triangles].astype(np.float64)
    normal = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    return (normal[:, 2] / (np.linalg.norm(normal, axis=1) + 1e-9)).astype(np.float32)
