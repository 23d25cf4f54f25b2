"""Drawn faces of nobody: pictures to calibrate and to try models on where no photo of a person may be taken.

The canonical mesh is bent into another person, turned, lit and painted, and set before a plain background. The result
is no likeness and no portrait; it only has to lead the nets through the ranges of values that photos lead them through.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.faces.topology import TOPOLOGY
from worker.faces.types import Floats, Rgb

_SUPERSAMPLING: Final = 2
# Skin from light to dark, RGB; a face mixes two neighbours.
_SKIN: Final = np.array([(244, 212, 190), (224, 178, 148), (188, 136, 102), (138, 92, 66), (84, 56, 42)], np.float64)
_HAIR: Final = np.array([(24, 20, 20), (70, 44, 28), (120, 82, 48), (178, 142, 92), (150, 150, 152)], np.float64)
_IRIS: Final = np.array([(70, 44, 26), (92, 110, 70), (84, 116, 150), (60, 40, 30)], np.float64)
_RIGHT_BROW: Final = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
_LEFT_BROW: Final = (300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
_NOSTRILS: Final = ((98, 97), (327, 326))

Colour = NDArray[np.float64]


def draw_face(generator: np.random.Generator, side: int = 480) -> Rgb:
    """A face of nobody, uint8 [side, side, 3]; the generator's state decides all of it."""
    big = side * _SUPERSAMPLING
    points = _posed(_person(generator), generator, big)
    skin = _mixed(_SKIN, generator)
    light = _direction(generator)
    picture = _background(generator, big)
    hair = _HAIR[generator.integers(len(_HAIR))]
    _draw_head(picture, points, skin=skin, hair=hair, generator=generator)
    _draw_skin(picture, points, skin, light)
    _draw_features(picture, points, skin=skin, hair=hair, generator=generator)
    soft = cv2.GaussianBlur(picture, (0, 0), 0.8 * _SUPERSAMPLING)
    small = cv2.resize(soft, (side, side), interpolation=cv2.INTER_AREA).astype(np.float64)
    exposure = generator.uniform(0.75, 1.15)
    noise = generator.normal(0.0, generator.uniform(1.0, 5.0), small.shape)
    return np.clip(small * exposure + noise, 0, 255).astype(np.uint8)


def _person(generator: np.random.Generator) -> NDArray[np.float64]:
    """The canonical mesh with another width, length, nose, mouth and eyes, symmetric."""
    points = TOPOLOGY.canonical.astype(np.float64)
    x, y = points[:, 0].copy(), points[:, 1].copy()
    points *= np.array([generator.uniform(0.9, 1.1), generator.uniform(0.92, 1.1), generator.uniform(0.85, 1.15)])
    for centre, reach, most in (((0, 0.45), 0.25, 0.12), ((0, 0.8), 0.25, 0.15), ((0, 1.2), 0.35, 0.12)):
        near = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * reach**2))
        grown = generator.uniform(-most, most, 2)
        points[:, 0] += near * grown[0] * x
        points[:, 1] += near * grown[1] * (y - centre[1])
    mouth = points[TOPOLOGY.lips_inner]
    lower = TOPOLOGY.lips_inner[mouth[:, 1] > mouth[:, 1].mean()]
    opening = generator.uniform(0.0, 0.12)
    below = np.exp(-(x**2) / 0.06) * (y > y[lower].min())
    points[:, 1] += opening * below
    return points


def _posed(points: NDArray[np.float64], generator: np.random.Generator, side: int) -> Floats:
    """Turned, scaled and set into a square of `side` pixels: float32 [478, 3]."""
    yaw, pitch, roll = np.radians(generator.uniform((-22, -10, -12), (22, 10, 12)))
    about_y = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    turned = (points - points.mean(axis=0)) @ (about_z @ about_x @ about_y).T
    turned *= generator.uniform(0.38, 0.55) * side / np.ptp(turned[:, 1])
    middle = side * (0.5 + generator.uniform(-0.05, 0.05, 2))
    return (turned + np.array([*middle, 0.0])).astype(np.float32)


def _mixed(palette: NDArray[np.float64], generator: np.random.Generator) -> Colour:
    place = generator.uniform(0, len(palette) - 1.001)
    low = int(place)
    mixed: Colour = palette[low] + (place - low) * (palette[low + 1] - palette[low])
    return mixed


def _direction(generator: np.random.Generator) -> NDArray[np.float64]:
    """Where the light comes from, a unit vector; towards the camera is -z."""
    light = np.array([generator.uniform(-0.7, 0.7), generator.uniform(-0.9, -0.1), -1.0])
    unit: NDArray[np.float64] = light / np.linalg.norm(light)
    return unit


def _background(generator: np.random.Generator, side: int) -> Rgb:
    """Soft blotches of two colours."""
    coarse = generator.uniform(0, 1, (6, 6)).astype(np.float32)
    blend = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)[..., None]
    first, second = generator.uniform(20, 235, (2, 3))
    return np.clip(first * blend + second * (1 - blend), 0, 255).astype(np.uint8)


