"""What looks at the sampled pictures: one `Look` per question; each ends in one signal, and none stops another."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from worker.gate import signals
from worker.gate.looks.sampling import Sample
from worker.gate.signals import Signal
from worker.inference.types import ModelError, ModelRunner
from worker.pipeline.analysed import Track

log = logging.getLogger(__name__)

BATCH: Final = 8


class LookError(Exception):
    """A tool that could not answer. `code`: not_finite, timeout, or that of a ModelError."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Look(Protocol):
    """One question about an upload."""

    kind: str

    def take(self, sample: Sample) -> None:
        """Look at one picture. Raises LookError, ModelError."""
        ...

    def finish(self) -> Signal:
        """What was seen. Raises LookError, ModelError."""
        ...


def look_at(samples: Iterable[Sample], looks: Sequence[Look]) -> list[Signal]:
    """The signal of each look, in order; one whose tool broke is a failure of that kind, never an acceptance.

    Raises what `samples` raises: a file that cannot be read is no matter of the models.
    """
    codes: dict[int, str] = {}
    for sample in samples:
        for number, look in enumerate(looks):
            if number not in codes:
                try:
                    look.take(sample)
                except (LookError, ModelError) as error:
                    codes[number] = _noted(look.kind, error)
        if len(codes) == len(looks):
            break
    found = []
    for number, look in enumerate(looks):
        try:
            found.append(signals.failed(look.kind, codes[number]) if number in codes else look.finish())
        except (LookError, ModelError) as error:
            found.append(signals.failed(look.kind, _noted(look.kind, error)))
    return found


class Batches:
    """Collects a model's inputs and runs them `size` at a time; the first output's rows come back in order."""

    def __init__(self, runner: ModelRunner, model: str, tensor: str, output: str, size: int = BATCH) -> None:
        self._runner, self._model, self._tensor, self._output, self._size = runner, model, tensor, output, size
        self._waiting: list[NDArray[np.float32]] = []
        self.rows: list[NDArray[np.float32]] = []

    def add(self, prepared: NDArray[np.float32]) -> None:
        """Hand in one item. Raises LookError, ModelError."""
        self._waiting.append(prepared)
        if len(self._waiting) >= self._size:
            self.flush()

    def flush(self) -> None:
        """Run what waits. Raises LookError `not_finite`, ModelError."""
        if not self._waiting:
            return
        inputs = {self._tensor: np.stack(self._waiting)}
        self._waiting = []
        values = self._answers(inputs)[self._output]
        if not np.isfinite(values).all():
            raise LookError("not_finite")
        self.rows += list(values)

    def _answers(self, inputs: Mapping[str, NDArray[np.float32]]) -> Mapping[str, NDArray[Any]]:
        return self._runner.run(self._model, inputs)


class Apart:
    """Which of the samples are looked at: those `gap` seconds from one another, or more."""

    def __init__(self, gap: float) -> None:
        self._gap = gap
        self._seen: list[float] = []

    @property
    def count(self) -> int:
        """How many were."""
        return len(self._seen)

    def wants(self, seconds: float) -> bool:
        """Whether this one is wanted; it counts as looked at then."""
        # The samples come in two runs over time, so the distance to all earlier ones counts.
        if any(abs(seconds - one) < self._gap for one in self._seen):
            return False
        self._seen.append(seconds)
        return True


class Spread:
    """Which of a track's samples are looked at: at most about `most`, spread over its length."""

    def __init__(self, tracks: Sequence[Track], most: int) -> None:
        self._tracks = {track.id: Apart((track.last_seconds - track.first_seconds) / most) for track in tracks}

    def wants(self, track: int, seconds: float) -> bool:
        """Whether this one is wanted; it counts as looked at then."""
        return self._tracks.setdefault(track, Apart(0.0)).wants(seconds)


def _noted(kind: str, error: LookError | ModelError) -> str:
    log.warning("The gate's look for %s ended with %s: %s", kind, error.code, error)
    return error.code
