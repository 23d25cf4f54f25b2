"""What a head does through a clip: the actions asked for, one after the other, with a person's small unsteadiness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from tests.worker.liveness.head import Moment

ACTIONS: Final = ("turn_left", "turn_right", "look_up", "open_mouth", "blink", "smile")

# Time to begin, to hold and to end each action, in seconds.
_TIMES: Final = {"blink": (0.12, 0.16, 0.14)}
_USUAL: Final = (0.4, 0.45, 0.4)


@dataclass(frozen=True)
class Performance:
    """How an action list is played. Angles in degrees, times in seconds; `strength` scales the expressions."""

    actions: tuple[str, ...]
    lead: float = 1.1
    pause: float = 0.45
    tail: float = 0.6
    yaw: float = 27.0
    pitch: float = 20.0
    strength: float = 1.0
    pace: float = 1.0
    seed: int = 0
    blinks: tuple[float, ...] = ()
    restless: float = 1.0

    @property
    def seconds(self) -> float:
        """The clip's whole length."""
        moving = sum(sum(_TIMES.get(action, _USUAL)) * self.pace for action in self.actions)
        return self.lead + moving + self.pause * max(0, len(self.actions) - 1) + self.tail

    def spans(self) -> list[tuple[str, float, float]]:
        """(action, when it begins, when it has ended), in order."""
        found, at = [], self.lead
        for action in self.actions:
            length = sum(_TIMES.get(action, _USUAL)) * self.pace
            found.append((action, at, at + length))
            at += length + self.pause
        return found

    def moment(self, seconds: float) -> Moment:
        """The head at `seconds`: unsteadiness, involuntary blinks, and what the action of that time adds."""
        moment = self._unsteady(seconds)
        for action, begin, _ in self.spans():
            moment = self._with(moment, action, self._amount(action, seconds - begin))
        for begin in self.blinks:
            shut = _bump(seconds - begin, (0.06, 0.05, 0.08))
            moment = replace(moment, blink=max(moment.blink, shut))
        return moment

    def _amount(self, action: str, since: float) -> float:
        rise, hold, fall = (part * self.pace for part in _TIMES.get(action, _USUAL))
        return _bump(since, (rise, hold, fall))

    def _with(self, moment: Moment, action: str, amount: float) -> Moment:
        if action == "turn_left":  # the person's own left is the right of an unmirrored picture
            return replace(moment, yaw=moment.yaw + self.yaw * amount)
        if action == "turn_right":
            return replace(moment, yaw=moment.yaw - self.yaw * amount)
        if action == "look_up":
            return replace(moment, pitch=moment.pitch - self.pitch * amount)
        if action == "open_mouth":
            return replace(moment, mouth=max(moment.mouth, self.strength * amount))
        if action == "blink":
            return replace(moment, blink=max(moment.blink, min(1.0, amount)))
        if action == "smile":
            return replace(moment, smile=max(moment.smile, self.strength * amount))
        raise ValueError(f"no such action: {action}")

    def _unsteady(self, seconds: float) -> Moment:
        rng = np.random.default_rng(self.seed)
        phases, paces = rng.uniform(0, 2 * np.pi, (6, 2)), rng.uniform(0.15, 0.9, (6, 2))
        sway = np.sin(phases + 2 * np.pi * paces * seconds).mean(axis=1) * self.restless
        return Moment(
            yaw=1.8 * sway[0],
            pitch=1.5 * sway[1],
            roll=1.5 * sway[2],
            right=0.03 * sway[3],
            down=0.02 * sway[4],
            zoom=1 + 0.02 * sway[5],
        )


def perform(actions: Sequence[str], seed: int | None = None, **more: float) -> Performance:
    """A performance of `actions`; with a `seed`, by a person of a pace, reach and restlessness of their own."""
    if seed is None:
        return Performance(tuple(actions), **more)  # type: ignore[arg-type]
    rng = np.random.default_rng(seed)
    own = {
        "lead": rng.uniform(0.9, 1.4),
        "pause": rng.uniform(0.35, 0.6),
        "yaw": rng.uniform(23, 32),
        "pitch": rng.uniform(17, 24),
        "strength": rng.uniform(0.8, 1.0),
        "pace": rng.uniform(0.85, 1.15),
        "restless": rng.uniform(0.5, 1.5),
    }
    made = Performance(tuple(actions), seed=seed, **{**own, **more})  # type: ignore[arg-type]
    # People blink every few seconds without being asked, and often while they turn.
    count = rng.integers(1, 3)
    return replace(made, blinks=tuple(float(x) for x in rng.uniform(0.2, made.seconds - 0.3, count)))


def _bump(since: float, times: tuple[float, float, float]) -> float:
    """0 to 1 and back: smooth rise, hold, smooth fall."""
    rise, hold, fall = times
    up = np.clip(since / rise, 0, 1)
    down = np.clip((rise + hold + fall - since) / fall, 0, 1)
    way = float(min(up, down))
    return way * way * (3 - 2 * way)
