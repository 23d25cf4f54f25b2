"""How far a run is, from what its media child tells of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

# Share of the whole that each stage ends at. Videos spend nearly all of it in the last.
_PHOTO_STAGES: Final = {
    "prepare": 0.3,
    "decode": 0.4,
    "detect": 0.9,
    "swap": 0.6,
    "upscale": 0.7,
    "mark": 0.75,
    "judge": 0.9,
}


@dataclass(frozen=True)
class Progress:
    """How far a run is: `fraction` 0..1 never falls; `eta_seconds` is None until it can be told."""

    fraction: float
    stage: str
    frames_done: int
    frames_total: int | None
    eta_seconds: float | None


class Follower:
    """Turns the messages of a media child into `Progress`."""

    def __init__(self, progress: Callable[[Progress], None] | None) -> None:
        self._progress = progress
        self._fraction = 0.0
        self._begin: float | None = None
        self._first_done = 0

    def __call__(self, message: Mapping[str, Any]) -> None:
        if self._progress is None or "stage" not in message:
            return
        stage, done, total = str(message["stage"]), int(message["done"]), message["total"]
        eta = None
        if total and total > 1:
            now = time.monotonic()
            if self._begin is None:
                self._begin, self._first_done = now, done
            made = done - self._first_done
            if made > 0:
                eta = (now - self._begin) / made * max(0, total - done)
            fraction = min(1.0, done / total)
        else:
            fraction = 1.0 if total == 1 and done == 1 else _PHOTO_STAGES.get(stage, 0.0) if total else 0.0
        self._fraction = max(self._fraction, fraction)
        self._progress(Progress(self._fraction, stage, done, total, eta))
