"""The donors' photos of a job, made ready once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.faces.analyse import analyse_image
from worker.faces.swap import SourceFace, prepare_source
from worker.faces.types import Face, FaceError, ModelRunner
from worker.pipeline.photo_analysis import read_photo
from worker.spec import JobSpec, SourcePhoto


def load_sources(spec: JobSpec, runner: ModelRunner) -> dict[int, tuple[SourceFace, ...]]:
    """Return the prepared source faces per target face. A photo used for several targets is read once.

    Raises MediaError for an unreadable photo, FaceError `no_face`, `face_too_small` or `source_unusable`.
    """
    ready: dict[tuple[Path, int], SourceFace] = {}
    result: dict[int, tuple[SourceFace, ...]] = {}
    for swap in spec.swaps:
        for photo in swap.sources:
            key = (photo.path, photo.face)
            if key not in ready:
                rgb, face = face_of(photo, runner)
                ready[key] = prepare_source(rgb, face)
        result[swap.target] = tuple(ready[photo.path, photo.face] for photo in swap.sources)
    return result


def face_of(photo: SourcePhoto, runner: ModelRunner) -> tuple[NDArray[np.uint8], Face]:
    """The photo as uint8 [H, W, 3] RGB and the face that is meant in it. Raises MediaError, FaceError `no_face`."""
    rgb, _ = read_photo(photo.path)
    faces = analyse_image(rgb, runner)
    if not 0 <= photo.face < len(faces):
        raise FaceError("no_face", f"face {photo.face} of the source photo; it shows {len(faces)}")
    return rgb, faces[photo.face]
