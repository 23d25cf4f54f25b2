"""Finding faces in a whole frame."""

from typing import Final

import numpy as np

from worker.faces.neural.adapters import Tensors, image_of
from worker.faces.neural.crops import Frame, TensorWriter, letterbox
from worker.faces.neural.points import NeuralDetection
from worker.inference.registry import ModelCard


class PointDetector:
    """Detectors whose decoding is inside the graph (yoloface_8n, yunet): boxes, scores and five points."""

    def __init__(self, card: ModelCard) -> None:
        self.card: Final = card
        self._image = image_of(card)
        self._writer: TensorWriter | None = None
        self._size = (0, 0)

    def prepare(self, frame: Frame) -> tuple[Tensors, float]:
        """The inputs for a whole frame, and the scale at which it is looked at."""
        rgb, scale = letterbox(frame, self._image.side)
        size = (rgb.shape[1], rgb.shape[0])
        if self._writer is None or size != self._size:  # what lies beyond the picture has to be black
            self._writer, self._size = TensorWriter(self._image), size
        return {self._image.input: self._writer.write(rgb)}, scale

    def decode(self, outputs: Tensors, scale: float, *, item: int = 0) -> list[NeuralDetection]:
        """The faces of one item of a batch, surest first, in pixels of the frame."""
        scores = outputs["scores"][item]
        count = int(np.count_nonzero(scores > 0))
        boxes, points = outputs["boxes"][item, :count] / scale, outputs["points"][item, :count] / scale
        return [NeuralDetection(boxes[k], float(scores[k]), points[k]) for k in range(count)]
