"""Were the actions done that were asked for, in order, by one real head? Pure and total: nothing here raises.

A clip is a series of samples (`motion.Sample`). Each kind of action is a signal that switches on at one level and off
at a lower one; the stretches between are episodes. The clip passes when its episodes are the actions asked for, one
after the other, and nothing else. Thresholds come from clips with known angles (`manage.py bench liveness`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from worker.gate.live.motion import Motion, Sample

ACTIONS: Final = ("turn_left", "turn_right", "look_up", "open_mouth", "blink", "smile")
"""Left and right are the person's own; the clip is taken to be unmirrored, as a recorder writes it."""

_TURNS: Final = ("turn_left", "turn_right", "look_up")

REST_SECONDS: Final = 0.5
"""Length of the rest at the start that everything is compared with."""
LEAST_SECONDS: Final = 3.5
LEAST_RATE: Final = 8.0
"""Analysed frames a second below which a blink could fall between two of them."""
LONGEST_GAP: Final = 0.5
_LEAST_SIZE: Final = 80.0
# Of the face's median luma; low, because dark skin in good light is not a dark picture.
_DARK, _BRIGHT = 25.0, 240.0
_OTHER_SHARE: Final = 0.4
_LOST_SHARE: Final = 0.2
_LOST_SECONDS: Final = 0.7
_FROZEN_SECONDS: Final = 0.8
_FROZEN_CHANGE: Final = 0.03
# A head is this far from its place in the frame before, in its own sizes, or this much larger: that is a cut.
_JUMP_SHARE: Final = 0.3
_JUMP_SCALE: Final = 1.22
_JUMP_ROLL: Final = 18.0
# Where the whole picture changes at once, this much is enough: light that is switched on does not move a face.
_CUT_SHARE: Final = 0.04
_NEIGHBOURS: Final = 0.15
# Within these the face is seen well enough from the front to judge lids and corners of the mouth.
_FRONTAL: Final = 10.0
# Where a turn tells flat from solid: far enough to measure, not so far that the mesh guesses. Rendered heads: stretch
# -0.04 and more in turns, -0.04 and less looking up, nose 0.41 and more. Pictures, flat or rolled, where they read as
# a turn at all: -0.08 and less or nose 0.31 and less; 0.06 and more tipped back.
_DEPTH_FROM, _DEPTH_TO = 11.0, 20.0
_FLAT_TURN: Final = -0.09
_FLAT_LOOK: Final = 0.03
_FLAT_NOSE: Final = 0.35
_FLAT_STRAIN: Final = 0.06
_FLAT_FRAMES: Final = 3
_SHORTEST: Final = 0.15


@dataclass(frozen=True)
class Episode:
    """One action as seen: from where it left the rest to where it came back, and its strongest value (degrees for the
    head, eye distances for the mouth, share of closing for the eyes)."""

    name: str
    start: float
    end: float
    peak: float
    finished: bool = True


@dataclass(frozen=True)
class Judgement:
    """`codes` is empty for a clip that passes; the first is the main reason. `episodes` are all actions seen."""

    codes: tuple[str, ...]
    episodes: tuple[Episode, ...]
    matched: tuple[Episode, ...]

    @property
    def passed(self) -> bool:
        return not self.codes


@dataclass(frozen=True)
class _Channel:
    name: str
    on: float
    off: float
    value: Callable[[Motion], float]
    frontal: bool = False


# Measured on rendered heads (`manage.py bench liveness`): a turn of 23 degrees reads 21 and more, on flatter heads 25
# read 17; sway stays below 6, the pitch other actions bring with them below 10; lips part by 0.19 and more.
_CHANNELS: Final = (
    _Channel("turn_left", 14.0, 7.0, lambda one: one.yaw),
    _Channel("turn_right", 14.0, 7.0, lambda one: -one.yaw),
    _Channel("look_up", 15.0, 9.0, lambda one: -one.pitch),
    _Channel("open_mouth", 0.16, 0.09, lambda one: one.mouth),
    _Channel("blink", 0.45, 0.25, lambda one: 1.0 - one.eyes, frontal=True),
    _Channel("smile", 0.042, 0.022, lambda one: one.smile if one.mouth < 0.15 else 0.0, frontal=True),
)


def shows_depth(actions: Sequence[str]) -> bool:
    """Whether `actions` hold a movement of the whole head: only those tell a head from an animated flat picture.

    A challenge should be drawn from such lists (114 of the 120 of three different actions).
    """
    return any(action in _TURNS for action in actions)


