"""Giving a face another identity."""

from typing import Final

import numpy as np

from worker.faces.align import Affine
from worker.faces.neural.adapters import Tensors, image_of, picture_of
from worker.faces.neural.crops import Frame, PictureReader, TensorWriter, cut, framing
from worker.faces.types import Floats, Rgb
from worker.inference.registry import ModelCard


class Swapper:
    """Swappers that take an embedding and an aligned crop (hyperswap_1a_256, inswapper_128).

    A matrix that a model wants the embedding multiplied with is inside its imported graph, so all take the same.
    """

    def __init__(self, card: ModelCard) -> None:
        self.card: Final = card
        self.image: Final = image_of(card)
        self._writer = TensorWriter(self.image)
        self._reader = PictureReader(self.image)

    def prepare(self, frame: Frame, five: Floats, embedding: Floats) -> tuple[Tensors, Affine]:
        """The inputs for the face at `five`, to look like `embedding` (length 1), and the transform to the square."""
        matrix = framing(self.image, five)
        target = self._writer.write(cut(frame, matrix, self.image.side))
        return {"source": np.asarray(embedding, np.float32)[None], self.image.input: target}, matrix

    def decode(self, outputs: Tensors, *, planar: bool, item: int = 0) -> Rgb:
        """The swapped square uint8 [side, side, 3] of one item of a batch: Y'CbCr for planes, else RGB."""
        return picture_of(self._reader, outputs[self.image.output][item], planar)
