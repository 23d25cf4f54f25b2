"""Short films of two people: who cross each other's way, with a cut; and one who turns into the other unnoticed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 640, 360
FPS = 25.0
CROSSING, AFTER_CUT = 44, 20
"""Frames of the shot in which they cross, and of the one after the cut, in which they stand on the other sides."""
_HEAD = 190  # pixels


@dataclass(frozen=True)
class Shown:
    """One frame uint8 [H, W, 3] RGB; the middle of each person's face, and whether nothing covers any of it."""

    picture: NDArray[np.uint8]
    places: dict[str, tuple[float, float]]
    free: dict[str, bool]


def head_of(picture: NDArray[np.uint8], box: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The head round the face `box` (x, y, width, height), a square uint8 [S, S, 3]."""
    x, y, width, height = (float(value) for value in box)
    side = int(1.75 * max(width, height))
    left, top = int(x + width / 2 + side / 2), int(y + 0.4 * height + side / 2)
    wide = cv2.copyMakeBorder(picture, side, side, side, side, cv2.BORDER_REPLICATE)
    return np.asarray(wide[top : top + side, left : left + side], np.uint8)


def dissolve(
    one: NDArray[np.uint8], other: NDArray[np.uint8], frames: int, change: range
) -> Iterator[NDArray[np.uint8]]:
    """Frames in which the head `one` becomes `other` in its place, during the frames `change`."""
    heads = [_head(one).astype(np.float32), _head(other).astype(np.float32)]
    for index in range(frames):
        way = np.float32(np.clip((index - change.start) / len(change), 0, 1))
        mixed = (heads[0] + way * (heads[1] - heads[0])).astype(np.uint8)
        yield _frame(_scene(3), {"both": mixed}, {"both": (320.0, 180.0)}).picture


def film(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> Iterator[Shown]:
    """The frames. `left` and `right` show a head each, uint8 [S, S, 3], which walk towards one another and past.

    The one from the right passes in front.
    """
    heads = {"left": _head(left), "right": _head(right)}
    scenes = [_scene(seed) for seed in (1, 2)]
    for index in range(CROSSING):
        way = index / (CROSSING - 1)
        places = {"left": (130 + 380 * way, 180.0), "right": (510 - 380 * way, 186.0)}
        yield _frame(scenes[0], heads, places)
    for index in range(AFTER_CUT):
        yield _frame(scenes[1], heads, {"left": (130.0 + 0.5 * index, 185.0), "right": (510.0, 175.0 + 0.5 * index)})


def _scene(seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).uniform(40, 200, (9, 16, 3)).astype(np.float32)
    return np.asarray(cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).clip(0, 255), np.uint8)


def _head(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(picture, (_HEAD, _HEAD), interpolation=cv2.INTER_AREA), np.uint8)


def _frame(
    scene: NDArray[np.uint8], heads: dict[str, NDArray[np.uint8]], places: dict[str, tuple[float, float]]
) -> Shown:
    picture = scene.copy()
    for name, head in heads.items():
        x, y = (round(value - _HEAD / 2) for value in places[name])
        mask = np.zeros((_HEAD, _HEAD), np.float32)
        middle = (_HEAD // 2, _HEAD // 2)
        cv2.ellipse(mask, middle, (int(0.36 * _HEAD), int(0.47 * _HEAD)), 0, 0, 360, 1.0, -1)
        mask = cv2.GaussianBlur(mask, (0, 0), 2.0)[..., None]
        part = picture[y : y + _HEAD, x : x + _HEAD]
        part[:] = (part + mask * (head.astype(np.float32) - part)).astype(np.uint8)
    apart = abs(places["left"][0] - places["right"][0]) if len(places) > 1 else np.inf
    return Shown(picture, places, {"left": bool(apart > 0.75 * _HEAD), "right": True})