def judge(series: Sequence[Sample], actions: Sequence[str]) -> Judgement:
    """Judge `series` against the `actions` asked for (of `ACTIONS`)."""
    samples = _usable(series)
    codes = _check_clip(samples)
    faces = [(one.seconds, one.face) for one in samples if one.face is not None]
    if not faces:
        return Judgement(tuple(dict.fromkeys([*codes, "no_face"])), (), ())
    codes += _check_continuity(samples)
    episodes = _episodes(faces)
    if any(one.name != "blink" and one.start < faces[0][0] + REST_SECONDS for one in episodes):
        codes.append("no_rest")
    if any(_flat(one, faces) for one in episodes) or _strained(faces):
        codes.append("flat_picture")
    found, matched = _match(episodes, [str(each) for each in actions])
    return Judgement(tuple(dict.fromkeys([*codes, *found])), tuple(episodes), tuple(matched))


def _usable(series: Sequence[Sample]) -> list[Sample]:
    """In order of time, without what is not finite."""
    kept = []
    for one in series:
        numbers = [one.seconds, one.other, one.change]
        if one.face is not None:
            numbers += list(vars(one.face).values())
        if all(math.isfinite(number) for number in numbers):
            kept.append(one)
    return sorted(kept, key=lambda one: one.seconds)


def _check_clip(samples: Sequence[Sample]) -> list[str]:
    """Is there enough to look at: length, frames, light, size."""
    if len(samples) < 2:
        return ["clip_too_short"]
    length = samples[-1].seconds - samples[0].seconds
    if length < LEAST_SECONDS:
        return ["clip_too_short"]
    codes = []
    faces = [one.face for one in samples if one.face is not None]
    if faces and float(np.median([face.light for face in faces])) < _DARK:
        codes.append("too_dark")
    if faces and float(np.median([face.light for face in faces])) > _BRIGHT:
        codes.append("too_bright")
    if not faces:
        return ["no_face"]
    if float(np.median([face.size for face in faces])) < _LEAST_SIZE:
        codes.append("face_too_small")
    gaps = np.diff([one.seconds for one in samples])
    if float(gaps.max()) > LONGEST_GAP or (len(samples) - 1) / length < LEAST_RATE:
        codes.append("too_few_frames")
    seen = [one.seconds for one in samples if one.face is not None]
    ends = [samples[0].seconds, *seen, samples[-1].seconds]
    if len(faces) < (1 - _LOST_SHARE) * len(samples) or float(np.diff(ends).max()) > _LOST_SECONDS:
        codes.append("face_lost")
    return codes


def _check_continuity(samples: Sequence[Sample]) -> list[str]:
    """Is it one uncut recording of one head."""
    codes = []
    crowded = [one.other >= _OTHER_SHARE for one in samples]
    if any(a and b for a, b in pairwise(crowded)):
        codes.append("two_faces")
    if any(_jumps(a, b) or (b.cut and _moves(a, b)) for a, b in pairwise(samples)):
        codes.append("cut")
    still = 0.0
    for before, now in pairwise(samples):
        still = still + now.seconds - before.seconds if now.change < _FROZEN_CHANGE else 0.0
        if still >= _FROZEN_SECONDS:
            codes.append("frozen")
            break
    return codes


def _jumps(before: Sample, now: Sample) -> bool:
    a, b = before.face, now.face
    if a is None or b is None or now.seconds - before.seconds > _NEIGHBOURS:
        return False
    size = max(min(a.size, b.size), 1e-6)
    turned = abs((b.roll - a.roll + 180) % 360 - 180)
    return (
        math.hypot(b.x - a.x, b.y - a.y) > _JUMP_SHARE * size
        or max(a.size, b.size) > _JUMP_SCALE * size
        or turned > _JUMP_ROLL
    )


def _moves(before: Sample, now: Sample) -> bool:
    a, b = before.face, now.face
    if a is None or b is None:
        return True
    size = max(min(a.size, b.size), 1e-6)
    return math.hypot(b.x - a.x, b.y - a.y) > _CUT_SHARE * size or max(a.size, b.size) > (1 + _CUT_SHARE) * size


def _episodes(faces: Sequence[tuple[float, Motion]]) -> list[Episode]:
    """All actions in the series, by their start."""
    found: list[Episode] = []
    for channel in _CHANNELS:
        values = [channel.value(face) for _, face in faces]
        if channel.name != "blink":
            values = _smooth(values)  # a blink may be two frames long, nothing else is
        if channel.frontal:
            values = [
                value if abs(face.yaw) < _FRONTAL and abs(face.pitch) < _FRONTAL else 0.0
                for value, (_, face) in zip(values, faces, strict=True)
            ]
        found += _switch(channel, [seconds for seconds, _ in faces], values)
    return sorted(found, key=lambda one: one.start)


def _smooth(values: Sequence[float]) -> list[float]:
    """The median of each value and its neighbours."""
    padded = [values[0], *values, values[-1]]
    return [sorted(padded[k : k + 3])[1] for k in range(len(values))]


