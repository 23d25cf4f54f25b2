"""Finding faces in a whole frame: one model or several in union, in large frames also part by part, and turned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from worker.faces.detect import FaceDetector, Window, same_face, tile_levels
from worker.faces.neural.adapters import Tensors, image_of
from worker.faces.neural.crops import TensorWriter, letterbox
from worker.faces.neural.points import NeuralDetection
from worker.faces.types import Detection, Floats, Frame, Rgb, size_of
from worker.inference.registry import ModelCard, ModelSet
from worker.inference.types import ModelRunner, Pending
from worker.media.planes import Box, Planes
from worker.model_choice import BUILTIN_DETECTOR

# Least share of a model's square that a face must fill to be found reliably: 16 of 640 pixels.
_SMALLEST_SHARE: Final = 0.025
# A face that only a part of the frame shows must be surer, false alarms grow with the number of looks.
_TILE_SCORE: Final = 0.6
# A box that comes nearer than this, in pixels of the model's square, to where a part of the frame ends is cut by it.
_BORDER: Final = 2.0
_EVENED: Final = 4  # pixels that a part may end before the frame, because its corners are even
# Corners of the mouth from its centre, in distances of the eyes, as in the ffhq_512 template.
_HALF_MOUTH: Final = 0.44


class Detecting(Protocol):
    """A look at a frame that was handed in and may not have ended yet."""

    def result(self) -> list[NeuralDetection]:
        """Wait for the end: the faces, each once, surest first. Raises ModelError."""
        ...


class Detector(Protocol):
    """Finds all faces of a frame. `submit` belongs to one thread; `result` of what it gives may be another's."""

    @property
    def exact(self) -> bool:
        """Whether all five points are located, and none guessed from the others."""
        ...

    def submit(self, frame: Frame, min_size: int) -> Detecting:
        """Hand in a look for faces whose box is at least `min_size` pixels. Raises ModelError."""
        ...


class PointDetector:
    """Detectors whose decoding is inside the graph (yoloface, yunet, scrfd, retinaface): boxes, scores, five points."""

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


class EngineDetector:
    """One model of an operator on the whole frame, and on overlapping parts of one in which faces are too small."""

    exact = True

    def __init__(self, runner: ModelRunner, card: ModelCard) -> None:
        self._runner = runner
        self._model = PointDetector(card)

    def submit(self, frame: Frame, min_size: int) -> Detecting:
        """See `Detector`."""
        size = size_of(frame)
        looks = [self._look(frame, None), *(self._look(_part(frame, tile), tile) for tile in _tiles(size, min_size))]
        return _EngineDetecting(self._model, looks, size, min_size)

    def _look(self, part: Frame, tile: Window | None) -> "_Look":
        inputs, scale = self._model.prepare(part)
        return _Look(self._runner.submit(self._model.card.name, inputs), scale, tile)


@dataclass(frozen=True)
class _Look:
    """A run on the whole frame, or on a part of it."""

    run: Pending
    scale: float
    tile: Window | None


@dataclass(frozen=True)
class _EngineDetecting:
    model: PointDetector
    looks: Sequence[_Look]
    size: tuple[int, int]
    min_size: int

    def result(self) -> list[NeuralDetection]:
        """See `Detecting`."""
        seen = []
        for look in self.looks:
            found = self.model.decode(look.run.result(), look.scale)
            if (tile := look.tile) is not None:
                sure = (one for one in found if one.score > _TILE_SCORE and self._whole(one, tile, look.scale))
                found = [_moved(one, tile) for one in sure]
            seen.append([one for one in found if float(one.box[2:].max()) >= self.min_size])
        return one_each(seen)

    def _whole(self, one: NeuralDetection, tile: Window, scale: float) -> bool:
        """Whether what a part shows is not cut by its border: another part or the frame shows such a face whole."""
        x, y, width, height = (float(value) for value in one.box)
        near = _BORDER / scale
        return (
            (x >= near or tile.x == 0)
            and (y >= near or tile.y == 0)
            and (x + width <= tile.width - near or tile.x + tile.width >= self.size[0] - _EVENED)
            and (y + height <= tile.height - near or tile.y + tile.height >= self.size[1] - _EVENED)
        )


class BuiltinDetector:
    """The two built-in nets, which look by themselves at parts of the frame; they end before `submit` does."""

    exact = False

    def __init__(self, runner: ModelRunner) -> None:
        self._detector = FaceDetector(runner)

    def submit(self, frame: Frame, min_size: int) -> Detecting:
        """See `Detector`."""
        found = [_with_mouth(one) for one in self._detector.detect(frame, min_size)]
        return Detected(sorted(found, key=lambda one: -one.score))


@dataclass(frozen=True)
class Detected:
    """A look that ended when it was handed in; a `Detecting`."""

    found: list[NeuralDetection]

    def result(self) -> list[NeuralDetection]:
        """See `Detecting`."""
        return self.found


