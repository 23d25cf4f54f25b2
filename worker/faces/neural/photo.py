"""All faces of one picture by neural models: detectors, 68 landmarks and an embedding of each."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from worker.faces.detect import overlap
from worker.faces.errors import FaceError
from worker.faces.neural.detectors import detect_turned, detector_of, one_each
from worker.faces.neural.embeddings import describer_of, unit
from worker.faces.neural.landmarks import landmark_finder
from worker.faces.neural.points import NeuralDetection, box_of_points, five_of
from worker.faces.neural.track import LANDMARK_SCORE, NeuralModels
from worker.faces.types import MIN_FACE_PIXELS, Floats, Rgb
from worker.inference.registry import ModelSet
from worker.inference.types import ModelRunner

Turned = Literal["never", "if_none", "always"]
"""Whether faces that lie or stand upside down are looked for too; "if_none" where no other surely is there."""

_SAME: Final = 0.25  # overlap of two boxes, over their union, from which they are one face
# A detector may take a lying face for an upright one, but not be as sure of it as this.
_SURE: Final = 0.85
# Landmarks frame a face more tightly than a detector may, or less: how much smaller its boxes are asked for.
_DETECT_SHARE: Final = 0.7


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
        self._detector = detector_of(runner, models, names.detectors)
        self._finder = landmark_finder(models.card(names.landmarks))
        self._describer = describer_of(models.card(names.embedding))

    @property
    def descriptor_size(self) -> int:
        """How many numbers a descriptor has."""
        return self._describer.size

    def faces(self, rgb: Rgb, *, min_size: int = MIN_FACE_PIXELS, turned: Turned = "if_none") -> list[NeuralFace]:
        """The faces of at least `min_size` pixels, largest first."""
        detected = round(_DETECT_SHARE * min_size)
        found = self._detector.submit(rgb, detected).result()
        if turned == "always":
            found = one_each([found, detect_turned(self._detector, rgb, detected)])
        faces = self._of_size(rgb, found, min_size)
        if turned == "if_none" and all(face.score < _SURE for face in faces):
            found = one_each([found, detect_turned(self._detector, rgb, detected)])
            faces = self._of_size(rgb, found, min_size)
        return sorted(faces, key=lambda face: -float(face.box[2] * face.box[3]))

    def face_at(self, rgb: Rgb, box: Floats) -> NeuralFace:
        """The face at `box` float32 [4], where another analysis saw it. Raises FaceError `source_unusable`.

        One that this detector does not see is looked for right there.
        """
        found = self._detector.submit(rgb, round(_DETECT_SHARE * float(box[2:].max()))).result()
        worth = [overlap(one.box, box) for one in found]
        best = int(np.argmax(worth)) if worth else -1
        seen = found[best] if worth and worth[best] > _SAME else NeuralDetection(box, 1.0, np.zeros((5, 2), np.float32))
        faces = self._described(rgb, [seen])
        if not faces:
            raise FaceError("source_unusable", "its landmarks were not found")
        return faces[0]

    def _of_size(self, rgb: Rgb, found: list[NeuralDetection], min_size: int) -> list[NeuralFace]:
        return [face for face in self._described(rgb, found) if float(face.box[2:].max()) >= min_size]

    def _described(self, rgb: Rgb, found: list[NeuralDetection]) -> list[NeuralFace]:
        """Of what was detected, all that has the landmarks of a face; the engine gets the runs of all faces at once."""
        looks = []
        for one in found:
            inputs, placed = self._finder.prepare(rgb, one)
            looks.append((self._runner.submit(self._finder.card.name, inputs), placed))
        kept = []
        for one, (run, placed) in zip(found, looks, strict=True):
            points = self._finder.decode(run.result(), placed)
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
