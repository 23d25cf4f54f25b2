"""Age: an estimate for each face of some sampled pictures, for a challenge band only.

An estimator that errs by four to six years cannot decide who is 18. It can say who has to be looked at: below 25 a
person does, below 16 the file is refused (the policy is in `content_policy`). The built-in network also guesses a
gender; that half of it is not converted. FairFace guesses race and gender; neither leaves its graph.

FairFace gives a band of years, and a band is read by its lower end, because the policy asks whether somebody may be
below an age: of 20-29 the estimate is 20, so a person looks. The band 10-19 cannot tell 16 from 12, so its estimate is
10 and the file is refused: that turns away some of 16 to 19 years, who can appeal, and lets no child through. Where
several estimators look, the lowest estimate of each look counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.faces import align
from worker.faces.neural import crops
from worker.gate.looks.looking import Batches, LookError, Spread
from worker.gate.looks.sampling import Sample, SampledFace
from worker.gate.signals import Signal
from worker.inference.registry import ModelCard
from worker.inference.types import ModelRunner
from worker.limits import AGE_CHALLENGE, AGE_REJECT, MIN_FACE_PIXELS
from worker.pipeline.analysed import Track

KIND: Final = "age"
CROP: Final = 1.2  # times the longer side of the face's box
MOST_OF_TRACK: Final = 8  # samples of one person in one shot
_SIDE: Final = 224
_MEANS: Final = np.array([103.9, 116.8, 123.7], np.float32)  # of blue, green, red
_YEARS: Final = np.arange(100, dtype=np.float64)
BANDS: Final = (0, 3, 10, 20, 30, 40, 50, 60, 70)
"""The lower ends of FairFace's bands in years, in the order of its numbers (its predict.py)."""


def prepare(rgb: NDArray[np.uint8], face: SampledFace) -> NDArray[np.float32]:
    """The face as the model wants it, float32 [224, 224, 3] BGR minus means."""
    centre = face.box[:2] + face.box[2:] / 2
    cut = align.square(centre, CROP * float(face.box[2:].max()), 0.0, _SIDE)
    return np.ascontiguousarray(align.warp(rgb, cut, _SIDE)[:, :, ::-1].astype(np.float32) - _MEANS)


def years(probabilities: NDArray[np.float32]) -> float:
    """The expected age, from the probabilities float32 [100] of 0 to 99 years."""
    return float(probabilities.astype(np.float64) @ _YEARS / probabilities.sum(dtype=np.float64))


def band_start(number: NDArray[np.float32]) -> float:
    """The estimate that a band is read as, from its number float32 []. Raises LookError "out_of_range"."""
    value = float(number)
    if value not in range(len(BANDS)):
        raise LookError("out_of_range")
    return float(BANDS[int(value)])


class _Estimator:
    """One model: what it is fed, and what its answer is as years."""

    def __init__(self, runner: ModelRunner, card: ModelCard) -> None:
        self.card = card
        ((tensor, _),), ((output, _),) = card.contract.inputs.items(), card.contract.outputs.items()
        self._batches = Batches(runner, card.name, tensor, output)
        self._read: Callable[[NDArray[np.float32]], float] = band_start if card.contract.adapter == "bands" else years

    def add(self, rgb: NDArray[np.uint8], face: SampledFace) -> None:
        image = self.card.contract.image
        if image is None:
            self._batches.add(prepare(rgb, face))
            return
        square = crops.cut(rgb, crops.framing(image, align.five_points(face.landmarks)), image.side)
        self._batches.add(crops.TensorWriter(image).write(square)[0])

    def finish(self) -> list[float]:
        """Years, in the order in which faces were added."""
        self._batches.flush()
        return [self._read(row) for row in self._batches.rows]


class AgeLook:
    """Estimates each track's age in up to `MOST_OF_TRACK` pictures."""

    kind = KIND

    def __init__(
        self, runner: ModelRunner, cards: Sequence[ModelCard], tracks: Sequence[Track], left_out: Sequence[str] = ()
    ) -> None:
        """`cards` of at least one estimator; `left_out` are those that are installed and cannot be asked, by name."""
        self._tracks, self._left_out = tracks, left_out
        self._estimators = [_Estimator(runner, card) for card in cards]
        self._spread = Spread(tracks, MOST_OF_TRACK)
        self._asked: list[tuple[int, float]] = []

    def take(self, sample: Sample) -> None:
        """See `Look.take`."""
        for face in sample.faces:
            large = float(face.box[2:].max()) >= MIN_FACE_PIXELS
            if large and self._spread.wants(face.track, sample.seconds):
                self._asked.append((face.track, sample.seconds))
                for estimator in self._estimators:
                    estimator.add(sample.rgb, face)

    def finish(self) -> Signal:
        """See `Look.finish`."""
        answers = [(one.card, one.finish()) for one in self._estimators]
        return measured(self._asked, answers, [track.id for track in self._tracks], self._left_out)


def measured(
    looks: Sequence[tuple[int, float]],
    answers: Sequence[tuple[ModelCard, Sequence[float]]],
    tracks: Sequence[int],
    left_out: Sequence[str] = (),
) -> Signal:
    """The signal of `looks` (track, seconds) at the persons `tracks`; those without any are counted.

    `answers` are the years that each model estimated for the looks, in order. Where there are persons and no estimate
    the question does not apply, which is no answer.
    """
    # By numpy, because the smallest of what holds a NaN has to be one.
    lowest = np.min([row for _, row in answers], axis=0).tolist() if looks else []
    estimates = [(track, seconds, age) for (track, seconds), age in zip(looks, lowest, strict=True)]
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
        "models": {
            card.name: {"sha256": card.sha256, "youngest": round(min(row), 1) if row else None} for card, row in answers
        },
        "left_out": list(left_out),
        "bands": [AGE_REJECT, AGE_CHALLENGE],
    }
    tool = ", ".join(card.name for card, _ in answers)
    return Signal(KIND, "not_applicable" if tracks and not estimates else "measured", value, tool)
