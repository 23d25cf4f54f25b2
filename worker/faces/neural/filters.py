"""Whether a picture shows what a content filter looks for: three nets of different kinds, of which two must agree.

How each is read, and from which value on it says yes, is what FaceFusion does (its content_analyser.py); none of
these numbers was measured by us. Each net sees the whole picture in the middle of its square, the rest black.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import numpy as np

from worker.faces.neural.adapters import Tensors, image_of
from worker.faces.neural.crops import TensorWriter, letterbox
from worker.faces.types import Floats, Frame
from worker.inference.registry import ModelCard

VOTES_NEEDED: Final = 2


def peak(values: Floats) -> float:
    """Of nsfw_1, a detector: how sure it is of the surest thing it found, float32 [1] -> 0..1."""
    return float(values[0])


def two(values: Floats) -> float:
    """Of nsfw_2: how far the logit of explicit lies above that of harmless, float32 [2]."""
    return float(values[0] - values[1])


def four(values: Floats) -> float:
    """Of nsfw_3: how far the logits of the upper two of its four grades lie above those of the lower, float32 [4]."""
    return float(values[2] + values[3] - values[0] - values[1])


_READINGS: Final[Mapping[str, tuple[Callable[[Floats], float], float]]] = {
    "peak": (peak, 0.2),
    "two": (two, 0.25),
    "four": (four, 10.5),
}
"""By the adapter of a card: how its output becomes one number, and the number above which it says yes."""


class ContentFilter:
    """One filter; `prepare` belongs to one thread."""

    def __init__(self, card: ModelCard) -> None:
        """ValueError for a card whose adapter is none of these."""
        if card.contract.adapter not in _READINGS:
            raise ValueError(f"the model {card.name} has no reading named {card.contract.adapter!r}")
        self.card: Final = card
        self._image = image_of(card)
        self._read, self.threshold = _READINGS[card.contract.adapter]
        (self._output,) = card.contract.outputs
        self._writer = TensorWriter(self._image)

    def prepare(self, frame: Frame) -> Tensors:
        """The inputs for a whole frame."""
        rgb, _ = letterbox(frame, self._image.side)
        height, width = rgb.shape[:2]
        whole = np.zeros((self._image.side, self._image.side, 3), np.uint8)
        top, left = (whole.shape[0] - height) // 2, (whole.shape[1] - width) // 2
        whole[top : top + height, left : left + width] = rgb
        return {self._image.input: self._writer.write(whole)}

    def decode(self, outputs: Tensors, *, item: int = 0) -> float:
        """How much one item of a batch shows of it; the scale is the model's own. ValueError if it is no number."""
        score = self._read(outputs[self._output][item])
        if not np.isfinite(score):
            raise ValueError(f"the model {self.card.name} gave no number")
        return score

    def says_yes(self, score: float) -> bool:
        """Whether `score` is above the model's threshold."""
        return score > self.threshold


def vote(answers: Iterable[bool | None]) -> bool | None:
    """What the filters come to: two that say the same decide. None stands for one that did not answer.

    None if no two agree, which is no all-clear: nothing was screened then.
    """
    said = list(answers)
    for answer in (True, False):
        if said.count(answer) >= VOTES_NEEDED:
            return answer
    return None