class UnionDetector:
    """Several detectors; a face that more than one of them finds is told once, as the surest sees it.

    Detectors with guessed points only add faces that no exact one finds.
    """

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self._detectors = sorted(detectors, key=lambda one: not one.exact)
        self.exact: Final = all(one.exact for one in detectors)

    def submit(self, frame: Frame, min_size: int) -> Detecting:
        """See `Detector`."""
        return _UnionDetecting([(one.exact, one.submit(frame, min_size)) for one in self._detectors])


@dataclass(frozen=True)
class _UnionDetecting:
    looks: Sequence[tuple[bool, Detecting]]

    def result(self) -> list[NeuralDetection]:
        """See `Detecting`."""
        seen = [(exact, look.result()) for exact, look in self.looks]
        sure = one_each([found for exact, found in seen if exact])
        more = one_each([found for exact, found in seen if not exact], known=sure)
        return sorted(sure + more, key=lambda one: -one.score)


def detector_of(runner: ModelRunner, models: ModelSet, names: Sequence[str]) -> Detector:
    """The detector of this name, or the union of several; `BUILTIN_DETECTOR` is the built-in pair.

    Raises ModelError "model_missing".
    """
    detectors = [
        BuiltinDetector(runner) if name == BUILTIN_DETECTOR else EngineDetector(runner, models.card(name))
        for name in names
    ]
    return detectors[0] if len(detectors) == 1 else UnionDetector(detectors)


def detect_turned(detector: Detector, rgb: Rgb, min_size: int) -> list[NeuralDetection]:
    """The faces that lie on a side or stand upside down in uint8 [H, W, 3], each once, surest first.

    Their points keep the order of the upright face: the person's right eye is the first. Raises ModelError.
    """
    return one_each(
        [
            [_turned_back(one, quarters, rgb) for one in detector.submit(_turned(rgb, quarters), min_size).result()]
            for quarters in (1, 2, 3)
        ]
    )


def one_each(
    looks: Sequence[Sequence[NeuralDetection]], known: Sequence[NeuralDetection] = ()
) -> list[NeuralDetection]:
    """The faces of several looks at one frame, each once, surest first, and none that is among the `known`.

    What one look itself tells apart stays apart, however near.
    """
    order = sorted(
        ((number, one) for number, look in enumerate(looks) for one in look), key=lambda entry: -entry[1].score
    )
    kept: list[tuple[int, NeuralDetection]] = [(-1, one) for one in known]
    for number, one in order:
        if all(other == number or not same_face(one.box, face.box) for other, face in kept):
            kept.append((number, one))
    return [one for _, one in kept[len(known) :]]


def _tiles(size: tuple[int, int], min_size: int) -> list[Window]:
    """The parts of a frame of `size` (width, height) to be looked at too, with even corners, as planes are cut."""
    return [
        Window(tile.x // 2 * 2, tile.y // 2 * 2, tile.width // 2 * 2, tile.height // 2 * 2)
        for level in tile_levels(*size, min_size, _SMALLEST_SHARE)
        for tile in level
    ]


def _part(frame: Frame, tile: Window) -> Rgb:
    if isinstance(frame, Planes):
        return frame.to_rgb(Box(tile.x, tile.y, tile.x + tile.width, tile.y + tile.height))
    return frame[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]


def _moved(one: NeuralDetection, tile: Window) -> NeuralDetection:
    shift = np.array([tile.x, tile.y], np.float32)
    return NeuralDetection(np.concatenate([one.box[:2] + shift, one.box[2:]]), one.score, one.points + shift)


def _with_mouth(one: Detection) -> NeuralDetection:
    """A built-in detection, which knows the middle of the mouth only, with corners where a mouth has them."""
    right, left, nose, mouth = one.keypoints[:4]
    half = _HALF_MOUTH * (left - right)
    return NeuralDetection(one.box, one.score, np.stack([right, left, nose, mouth - half, mouth + half]))


def _turned(rgb: Rgb, quarters: int) -> Rgb:
    """The picture turned counter-clockwise."""
    return np.ascontiguousarray(np.rot90(rgb, quarters))


def _turned_back(one: NeuralDetection, quarters: int, rgb: Rgb) -> NeuralDetection:
    """What was found in `_turned(rgb, quarters)`, in pixels of `rgb`."""
    height, width = rgb.shape[:2]
    corners = _points_back(np.stack([one.box[:2], one.box[:2] + one.box[2:]]), quarters, width, height)
    low, high = corners.min(axis=0), corners.max(axis=0)
    return NeuralDetection(
        np.concatenate([low, high - low]), one.score, _points_back(one.points, quarters, width, height)
    )


def _points_back(points: Floats, quarters: int, width: int, height: int) -> Floats:
    x, y = points[:, 0], points[:, 1]
    there = {1: (width - y, x), 2: (width - x, height - y), 3: (y, height - x)}[quarters]
    return np.stack(there, axis=1).astype(np.float32)
