"""One small class per kind of model: what goes in, and what its answer means.

`prepare` makes the inputs of one run of one item, `decode` reads its outputs; nothing is run here, so that a pipeline
can submit as it likes and the engine can batch what many callers sent. What distinguishes models of a kind (names,
size, colours, template, range) is in their card. The tensors that `prepare` gives are used again by its next call,
which `ModelRunner.submit` allows; so an instance belongs to one thread.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from worker.faces import align
from worker.faces.align import Affine
from worker.faces.neural.crops import Frame, PictureReader, TensorWriter, cut, framing, letterbox
from worker.faces.neural.points import Landmarks68, NeuralDetection
from worker.faces.types import Floats, Rgb
from worker.inference.registry import ImageContract, ModelCard

Tensors = Mapping[str, Floats]

_HEATMAP: Final = 64
# A heat map's peak that counts as certain; the mean over all points is told as a share of it.
_SURE_PEAK: Final = 0.9


class PointDetector:
    """Detectors whose decoding is inside the graph (yoloface_8n, yunet): boxes, scores and five points."""

    def __init__(self, card: ModelCard) -> None:
        self.card: Final = card
        self._image = _image_of(card)
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


class Fan2d:
    """68 landmarks from a square round the face's box (2dfan4; Bulat, Tzimiropoulos 2017, arXiv:1703.07332)."""

    def __init__(self, card: ModelCard) -> None:
        self.card: Final = card
        self._image = _image_of(card)
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


class ArcFace:
    """An identity as a direction in 512 dimensions (Deng et al. 2019, arXiv:1801.07698)."""

    def __init__(self, card: ModelCard) -> None:
        self.card: Final = card
        self.image: Final = _image_of(card)
        self._writer = TensorWriter(self.image)
        (self._output,) = card.contract.outputs

    def prepare(self, frame: Frame, five: Floats) -> Tensors:
        """The inputs for the face with the points `five` float32 [5, 2]."""
        return self.prepare_chip(cut(frame, framing(self.image, five), self.image.side))

    def prepare_chip(self, chip: Rgb) -> Tensors:
        """The inputs for a face that was cut out before, uint8 [side, side, 3] RGB."""
        return {self.image.input: self._writer.write(chip)}

    def decode(self, outputs: Tensors, *, item: int = 0) -> Floats:
        """The embedding of one item of a batch, float32 [D] of length 1."""
        return unit(outputs[self._output][item])


class Swapper:
    """Swappers that take an embedding and an aligned crop (hyperswap_1a_256, inswapper_128).

    A matrix that a model wants the embedding multiplied with is inside its imported graph, so all take the same.
    """

    def __init__(self, card: ModelCard) -> None:
        self.card: Final = card
        self.image: Final = _image_of(card)
        self._writer = TensorWriter(self.image)
        self._reader = PictureReader(self.image)

    def prepare(self, frame: Frame, five: Floats, embedding: Floats) -> tuple[Tensors, Affine]:
        """The inputs for the face at `five`, to look like `embedding` (length 1), and the transform to the square."""
        matrix = framing(self.image, five)
        target = self._writer.write(cut(frame, matrix, self.image.side))
        return {"source": np.asarray(embedding, np.float32)[None], self.image.input: target}, matrix

    def decode(self, outputs: Tensors, *, planar: bool, item: int = 0) -> Rgb:
        """The swapped square uint8 [side, side, 3] of one item of a batch: Y'CbCr for planes, else RGB."""
        return _picture(self._reader, outputs[self.image.output][item], planar)


class Enhancer:
    """Face restorers that take an aligned crop and give the same one, sharper (gfpgan_1.4)."""

    def __init__(self, card: ModelCard) -> None:
        self.card: Final = card
        self.image: Final = _image_of(card)
        self._writer = TensorWriter(self.image)
        self._reader = PictureReader(self.image)

    def prepare(self, frame: Frame, five: Floats) -> tuple[Tensors, Affine]:
        """The inputs for the face at `five` float32 [5, 2], and the transform to the square."""
        matrix = framing(self.image, five)
        return {self.image.input: self._writer.write(cut(frame, matrix, self.image.side))}, matrix

    def decode(self, outputs: Tensors, *, planar: bool, item: int = 0) -> Rgb:
        """The restored square uint8 [side, side, 3] of one item of a batch: Y'CbCr for planes, else RGB."""
        return _picture(self._reader, outputs[self.image.output][item], planar)


def unit(vector: Floats) -> Floats:
    """The vector scaled to length 1, float32; ValueError for one that has no direction."""
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length < 1e-12:
        raise ValueError("an embedding without a direction")
    return np.asarray(vector / length, np.float32)


def apart(a: Floats, b: Floats) -> float:
    """1 - cosine of two embeddings of length 1: 0 for one person in one picture, about 1 for strangers."""
    return float(1.0 - np.dot(np.asarray(a, np.float64), np.asarray(b, np.float64)))


def _image_of(card: ModelCard) -> ImageContract:
    if card.contract.image is None:
        raise ValueError(f"the model {card.name} does not say how a picture goes in")
    return card.contract.image


def _picture(reader: PictureReader, tensor: Floats, planar: bool) -> Rgb:
    return reader.yuv(tensor) if planar else reader.rgb(tensor)
