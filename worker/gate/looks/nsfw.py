"""Nudity: open_nsfw's probability for each sampled picture, and the bands its authors give.

Bands 0.2 and 0.8: Yahoo's open_nsfw, README ("scores < 0.2 indicate the image is likely to be safe, > 0.8 that it is
highly probable to be NSFW", in between it depends). It knows pornography only, no other sexual or violent content.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.gate.looks import detectors
from worker.gate.looks.detectors import TimedBatches
from worker.gate.looks.looking import Batches, LookError
from worker.gate.looks.sampling import Sample
from worker.gate.packs.standing import Standing
from worker.gate.signals import Signal
from worker.inference.packs import Pack
from worker.inference.registry import ModelCard
from worker.inference.types import ModelRunner
from worker.limits import NSFW_REJECT, NSFW_REVIEW

KIND: Final = "nsfw"
VOTES: Final = 2  # packs that must agree on a picture (FaceFusion's rule for its three)
_WHOLE, _SIDE = 256, 224
_MEANS: Final = np.array([104.0, 117.0, 123.0], np.float32)  # of blue, green, red


def prepare(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A picture uint8 [H, W, 3] as the model wants it, float32 [224, 224, 3] BGR minus means.

    As it was trained (open_nsfw, classify_nsfw.py): 256 x 256 whatever the shape, the middle of it, once through JPEG.
    """
    small = Image.fromarray(rgb).resize((_WHOLE, _WHOLE), Image.Resampling.BILINEAR)
    edge = (_WHOLE - _SIDE) // 2
    middle = small.crop((edge, edge, edge + _SIDE, edge + _SIDE))
    with io.BytesIO() as file:
        middle.save(file, "JPEG")
        pixels = np.asarray(Image.open(file), np.float32)
    return np.ascontiguousarray(pixels[:, :, ::-1] - _MEANS)


class NsfwLook:
    """Scores every sampled picture, and lets installed packs vote on it."""

    kind = KIND

    def __init__(self, runner: ModelRunner, card: ModelCard | None, voters: Sequence[Standing] = ()) -> None:
        """`card` is None where the built-in model is absent; fewer than `VOTES` voters are not asked."""
        self._card, self._scores = card, None
        if card is not None:
            ((tensor, _),), ((output, _),) = card.contract.inputs.items(), card.contract.outputs.items()
            self._scores = Batches(runner, card.name, tensor, output)
        self._voters = list(voters) if len(voters) >= VOTES else []
        broken = [one.code for one in self._voters if one.role != "voting"]
        self._broken = broken[0] if broken else ""
        self._votes = [TimedBatches(runner, one.pack) for one in self._voters if one.pack is not None]
        self._seconds: list[float] = []

    def take(self, sample: Sample) -> None:
        """See `Look.take`."""
        if self._broken:
            raise LookError(self._broken)  # a voter that is lost must not turn a majority
        self._seconds.append(sample.seconds)
        if self._scores is not None:
            self._scores.add(prepare(sample.rgb))
        for votes in self._votes:
            votes.add(detectors.prepare(votes.pack, sample.rgb, None))

    def finish(self) -> Signal:
        """See `Look.finish`."""
        timeline: list[tuple[float, float]] = []
        if self._scores is not None:
            self._scores.flush()
            timeline = list(zip(self._seconds, (float(row[1]) for row in self._scores.rows), strict=True))
        yes = np.zeros(len(self._seconds), int)
        for votes in self._votes:
            votes.flush()
            yes += [voted(votes.pack, row) for row in votes.rows]
        return measured(timeline, self._card, self._voters, [int(count) for count in yes] if self._votes else [])


def voted(pack: Pack, row: NDArray[np.float32]) -> bool:
    """Whether a voting pack says yes, by its output for one picture, float32 [values] or [values, boxes]."""
    if pack.boxes:
        return bool(row[list(pack.plus)].max() > pack.above)
    return bool(row[list(pack.plus)].sum() - row[list(pack.minus)].sum() > pack.above)


def measured(
    timeline: Sequence[tuple[float, float]],
    card: ModelCard | None,
    voters: Sequence[Standing] = (),
    yes: Sequence[int] = (),
) -> Signal:
    """The signal of scored pictures, (seconds, probability 0..1) each, and of how many `voters` said `yes` to each.

    Without any picture it is a failure.
    """
    if not timeline and not yes:
        return Signal(KIND, "error", {"code": "no_pictures"})
    value: dict[str, Any] = {"highest": None, "bands": [NSFW_REVIEW, NSFW_REJECT]}
    if timeline and card is not None:
        ordered = sorted(timeline)
        scores = [score for _, score in ordered]
        value |= {
            "highest": round(max(scores), 4),
            "share_in_band": round(sum(score >= NSFW_REVIEW for score in scores) / len(scores), 4),
            "pictures": len(scores),
            "timeline": [[round(seconds, 2), round(score, 4)] for seconds, score in ordered],
            "model_sha256": card.sha256,
        }
    if yes:
        positive = sum(count >= VOTES for count in yes)
        value["votes"] = {
            "packs": {one.id: one.pack.sha256 for one in voters if one.pack is not None},
            "pictures": len(yes),
            "positive": positive,
            "share": round(positive / len(yes), 4),
        }
    return Signal(KIND, "measured", value, card.name if card is not None else "packs")