def _switch(channel: _Channel, times: Sequence[float], values: Sequence[float]) -> list[Episode]:
    found: list[Episode] = []
    begin: int | None = None
    rising = 0

    def add(last: int, *, finished: bool) -> None:
        start, end = times[begin or 0], times[last]
        if channel.name == "blink" or end - start >= _SHORTEST:
            found.append(Episode(channel.name, start, end, max(values[begin or 0 : last + 1]), finished))

    for k, value in enumerate(values):
        if begin is None:
            if value < channel.off:
                rising = k + 1
            elif value >= channel.on:
                begin = min(rising, k)
        elif value < channel.off:
            add(k, finished=True)
            begin, rising = None, k + 1
    if begin is not None:
        add(len(values) - 1, finished=False)
    return found


def _flat(episode: Episode, faces: Sequence[tuple[float, Motion]]) -> bool:
    """Does the head behave like a picture of a head while it turns or looks up?"""
    if episode.name not in _TURNS:
        return False
    within = [face for seconds, face in faces if episode.start <= seconds <= episode.end]
    angles = [-one.pitch if episode.name == "look_up" else abs(one.yaw) for one in within]
    judged = [one for one, angle in zip(within, angles, strict=True) if _DEPTH_FROM <= angle <= _DEPTH_TO]
    judged = judged or [within[int(np.argmin(np.abs(np.array(angles) - _DEPTH_FROM)))]]
    stretch = float(np.median([one.stretch for one in judged]))
    if episode.name == "look_up":
        return stretch > _FLAT_LOOK
    # The nose leaves its line in proportion to the sine of the turn, and along with it, not against it.
    nose = float(np.median([one.nose / math.sin(math.radians(_turn(one.yaw))) for one in judged]))
    return stretch < _FLAT_TURN or nose < _FLAT_NOSE


def _turn(yaw: float) -> float:
    """`yaw` kept away from where its sine says nothing."""
    return math.copysign(min(max(abs(yaw), 5.0), 90.0), yaw)


def _strained(faces: Sequence[tuple[float, Motion]]) -> bool:
    """Frames in which a face that looks ahead is not the rigid head it was: a picture held askew."""
    bad = sum(
        abs(face.yaw) < _DEPTH_FROM and abs(face.pitch) < _DEPTH_FROM and face.strain > _FLAT_STRAIN
        for _, face in faces
    )
    return bad >= _FLAT_FRAMES


def _match(episodes: Sequence[Episode], actions: Sequence[str]) -> tuple[list[str], list[Episode]]:
    """Codes of what differs from the actions asked for, and the episodes that stand for them.

    Blinks are involuntary, so they count only where one is asked for; the other actions must be those asked for and no
    more. The same action twice in a row is one: people hesitate.
    """
    merged: list[Episode] = []
    for one in episodes:
        if one.name == "blink":
            continue
        if merged and merged[-1].name == one.name:
            last = merged[-1]
            merged[-1] = Episode(one.name, last.start, one.end, max(last.peak, one.peak), one.finished)
        else:
            merged.append(one)
    asked = [action for action in actions if action != "blink"]
    names = [one.name for one in merged]
    if not merged and asked:
        return ["no_action"], []
    if names != asked:
        codes = []
        if any(asked.count(name) > names.count(name) for name in asked):
            codes.append("action_missing")
        elif not _in_order(asked, names):
            codes.append("wrong_order")
        if any(names.count(name) > asked.count(name) for name in names):
            codes.append("extra_action")
        return codes or ["wrong_order"], []
    if any(b.start < a.end for a, b in pairwise(merged)):
        return ["actions_overlap"], []
    if any(not one.finished for one in merged):
        return ["action_unfinished"], []
    blinks = [one for one in episodes if one.name == "blink" and one.finished]
    return _place_blinks(merged, blinks, actions)


def _in_order(asked: Sequence[str], names: Sequence[str]) -> bool:
    rest = iter(names)
    return all(name in rest for name in asked)


def _place_blinks(
    merged: Sequence[Episode], blinks: Sequence[Episode], actions: Sequence[str]
) -> tuple[list[str], list[Episode]]:
    """Put a blink from between its neighbours to every place one is asked for."""
    matched: list[Episode] = []
    rest = list(merged)
    after = 0.0
    for action in actions:
        if action != "blink":
            matched.append(rest.pop(0))
            after = matched[-1].end
            continue
        before = rest[0].start if rest else math.inf
        fitting = [one for one in blinks if one.start >= after and one.end <= before]
        if not fitting:
            return ["wrong_order" if blinks else "action_missing"], []
        # A blink on demand is slower than the involuntary ones beside it.
        matched.append(max(fitting, key=lambda one: one.end - one.start))
        after = matched[-1].end
    return [], matched
