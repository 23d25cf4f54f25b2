"""Points of a face in a square round its box."""

from typing import Final

import numpy as np

from worker.faces import align
from worker.faces.align import Affine
from worker.faces.neural.adapters import Tensors, image_of
from worker.faces.neural.crops import Frame, TensorWriter, cut, framing
from worker.faces.neural.points import Landmarks68
from worker.faces.types import Floats
from worker.inference.registry import ModelCard

_HEATMAP: Final = 64
# A heat map's peak that counts as certain; the mean over all points is told as a share of it.
_SURE_PEAK: Final = 0.9


class Fan2d:
    """68 landmarks from a square round the face's box (2dfan4; Bulat, Tzimiropoulos 2017, arXiv:1703.07332)."""

    def __init__(self, card: ModelCard) -> None:
        self.card: Final = card
        self._image = image_of(card)
        self._writer = TensorWriter(self._image)

    def prepare(self, frame: Frame, box: Floats) -> tuple[Tensors, Affine]:
        """The inputs for the face in `box` float32 [4], and the transform from the frame to the square."""
        matrix = framing(self._image, np.zeros((5, 2), np.float32), box)
        return {self._image.input: self._writer.write(cut(frame, matrix, self._image.side))}, matrix

    def decode(self, outputs: Tensors, matrix: Affine, *, item: int = 0) -> Landmarks68:
        """The landmarks of one item of a batch, in pixels of the frame."""
        points = outputs["landmarks_xyscore"][item, :, :2] * np.float32(self._image.side / _HEATMAP)
        score = float(np.clip(outputs["peaks"][item].mean() / _SURE_PEAK, 0.0, 1.0))
        return Landmarks68(align.apply(align.invert(matrix), points), score)
