"""The two sample portraits analysed once with the real models, and heads turned by means of their own meshes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from worker.faces import atlas, blend
from worker.faces.analyse import analyse_image
from worker.faces.colour import ColourMap
from worker.faces.landmarks import box_of, pose_of
from worker.faces.source import SourceFace, prepare_source
from worker.faces.types import Face, Floats, Rgb
from worker.inference.sessions import LocalRunner

Turn = Callable[[float], tuple[Rgb, Face]]


@pytest.fixture(scope="session")
def runner(models_dir: Path) -> LocalRunner:
    return LocalRunner(models_dir)


@pytest.fixture(scope="session")
def astronaut_face(astronaut: Rgb, runner: LocalRunner) -> Face:
    return analyse_image(astronaut, runner)[0]


@pytest.fixture(scope="session")
def grace_face(grace: Rgb, runner: LocalRunner) -> Face:
    return analyse_image(grace, runner)[0]


@pytest.fixture(scope="session")
def astronaut_source(astronaut: Rgb, astronaut_face: Face) -> SourceFace:
    return prepare_source(astronaut, astronaut_face)


@pytest.fixture(scope="session")
def grace_source(grace: Rgb, grace_face: Face) -> SourceFace:
    return prepare_source(grace, grace_face)


def turned_points(landmarks: Floats, degrees: float, side: int, share: float = 0.6) -> Floats:
    """The mesh turned about its vertical axis, set in the middle of a square picture."""
    points = landmarks.astype(np.float64)
    points -= (points[234] + points[454]) / 2
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
    points = points @ turn.T
    points *= share * side / np.ptp(points[:, 1])
    return (points + [side / 2, side / 2, 0]).astype(np.float32)


@pytest.fixture(scope="session")
def turned_grace(grace_face: Face, grace_source: SourceFace) -> Turn:
    """Grace's face turned by some degrees of yaw (positive: nose to the right), 480 x 480, with its exact landmarks."""

    def turn(degrees: float) -> tuple[Rgb, Face]:
        side = 480
        points = turned_points(grace_face.landmarks, degrees, side)
        picture = np.full((side, side, 3), (140, 135, 130), np.uint8)
        cv2.ellipse(picture, (side // 2, side // 2), (side // 4, side // 3), 0, 0, 360, (190, 140, 120), -1)
        opaque = np.zeros((atlas.CONTROL_SIDE, atlas.CONTROL_SIDE, 5), np.float32)
        opaque[..., 0] = 1
        blend.paste(
            picture,
            blend.place_of(points, picture.shape),
            points,
            texture=grace_source.textures[0],
            control=opaque,
            fading=np.ones((160, 160), np.float32),
            colour=ColourMap.identity(),
        )
        return picture, Face(box_of(points), 1.0, points, pose_of(points), None)

    return turn
