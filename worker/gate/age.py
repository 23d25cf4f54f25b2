"""Age: an estimate for each face of some sampled pictures, for a challenge band only.

An estimator that errs by four to six years cannot decide who is 18. It can say who has to be looked at: below 25 a
person does, below 16 the file is refused (the policy is in `content_policy`). The network also guesses a gender; that
half of it is not converted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.faces import align
from worker.gate.looking import Batches, Spread
from worker.gate.sampling import Sample, SampledFace
from worker.gate.signals import Signal
from worker.inference.registry import ModelCard
from worker.inference.types import ModelRunner
from worker.limits import AGE_CHALLENGE, AGE_REJECT, MIN_FACE_PIXELS
from worker.pipeline.analysis import Track

KIND: Final = "age"
CROP: Final = 1.2  # times the longer side of the face's box
MOST_OF_TRACK: Final = 8  # samples of one person in one shot
_SIDE: Final = 224
_MEANS: Final = np.array([103.9, 116.8, 123.7], np.float32)  # of blue, green, red
_YEARS: Final = np.arange(100, dtype=np.float64)


def prepare(rgb: NDArray[np.uint8], face: SampledFace) -> NDArray[np.float32]:
    """The face as the model wants it, float32 [224, 224, 3] BGR minus means."""
    centre = face.box[:2] + face.box[2:] / 2
    cut = align.square(centre, CROP * float(face.box[2:].max()), 0.0, _SIDE)
    return np.ascontiguousarray(align.warp(rgb, cut, _SIDE)[:, :, ::-1].astype(np.float32) - _MEANS)


def years(probabilities: NDArray[np.float32]) -> float:
    """The expected age, from the probabilities float32 [100] of 0 to 99 years."""
    return float(probabilities.astype(np.float64) @ _YEARS / probabilities.sum(dtype=np.float64))


class AgeLook:
    """Estimates each track's age in up to `MOST_OF_TRACK` pictures."""

    kind = KIND

    def __init__(self, runner: ModelRunner, card: ModelCard, tracks: Sequence[Track]) -> None:
        self._card, self._tracks = card, tracks
        ((tensor, _),), ((output, _),) = card.contract.inputs.items(), card.contract.outputs.items()
        self._batches = Batches(runner, card.name, tensor, output)
        self._spread = Spread(tracks, MOST_OF_TRACK)
        self._asked: list[tuple[int, float]] = []

    def take(self, sample: Sample) -> None:
        """See `Look.take`."""
        for face in sample.faces:
            large = float(face.box[2:].max()) >= MIN_FACE_PIXELS
            if large and self._spread.wants(face.track, sample.seconds):
                self._asked.append((face.track, sample.seconds))
                self._batches.add(prepare(sample.rgb, face))

    def finish(self) -> Signal:
        """See `Look.finish`."""
        self._batches.flush()
        estimates = [
            (track, seconds, years(row)) for (track, seconds), row in zip(self._asked, self._batches.rows, strict=True)
        ]
        return measured(estimates, [track.id for track in self._tracks], self._card)


def measured(estimates: Sequence[tuple[int, float, float]], tracks: Sequence[int], card: ModelCard) -> Signal:
    """The signal of estimates (track, seconds, years) for the persons `tracks`; those without any are counted.

    Where there are persons and no estimate the question does not apply, which is no answer.
    """
    by_track: dict[int, list[tuple[float, float]]] = {}
    for track, seconds, age in sorted(estimates):
        by_track.setdefault(track, []).append((seconds, age))
    unseen = [track for track in tracks if track not in by_track]
    value = {
        "youngest": round(min((age for _, _, age in estimates), default=0.0), 1) if estimates else None,
        "faces": len(estimates),
        "not_applicable": len(unseen),
        "tracks": [
            {"track": track, "timeline": [[round(seconds, 2), round(age, 1)] for seconds, age in rows]}
            for track, rows in by_track.items()
        ],
        "model_sha256": card.sha256,
        "bands": [AGE_REJECT, AGE_CHALLENGE],
    }
    return Signal(KIND, "not_applicable" if tracks and not estimates else "measured", value, card.name)
