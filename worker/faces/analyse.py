"""All faces of one picture, described."""

from worker.faces.detect import FaceDetector
from worker.faces.embed import Descriptor, chip
from worker.faces.landmarks import FACE_SCORE, FaceMesh, box_of, pose_of
from worker.faces.types import MIN_FACE_PIXELS, Face, ModelRunner, Rgb

# The mesh frames a face more tightly than the detector, so the detector may already report somewhat smaller ones.
_DETECT_SHARE = 0.7


def analyse_image(rgb: Rgb, runner: ModelRunner, *, min_size: int = MIN_FACE_PIXELS) -> list[Face]:
    """The faces of `rgb` (uint8 [H, W, 3]) of at least `min_size` pixels, largest first, with descriptors.

    An empty list means that no face was found. Raises what the runner raises.
    """
    mesh = FaceMesh(runner)
    faces: list[Face] = []
    chips = []
    for found in FaceDetector(runner).detect(rgb, min_size=round(min_size * _DETECT_SHARE)):
        landmarks, score = mesh.locate(rgb, found)
        if score < FACE_SCORE:
            continue
        face = Face(box_of(landmarks), found.score, landmarks, pose_of(landmarks), None)
        if face.size < min_size:
            continue
        faces.append(face)
        chips.append(chip(rgb, landmarks))
    if not faces:
        return []
    described = Descriptor(runner).describe_chips(chips)
    faces = [
        Face(face.box, face.score, face.landmarks, face.pose, descriptor)
        for face, descriptor in zip(faces, described, strict=True)
    ]
    return sorted(faces, key=lambda face: -float(face.box[2] * face.box[3]))
