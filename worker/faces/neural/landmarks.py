"""Landmarks of a face that a detector found: one small class per model, and all give 68 points of the 300-W markup."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from worker.faces import align
from worker.faces.align import Affine
from worker.faces.landmarks import region
from worker.faces.neural.adapters import Tensors, image_of
from worker.faces.neural.crops import TensorWriter, cut, framing
from worker.faces.neural.points import INSIGHT106_TO_68, MESH_TO_68, Landmarks68, NeuralDetection, quarter_of
from worker.faces.topology import TOPOLOGY
from worker.faces.types import Floats, Frame
from worker.inference.registry import ModelCard

_HEATMAP: Final = 64
# A heat map's peak that counts as certain; the mean over all points is told as a share of it.
_SURE_PEAK: Final = 0.9
# The same of the scores that peppa_wutz gives itself (FaceFusion's number).
_SURE_SCORE: Final = 0.95
_UNIT: Final = np.array(align.TEMPLATES["ffhq_512"])


@dataclass(frozen=True)
class Placed:
    """Where a model's square lies: `matrix` leads from the frame to it, `detected` is the detector's score."""

    matrix: Affine
    detected: float


class LandmarkFinder(Protocol):
    """Locates the landmarks of one face. An instance belongs to one thread.

    `follows`: its score tells whether there is a face at all, so that a face may be followed without a detector. One
    that does not answers with the score that the detector had.
    """

    @property
    def follows(self) -> bool:
        """See the class."""
        ...

    @property
    def card(self) -> ModelCard:
        """The model's."""
        ...

    def prepare(self, frame: Frame, found: NeuralDetection) -> tuple[Tensors, Placed]:
        """The inputs for one face, and what `decode` needs to know of where it was looked for."""
        ...

    def decode(self, outputs: Tensors, placed: Placed, *, item: int = 0) -> Landmarks68:
        """The landmarks of one item of a batch, in pixels of the frame."""
        ...


class BoxLandmarks:
    """What looks at a square round the face's box has in common; the square is turned with a face that lies."""

    follows = True

    def __init__(self, card: ModelCard) -> None:
        self.card: Final = card
        self._image = image_of(card)
        self._writer = TensorWriter(self._image)

    def prepare(self, frame: Frame, found: NeuralDetection) -> tuple[Tensors, Placed]:
        """See `LandmarkFinder`."""
        matrix = self._matrix(found)
        crop = cut(frame, matrix, self._image.side)
        return {self._image.input: self._writer.write(crop)}, Placed(matrix, found.score)

    def _matrix(self, found: NeuralDetection) -> Affine:
        return _turned(framing(self._image, found.points, found.box), quarter_of(found), self._image.side)


class Fan2d(BoxLandmarks):
    """68 landmarks, as sure as their heat maps' peaks are high (2dfan4; Bulat, Tzimiropoulos, arXiv:1703.07332)."""

    def decode(self, outputs: Tensors, placed: Placed, *, item: int = 0) -> Landmarks68:
        """See `LandmarkFinder`."""
        points = outputs["landmarks_xyscore"][item, :, :2] * np.float32(self._image.side / _HEATMAP)
        score = outputs["peaks"][item].mean() / _SURE_PEAK
        return _in_frame(points, placed, score)


class PeppaWutz(BoxLandmarks):
    """68 landmarks with a score of each (peppa_wutz)."""

    def decode(self, outputs: Tensors, placed: Placed, *, item: int = 0) -> Landmarks68:
        """See `LandmarkFinder`."""
        rows = outputs["output"][item]
        points = rows[:, :2] * np.float32(self._image.side / _HEATMAP)
        return _in_frame(points, placed, rows[:, 2].mean() / _SURE_SCORE)


class Insight106(BoxLandmarks):
    """106 landmarks without a word on how sure they are (2d106det of InsightFace), told as 68."""

    follows = False

    def decode(self, outputs: Tensors, placed: Placed, *, item: int = 0) -> Landmarks68:
        """See `LandmarkFinder`."""
        points = (outputs["fc1"][item].reshape(-1, 2) + 1) * np.float32(self._image.side / 2)
        return _in_frame(points[list(INSIGHT106_TO_68)], placed, placed.detected)


class Mesh478(BoxLandmarks):
    """The 478 points of the built-in mesh, told as 68. Where the five points are known they say how the face lies."""

    def decode(self, outputs: Tensors, placed: Placed, *, item: int = 0) -> Landmarks68:
        """See `LandmarkFinder`."""
        points = outputs["landmarks"][item][list(MESH_TO_68), :2]
        return _in_frame(points, placed, outputs["presence"][item].item())

    def _matrix(self, found: NeuralDetection) -> Affine:
        if not found.has_points:
            return super()._matrix(found)
        # A plain face laid on the five points: its square is as the net knows it, whatever the detector frames.
        plain = TOPOLOGY.canonical
        there = align.apply(align.similarity(align.five_points(plain), found.points), plain)
        return align.square(*region(there), self._image.side)


class FanFromFive:
    """68 landmarks that go with the detector's five points; the picture is not looked at (fan_68_5)."""

    follows = False

    def __init__(self, card: ModelCard) -> None:
        self.card: Final = card

    def prepare(self, frame: Frame, found: NeuralDetection) -> tuple[Tensors, Placed]:
        """See `LandmarkFinder`."""
        if not found.has_points:  # then whatever comes of it is worth nothing
            return {"input": _UNIT[None].astype(np.float32)}, Placed(np.eye(2, 3), 0.0)
        matrix = align.similarity(found.points, _UNIT)
        return {"input": align.apply(matrix, found.points)[None]}, Placed(matrix, found.score)

    def decode(self, outputs: Tensors, placed: Placed, *, item: int = 0) -> Landmarks68:
        """See `LandmarkFinder`."""
        return _in_frame(outputs["output"][item], placed, placed.detected)


_ADAPTERS: Final[Mapping[str, Callable[[ModelCard], LandmarkFinder]]] = {
    "": Fan2d,
    "peppa_wutz": PeppaWutz,
    "insight106": Insight106,
    "mesh478": Mesh478,
    "from_five": FanFromFive,
}


def landmark_finder(card: ModelCard) -> LandmarkFinder:
    """What reads the model of this card, of the role face_landmarks. KeyError for an adapter that is not known."""
    return _ADAPTERS[card.contract.adapter](card)


def _in_frame(points: Floats, placed: Placed, score: float) -> Landmarks68:
    there = align.apply(align.invert(placed.matrix), np.asarray(points, np.float32))
    return Landmarks68(there, float(np.clip(score, 0.0, 1.0)))


def _turned(matrix: Affine, quarters: int, side: int) -> Affine:
    """The same square turned so that a face lying by `quarters` of a circle, clockwise, stands upright in it."""
    if not quarters:
        return matrix
    back = align.square(np.full(2, side / 2), side, quarters * np.pi / 2, side)
    turned = back[:, :2] @ matrix
    turned[:, 2] += back[:, 2]
    return turned
