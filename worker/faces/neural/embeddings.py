"""Who somebody is, as a direction."""

from typing import ClassVar, Final

import numpy as np

from worker.faces.neural.adapters import Tensors, image_of
from worker.faces.neural.crops import TensorWriter, cut, framing
from worker.faces.types import Floats, Frame, Rgb
from worker.inference.registry import ModelCard


class ArcFace:
    """An identity as a direction in 512 dimensions (Deng et al. 2019, arXiv:1801.07698)."""

    same_apart: ClassVar[float] = 0.5
    """`apart` up to which a face that was just lost is taken for the same person."""

    def __init__(self, card: ModelCard) -> None:
        self.card: Final = card
        self.image: Final = image_of(card)
        self._writer = TensorWriter(self.image)
        ((self._output, (self.size,)),) = card.contract.outputs.items()

    def prepare(self, frame: Frame, five: Floats) -> Tensors:
        """The inputs for the face with the points `five` float32 [5, 2]."""
        return self.prepare_chip(cut(frame, framing(self.image, five), self.image.side))

    def prepare_chip(self, chip: Rgb) -> Tensors:
        """The inputs for a face that was cut out before, uint8 [side, side, 3] RGB."""
        return {self.image.input: self._writer.write(chip)}

    def decode(self, outputs: Tensors, *, item: int = 0) -> Floats:
        """The embedding of one item of a batch, float32 [D] of length 1. ValueError for one without a direction."""
        return unit(self.decode_raw(outputs, item=item))

    def decode_raw(self, outputs: Tensors, *, item: int = 0) -> Floats:
        """The same as the net gives it, of whatever length: what some swappers and converters were trained with."""
        return np.asarray(outputs[self._output][item], np.float32)


class BuiltinDescriptor(ArcFace):
    """The built-in descriptor (dlib's) as a direction too: 128 dimensions, in which everybody is near everybody.

    Its own distance is Euclidean, between vectors that differ little in length; this is 0.45 of it, see `faces.embed`.
    """

    same_apart: ClassVar[float] = 0.05


def describer_of(card: ModelCard) -> ArcFace:
    """What reads the model of this card, of the role face_embedding. KeyError for an adapter that is not known."""
    return {"": ArcFace, "builtin": BuiltinDescriptor}[card.contract.adapter](card)


def unit(vector: Floats) -> Floats:
    """The vector scaled to length 1, float32; ValueError for one that has no direction."""
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length < 1e-12:
        raise ValueError("an embedding without a direction")
    return np.asarray(vector / length, np.float32)


def apart(a: Floats, b: Floats) -> float:
    """1 - cosine of two embeddings of length 1: 0 for one person in one picture, about 1 for strangers."""
    return float(1.0 - np.dot(np.asarray(a, np.float64), np.asarray(b, np.float64)))
