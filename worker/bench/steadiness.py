"""How steady a swapped film is, and how well each way of joining hides its seam, for `bench quality`."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Final, get_args

import numpy as np

from worker.bench.report import Report, Row, Table
from worker.faces.analyse import analyse_image
from worker.faces.compose import compose, seam_error
from worker.faces.embed import Descriptor
from worker.faces.smooth import OneEuro
from worker.faces.stability import flicker, held_still, jitter, wavering
from worker.faces.swap import MeshSwapper, SwapOptions, prepare_source
from worker.faces.track import VideoTracker
from worker.faces.types import Floats, ModelRunner, Rgb
from worker.media.sample_clip import views
from worker.spec import Blend

FRAMES: Final = 50
_FPS: Final = 25
_SIZE: Final = (640, 480)
_GRAIN: Final = 2.0  # levels; a film without any would make every touch look like flicker
_WARM: Final = 5  # frames until smoothing has something to smooth with


def add_steadiness(report: Report, runner: ModelRunner, donor: Rgb, target: Rgb) -> None:
    """Make a hand-held film of the portrait `target`, give it the face of `donor` (uint8 [H, W, 3]), and judge both.

    Raises ModelError, FaceError; ValueError if a portrait shows no face.
    """
    faces = analyse_image(donor, runner)
    if not faces:
        raise ValueError("The donor's portrait shows no face.")
    source = prepare_source(donor, faces[0])
    chance = np.random.default_rng(12)
    tracker, smooth, describer = VideoTracker(runner, _FPS), OneEuro(), Descriptor(runner)
    swapper = MeshSwapper([source], SwapOptions(most_yaw_gap=180.0))
    raw: list[Floats] = []
    steady: list[Floats] = []
    still: dict[str, list[Floats]] = {"before": [], "after": []}
    described: dict[str, list[Floats]] = {"before": [], "after": []}
    for index, view in enumerate(views(target, FRAMES, size=_SIZE, fps=_FPS)):
        frame = np.clip(view + chance.normal(0, _GRAIN, view.shape), 0, 255).astype(np.uint8)
        found = tracker.push(index, index / _FPS, frame)
        if not found:
            raise ValueError("The target's portrait shows no face.")
        points = smooth(found[0].landmarks, index / _FPS)
        after = frame.copy()
        swapper.swap(after, points)
        if index < _WARM:
            continue
        raw.append(found[0].landmarks)
        steady.append(points)
        for name, picture in (("before", frame), ("after", after)):
            still[name].append(held_still(picture, points))
            described[name].append(describer.describe(picture, points))
    report.rows += [
        Row(
            "flicker of the swapped face over the untouched film's",
            round(flicker(still["after"]) / flicker(still["before"]), 3),
            required=1.10,
            goal=1.0,
            note=f"{FRAMES} frames of a hand-held camera, grain of {_GRAIN:g} levels",
        ),
        Row(
            "trembling of the smoothed landmarks over that of the raw ones",
            round(jitter(steady) / jitter(raw), 3),
            required=0.45,
            goal=0.3,
        ),
        Row(
            "wavering of the identity, descriptor distance of neighbouring frames",
            round(wavering(described["after"]), 4),
            note=f"of the untouched film {wavering(described['before']):.4f}",
        ),
    ]


def add_seams(report: Report, runner: ModelRunner, pictures: Mapping[str, Rgb]) -> None:
    """A table of the seam that each way of joining leaves, for every picture with the face of the one before it.

    Raises ModelError, FaceError.
    """
    ways: tuple[Blend, ...] = get_args(Blend)
    known = [(name, rgb, faces[0]) for name, rgb in pictures.items() if (faces := analyse_image(rgb, runner))]
    lines: list[tuple[str | float | None, ...]] = []
    for (_, donor, face), (name, rgb, target) in pairwise([known[-1], *known] if known else []):
        swapper = MeshSwapper([prepare_source(donor, face)], SwapOptions(smoothing=0.0, most_yaw_gap=180.0))
        box, full, weight = swapper.layers(rgb, target.landmarks)
        x, y, width, height = (int(value) for value in box)
        before = rgb[y : y + height, x : x + width]
        found = [seam_error(before, full, weight, compose(before, full, weight, way)) for way in ways]
        lines.append((name, *(round(value, 3) for value in found)))
    title = "gradient along the seam that comes from neither face, levels a pixel"
    report.tables.append(Table(title, ("picture", *ways), tuple(lines)))