def _draw_head(picture: Rgb, points: Floats, *, skin: Colour, hair: Colour, generator: np.random.Generator) -> None:
    """Hair, ears, neck and shoulders behind the mesh."""
    oval = points[TOPOLOGY.oval, :2]
    (x, y), (width, height), angle = cv2.fitEllipse(oval)
    down = points[152, :2] - points[10, :2]
    size = float(np.linalg.norm(down))
    neck = points[152, :2] + 0.1 * down
    across = np.array([-down[1], down[0]]) / size
    corners = [neck - 0.28 * size * across, neck + 0.28 * size * across]
    corners += [corners[1] + 0.8 * down + 0.7 * size * across, corners[0] + 0.8 * down - 0.7 * size * across]
    clothes = generator.uniform(20, 230, 3)
    crown = (float(x - 0.12 * down[0]), float(y - 0.12 * down[1]))
    cv2.ellipse(picture, (crown, (width * 1.22, height * 1.22), angle), _tuple(hair), -1, cv2.LINE_AA)
    cv2.fillPoly(picture, [_pixels(np.array(corners))], _tuple(clothes), cv2.LINE_AA)
    throat = [points[172, :2], points[397, :2], corners[1] + 0.25 * down, corners[0] + 0.25 * down]
    cv2.fillPoly(picture, [_pixels(np.array(throat))], _tuple(skin * 0.72), cv2.LINE_AA)
    for side in (234, 454):
        ear = points[side, :2] + 0.05 * down
        cv2.ellipse(picture, _pixels(ear), (int(0.06 * size), int(0.13 * size)), 0, 0, 360, _tuple(skin * 0.85), -1)
    brow_line = ((float(x), float(y - 0.03 * size)), (width * 1.03, height * 1.05), angle)
    cv2.ellipse(picture, brow_line, _tuple(skin * 0.9), -1, cv2.LINE_AA)


def _draw_skin(picture: Rgb, points: Floats, skin: Colour, light: NDArray[np.float64]) -> None:
    """The mesh from far to near, each triangle in the light that falls on it; smoothed, as skin is."""
    triangles = TOPOLOGY.triangles
    corners = points[triangles].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing = normals[:, 2] > 0
    at_points = np.zeros((len(points), 3))
    for corner in range(3):  # the mean over a point's triangles makes the light run smoothly over the edges
        np.add.at(at_points, triangles[:, corner], -normals)
    at_points /= np.linalg.norm(at_points, axis=1, keepdims=True) + 1e-9
    shade = 0.45 + 0.6 * np.clip(at_points @ light, 0, None)
    layer = picture.copy()
    for index in np.argsort(-corners[:, :, 2].mean(axis=1)):
        if facing[index]:
            colour = skin * shade[triangles[index]].mean()
            cv2.fillConvexPoly(layer, _pixels(corners[index, :, :2]), _tuple(colour))
    picture[:] = cv2.GaussianBlur(layer, (0, 0), 0.004 * picture.shape[0])


def _draw_features(picture: Rgb, points: Floats, *, skin: Colour, hair: Colour, generator: np.random.Generator) -> None:
    size = float(np.linalg.norm(points[152, :2] - points[10, :2]))
    for brow in (_RIGHT_BROW, _LEFT_BROW):
        cv2.fillPoly(picture, [_pixels(points[list(brow), :2])], _tuple(0.75 * hair + 0.15 * skin), cv2.LINE_AA)
    iris = _IRIS[generator.integers(len(_IRIS))]
    for ring, seen in ((TOPOLOGY.right_eye, TOPOLOGY.right_iris), (TOPOLOGY.left_eye, TOPOLOGY.left_iris)):
        opening = _pixels(points[ring, :2])
        mask = np.zeros(picture.shape[:2], np.uint8)
        cv2.fillPoly(mask, [opening], 255)
        eye = picture.copy()
        cv2.fillPoly(eye, [opening], (226, 222, 218), cv2.LINE_AA)
        radius = float(np.linalg.norm(points[seen[1:], :2] - points[seen[0], :2], axis=1).mean())
        centre = _pixels(points[seen[0], :2])
        cv2.circle(eye, centre, max(1, round(radius)), _tuple(iris), -1, cv2.LINE_AA)
        cv2.circle(eye, centre, max(1, round(0.45 * radius)), (12, 10, 10), -1, cv2.LINE_AA)
        cv2.circle(eye, _pixels(points[seen[0], :2] - 0.35 * radius), max(1, round(0.2 * radius)), (250, 250, 250), -1)
        picture[mask > 0] = eye[mask > 0]
        cv2.polylines(picture, [opening], True, _tuple(skin * 0.35), max(1, round(0.008 * size)), cv2.LINE_AA)
    for pair in _NOSTRILS:
        centre = points[list(pair), :2].mean(axis=0)
        cv2.circle(picture, _pixels(centre), max(1, round(0.014 * size)), _tuple(skin * 0.35), -1, cv2.LINE_AA)
    lips = skin * np.array([0.85, 0.55, 0.55]) + np.array([generator.uniform(0, 30), 0, 0])
    cv2.fillPoly(picture, [_pixels(points[TOPOLOGY.lips_outer, :2])], _tuple(lips), cv2.LINE_AA)
    inner = _pixels(points[TOPOLOGY.lips_inner, :2])
    cv2.fillPoly(picture, [inner], (70, 28, 28), cv2.LINE_AA)
    cv2.polylines(picture, [inner], True, _tuple(lips * 0.5), max(1, round(0.006 * size)), cv2.LINE_AA)


def _pixels(places: NDArray[np.floating]) -> NDArray[np.int32]:
    return np.round(places).astype(np.int32)


def _tuple(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in np.clip(colour, 0, 255))
    return red, green, blue
