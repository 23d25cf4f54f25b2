"""Restoring faces."""

from typing import Final

from worker.faces.align import Affine
from worker.faces.neural.adapters import Tensors, image_of
from worker.faces.neural.crops import PictureReader, TensorWriter, cut, framing
from worker.faces.types import Floats, Frame, Rgb
from worker.inference.registry import ModelCard


class Enhancer:
    """Face restorers that take an aligned crop and give the same one, sharper (gfpgan_1.4)."""

    def __init__(self, card: ModelCard) -> None:
        self.card: Final = card
        self.image: Final = image_of(card)
        self._writer = TensorWriter(self.image)
        self._reader = PictureReader(self.image)

    def prepare(self, frame: Frame, five: Floats) -> tuple[Tensors, Affine]:
        """The inputs for the face at `five` float32 [5, 2], and the transform to the square."""
        matrix = framing(self.image, five)
        return {self.image.input: self._writer.write(cut(frame, matrix, self.image.side))}, matrix

    def decode(self, outputs: Tensors, *, item: int = 0) -> Rgb:
        """The restored square uint8 [side, side, 3] RGB of one item of a batch."""
        return self._reader.rgb(outputs[self.image.output][item])
