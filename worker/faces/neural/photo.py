"""All faces of one picture by neural models: a detector, 68 landmarks and an embedding of each."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from worker.faces.detect import overlap
from worker.faces.errors import FaceError
from worker.faces.neural.detectors import PointDetector
from worker.faces.neural.embeddings import ArcFace, unit
from worker.faces.neural.landmarks import Fan2d
from worker.faces.neural.points import NeuralDetection, box_of_points, five_of
from worker.faces.neural.track import LANDMARK_SCORE, NeuralModels
from worker.faces.types import MIN_FACE_PIXELS, Floats, Rgb
from worker.inference.registry import ModelSet
from worker.inference.types import ModelRunner

_SAME: Final = 0.25  # overlap of two boxes, over their union, from which they are one face


@dataclass(frozen=True)
class NeuralFace:
    """One face: `box` float32 [4] x, y, width, height of the landmarks [68, 2], `descriptor` [D] of length 1.

    `raw` is the descriptor as the net gave it, of whatever length.
    """

    box: Floats
    score: float
    landmarks: Floats
    descriptor: Floats
    raw: Floats

    @property
    def five(self) -> Floats:
        """Eyes, nose tip and corners of the mouth, float32 [5, 2]."""
        return five_of(self.landmarks)


class PhotoLooker:
    """Looks at pictures, uint8 [H, W, 3] RGB, from one thread. All methods raise ModelError too."""

    def __init__(self, runner: ModelRunner, models: ModelSet, names: NeuralModels) -> None:
        """Raises ModelError "model_missing"."""
        self._runner = runner
        self._detector = PointDetector(models.card(names.detector))
        self._fan = Fan2d(models.card(names.landmarks))
        self._describer = ArcFace(models.card(names.embedding))

    @property
    def descriptor_size(self) -> int:
        """How many numbers a descriptor has."""
        (shape,) = self._describer.card.contract.outputs.values()
        return shape[0]

    def faces(self, rgb: Rgb, *, min_size: int = MIN_FACE_PIXELS) -> list[NeuralFace]:
        """The faces of at least `min_size` pixels, largest first."""
        inputs, scale = self._detector.prepare(rgb)
        found = self._detector.decode(self._runner.run(self._detector.card.name, inputs), scale)
        faces = [face for face in self._described(rgb, found) if float(face.box[2:].max()) >= min_size]
        return sorted(faces, key=lambda face: -float(face.box[2] * face.box[3]))

    def face_at(self, rgb: Rgb, box: Floats) -> NeuralFace:
        """The face at `box` float32 [4], where another analysis saw it. Raises FaceError `source_unusable`.

        One that this detector does not see is looked for right there.
        """
        inputs, scale = self._detector.prepare(rgb)
        found = self._detector.decode(self._runner.run(self._detector.card.name, inputs), scale)
        worth = [overlap(one.box, box) for one in found]
        best = int(np.argmax(worth)) if worth else -1
        seen = found[best] if worth and worth[best] > _SAME else NeuralDetection(box, 0.0, np.zeros((5, 2), np.float32))
        faces = self._described(rgb, [seen])
        if not faces:
            raise FaceError("source_unusable", "its landmarks were not found")
        return faces[0]

    def _described(self, rgb: Rgb, found: list[NeuralDetection]) -> list[NeuralFace]:
        """Of what was detected, all that has the landmarks of a face; the engine gets the runs of all faces at once."""
        looks = []
        for one in found:
            inputs, matrix = self._fan.prepare(rgb, one.box)
            looks.append((self._runner.submit(self._fan.card.name, inputs), matrix))
        kept = []
        for one, (run, matrix) in zip(found, looks, strict=True):
            points = self._fan.decode(run.result(), matrix)
            if points.score >= LANDMARK_SCORE:
                describe = self._describer.prepare(rgb, five_of(points.points))
                kept.append((one, points.points, self._runner.submit(self._describer.card.name, describe)))
        faces = []
        for one, landmarks, pending in kept:
            raw = self._describer.decode_raw(pending.result())
            try:
                descriptor = unit(raw)
            except ValueError:  # an embedding without a direction: no face that could be told from another
                continue
            faces.append(NeuralFace(box_of_points(landmarks), one.score, landmarks, descriptor, raw))
        return faces
