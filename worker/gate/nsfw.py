"""Nudity: open_nsfw's probability for each sampled picture, and the bands its authors give.

Bands 0.2 and 0.8: Yahoo's open_nsfw, README ("scores < 0.2 indicate the image is likely to be safe, > 0.8 that it is
highly probable to be NSFW", in between it depends). It knows pornography only, no other sexual or violent content.
"""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.gate.looking import Batches
from worker.gate.sampling import Sample
from worker.gate.signals import Signal
from worker.inference.registry import ModelCard
from worker.inference.types import ModelRunner
from worker.limits import NSFW_REJECT, NSFW_REVIEW

KIND: Final = "nsfw"
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
    """Scores every sampled picture."""

    kind = KIND

    def __init__(self, runner: ModelRunner, card: ModelCard) -> None:
        self._card = card
        ((tensor, _),), ((output, _),) = card.contract.inputs.items(), card.contract.outputs.items()
        self._batches = Batches(runner, card.name, tensor, output)
        self._seconds: list[float] = []

    def take(self, sample: Sample) -> None:
        """See `Look.take`."""
        self._seconds.append(sample.seconds)
        self._batches.add(prepare(sample.rgb))

    def finish(self) -> Signal:
        """See `Look.finish`."""
        self._batches.flush()
        scores = [float(row[1]) for row in self._batches.rows]
        return measured(list(zip(self._seconds, scores, strict=True)), self._card)


def measured(timeline: list[tuple[float, float]], card: ModelCard) -> Signal:
    """The signal of scored pictures, (seconds, probability 0..1) each; without any it is a failure."""
    if not timeline:
        return Signal(KIND, "error", {"code": "no_pictures"})
    ordered = sorted(timeline)
    scores = [score for _, score in ordered]
    value = {
        "highest": round(max(scores), 4),
        "share_in_band": round(sum(score >= NSFW_REVIEW for score in scores) / len(scores), 4),
        "pictures": len(scores),
        "timeline": [[round(seconds, 2), round(score, 4)] for seconds, score in ordered],
        "model_sha256": card.sha256,
        "bands": [NSFW_REVIEW, NSFW_REJECT],
    }
    return Signal(KIND, "measured", value, card.name)
