"""Attacks on a liveness challenge: what somebody without the person, or with an old recording of them, would show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Final

import cv2
import numpy as np

from tests.worker.liveness.head import Head, Moment, rotation
from tests.worker.liveness.script import ACTIONS, Performance
from worker.faces import raster
from worker.faces.types import Rgb

Size = tuple[int, int]
Cast = tuple[Head, Head]
_SHARE: Final = 0.42


def attack(
    name: str, cast: Cast, performance: Performance, *, fps: float = 20.0, size: Size = (640, 480)
) -> Iterator[Rgb]:
    """The frames of one of `ATTACKS` on the challenge `performance`; the person is `cast[0]`, `cast[1]` another."""
    return ATTACKS[name](cast, performance, fps, size)


def _moments(performance: Performance, fps: float) -> Iterator[tuple[float, Moment]]:
    for number in range(max(1, round(performance.seconds * fps))):
        yield number / fps, performance.moment(number / fps)


def _genuine(cast: Cast, performance: Performance, fps: float, size: Size) -> Iterator[Rgb]:
    for _, moment in _moments(performance, fps):
        yield cast[0].render(moment, size, _SHARE)


def _still(cast: Cast, performance: Performance, fps: float, size: Size) -> Iterator[Rgb]:
    """A photo on a stand."""
    picture = cast[0].render(Moment(), size, _SHARE)
    for _ in _moments(performance, fps):
        yield picture


def _handheld(cast: Cast, performance: Performance, fps: float, size: Size) -> Iterator[Rgb]:
    """A photo held by hand, as steady as that goes."""
    for _, picture in _photo(cast, performance, fps, size, lambda moment: _Sheet(right=moment.right, down=moment.down)):
        yield picture


def _tilted(cast: Cast, performance: Performance, fps: float, size: Size) -> Iterator[Rgb]:
    """A photo turned and nodded as the challenge asks, twice as far as a head would."""
    for _, picture in _photo(
        cast, performance, fps, size, lambda moment: _Sheet(yaw=2.0 * moment.yaw, pitch=2.0 * moment.pitch)
    ):
        yield picture


def _bent(cast: Cast, performance: Performance, fps: float, size: Size) -> Iterator[Rgb]:
    """A photo bent round an upright axis and turned: the outline of the face now moves as a round thing would."""
    for _, picture in _photo(
        cast, performance, fps, size, lambda moment: _Sheet(yaw=1.5 * moment.yaw, pitch=1.5 * moment.pitch, bend=1.1)
    ):
        yield picture


def _rolled(cast: Cast, performance: Performance, fps: float, size: Size) -> Iterator[Rgb]:
    """A photo rolled to a tube and turned: as round as a head, but without a nose."""
    for _, picture in _photo(
        cast, performance, fps, size, lambda moment: _Sheet(yaw=1.3 * moment.yaw, pitch=1.8 * moment.pitch, bend=2.6)
    ):
        yield picture


def _bending(cast: Cast, performance: Performance, fps: float, size: Size) -> Iterator[Rgb]:
    """A photo bent more at every action, and turned."""

    def sheet(moment: Moment) -> _Sheet:
        acting = max(moment.blink, moment.mouth, moment.smile, abs(moment.yaw) / 27, abs(moment.pitch) / 20)
        return _Sheet(yaw=1.3 * moment.yaw, pitch=2.2 * moment.pitch, bend=1.4 * min(1.0, acting))

    for _, picture in _photo(cast, performance, fps, size, sheet):
        yield picture


def _waved(cast: Cast, performance: Performance, fps: float, size: Size) -> Iterator[Rgb]:
    """A photo waved about without a plan."""
    rng = np.random.default_rng(performance.seed + 77)
    pace, phase = rng.uniform(0.3, 1.0, 5), rng.uniform(0, 2 * np.pi, 5)
    picture = cast[0].render(Moment(), size, _SHARE)
    for number in range(max(1, round(performance.seconds * fps))):
        sway = np.sin(phase + 2 * np.pi * pace * number / fps)
        yield _show(
            picture,
            _Sheet(
                yaw=50 * sway[0], pitch=35 * sway[1], roll=20 * sway[2], right=0.15 * sway[3], zoom=1 + 0.2 * sway[4]
            ),
        )


def _zoomed(cast: Cast, performance: Performance, fps: float, size: Size) -> Iterator[Rgb]:
    """A photo brought nearer and taken away at every action."""

    def sheet(moment: Moment) -> _Sheet:
        acting = max(moment.blink, moment.mouth, moment.smile, abs(moment.yaw) / 27, abs(moment.pitch) / 20)
        return _Sheet(zoom=1 + 0.5 * acting)

    for _, picture in _photo(cast, performance, fps, size, sheet):
        yield picture


def _moving_photo(cast: Cast, performance: Performance, fps: float, size: Size) -> Iterator[Rgb]:
    """A photo whose mouth and lids are animated flat, tilted where a head would turn: a cut-out mask."""
    for _, moment in _moments(performance, fps):
        face = Moment(blink=moment.blink, mouth=moment.mouth, smile=moment.smile)
        picture = cast[0].render(face, size, _SHARE)
        yield _show(picture, _Sheet(yaw=2.0 * moment.yaw, pitch=2.0 * moment.pitch))


def _wrong_order(cast: Cast, performance: Performance, fps: float, size: Size) -> Iterator[Rgb]:
    """The right actions in the opposite order: an old recording."""
    return _genuine(cast, replace(performance, actions=performance.actions[::-1]), fps, size)


def _one_missing(cast: Cast, performance: Performance, fps: float, size: Size) -> Iterator[Rgb]:
    """The last action is left out."""
    return _genuine(cast, replace(performance, actions=performance.actions[:-1], tail=2.0), fps, size)


def _one_wrong(cast: Cast, performance: Performance, fps: float, size: Size) -> Iterator[Rgb]:
    """Another action in place of the second one."""
    others = [each for each in ACTIONS if each not in performance.actions and each != "blink"]
    wrong = (performance.actions[0], others[performance.seed % len(others)], *performance.actions[2:])
    return _genuine(cast, replace(performance, actions=wrong), fps, size)


def _everything(cast: Cast, performance: Performance, fps: float, size: Size) -> Iterator[Rgb]:
    """All actions there are, one after the other, twice: somewhere among them are the right ones."""
    rng = np.random.default_rng(performance.seed + 5)
    order = [ACTIONS[k] for k in rng.permutation(len(ACTIONS))] * 2
    return _genuine(
        cast, replace(performance, actions=tuple(order), pause=0.2, pace=0.45, lead=0.7, tail=0.3), fps, size
    )


def _frozen(cast: Cast, performance: Performance, fps: float, size: Size) -> Iterator[Rgb]:
    """The picture stops after the first action."""
    frozen_at = performance.spans()[0][2] + 0.1
    last = None
    for seconds, moment in _moments(performance, fps):
        if seconds <= frozen_at or last is None:
            last = cast[0].render(moment, size, _SHARE)
        yield last


def _two_people(cast: Cast, performance: Performance, fps: float, size: Size) -> Iterator[Rgb]:
    """A helper stands beside the person."""
    half = (size[0] // 4 * 2, size[1])
    for _, moment in _moments(performance, fps):
        one, two = (head.render(moment, half, 0.5) for head in cast)
        yield np.ascontiguousarray(np.hstack([one, two]))


def _other_person(cast: Cast, performance: Performance, fps: float, size: Size) -> Iterator[Rgb]:
    """Somebody else does all of it right."""
    return _genuine((cast[1], cast[0]), performance, fps, size)


def _taking_turns(cast: Cast, performance: Performance, fps: float, size: Size) -> Iterator[Rgb]:
    """Another person takes over before the last action."""
    change = performance.spans()[-1][1] - 0.2
    for seconds, moment in _moments(performance, fps):
        yield cast[0 if seconds < change else 1].render(moment, size, _SHARE)


def _spliced(cast: Cast, performance: Performance, fps: float, size: Size) -> Iterator[Rgb]:
    """Two recordings of the person are joined: place, size and light jump."""
    change = performance.spans()[1][1] - 0.15
    for seconds, moment in _moments(performance, fps):
        if seconds < change:
            yield cast[0].render(moment, size, _SHARE)
            continue
        other = replace(moment, right=moment.right + 0.3, down=moment.down - 0.12, zoom=0.8, roll=moment.roll + 4)
        yield np.clip(cast[0].render(other, size, _SHARE) * 0.85, 0, 255).astype(np.uint8)


def _cut_out(cast: Cast, performance: Performance, fps: float, size: Size) -> Iterator[Rgb]:
    """The recording stops after two seconds."""
    return islice(_genuine(cast, performance, fps, size), round(2 * fps))


ATTACKS: Final[dict[str, Callable[[Cast, Performance, float, Size], Iterator[Rgb]]]] = {
    "still": _still,
    "handheld": _handheld,
    "tilted": _tilted,
    "bent": _bent,
    "rolled": _rolled,
    "bending": _bending,
    "waved": _waved,
    "zoomed": _zoomed,
    "moving_photo": _moving_photo,
    "wrong_order": _wrong_order,
    "one_missing": _one_missing,
    "one_wrong": _one_wrong,
    "everything": _everything,
    "frozen": _frozen,
    "two_people": _two_people,
    "other_person": _other_person,
    "taking_turns": _taking_turns,
    "spliced": _spliced,
    "cut_out": _cut_out,
}


class _Sheet:
    """How a flat photo is held: angles in degrees, `bend` as the angle in radians it spans round an upright axis."""

    def __init__(
        self,
        yaw: float = 0.0,
        pitch: float = 0.0,
        roll: float = 0.0,
        bend: float = 0.0,
        right: float = 0.0,
        down: float = 0.0,
        zoom: float = 1.0,
    ) -> None:
        self.yaw, self.pitch, self.roll, self.bend = yaw, pitch, roll, bend
        self.right, self.down, self.zoom = right, down, zoom


def _photo(
    cast: Cast, performance: Performance, fps: float, size: Size, hold: Callable[[Moment], _Sheet]
) -> Iterator[tuple[float, Rgb]]:
    picture = cast[0].render(Moment(), size, _SHARE)
    for seconds, moment in _moments(performance, fps):
        yield seconds, _show(picture, hold(moment))


def _show(picture: Rgb, sheet: _Sheet) -> Rgb:
    """A printed picture, held so, before a plain wall: every pixel's ray is followed to the sheet through a grid."""
    height, width = picture.shape[:2]
    columns, rows = 33, 25
    u, v = np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-1, 1, rows))
    x, y, z = u * width / 2, v * height / 2, np.zeros_like(u)
    if sheet.bend > 1e-6:
        radius = width / 2 / sheet.bend
        x, z = radius * np.sin(u * sheet.bend), radius * (1 - np.cos(u * sheet.bend))
    points = np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)
    points = points @ rotation(Moment(yaw=sheet.yaw, pitch=sheet.pitch, roll=sheet.roll)).T
    camera = 1.5 * width
    seen = points[:, :2] * (sheet.zoom * camera / (camera + points[:, 2:]))
    seen += [width / 2 + sheet.right * width / 3, height / 2 + sheet.down * width / 3]
    texture = np.stack([(u.ravel() + 1) * (width - 1) / 2, (v.ravel() + 1) * (height - 1) / 2], axis=1)
    corners = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (part.ravel() for part in (corners[:-1, :-1], corners[:-1, 1:], corners[1:, 1:], corners[1:, :-1]))
    triangles = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)]).astype(np.int32)
    drawn = np.column_stack([seen, points[:, 2]]).astype(np.float32)
    index = raster.cover(drawn, triangles, width, height)
    map_x, map_y = raster.maps(index, raster.affines(drawn, texture.astype(np.float32), triangles))
    shown = cv2.remap(picture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    shown[index < 0] = (150, 146, 140)
    return np.asarray(shown, np.uint8)
