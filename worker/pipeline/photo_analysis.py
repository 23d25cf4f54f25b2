"""Analyse a photo, and what both ways of looking at one share. Runs inside the media child.

Apart from `photo`, because an analysis must not pay for importing the swap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from worker.faces.analyse import analyse_image
from worker.faces.types import ModelRunner
from worker.media import image
from worker.media.magic import HEAD_BYTES, sniff
from worker.pipeline.analysed import MESH, AnalysedFrame, AnalysisSummary, Form, FrameFace, Track
from worker.pipeline.analysis import AnalysisWriter

SMALLEST_TOLD: Final = 24  # pixels

Report = Callable[[str, int, int | None], None]
"""Called with (stage, frames done, frames in all); raises MediaError `canceled` when the work should end."""


def read_photo(path: Path) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Decode a photo by what its bytes say it is. Errors and result as `worker.media.image.read`."""
    with path.open("rb") as file:
        kind = sniff(file.read(HEAD_BYTES), path.name)
        file.seek(0)
        return image.read(file, kind.container)


def analyse_photo(path: Path, out: Path, runner: ModelRunner, model_set: str, report: Report) -> AnalysisSummary:
    """Find and describe the faces of a photo and write its analysis to `out`. A photo without faces is no error.

    Faces under the least size that can be used are written only if there is no other.
    """
    report("decode", 0, 1)
    rgb, facts = read_photo(path)
    report("detect", 0, 1)
    # Where no face can be used, smaller ones are looked for: "too small" tells the uploader more than "none".
    faces = analyse_image(rgb, runner) or analyse_image(rgb, runner, min_size=SMALLEST_TOLD)
    seen = [Seen(face.score, face.box, face.landmarks, face.pose.yaw, face.descriptor) for face in faces]
    return write_photo(out, seen, model_set, rgb.shape, warnings=facts["warnings"], report=report)


@dataclass(frozen=True)
class Seen:
    """One face of a photo, by whatever models: arrays as in `FrameFace`, `yaw` in degrees."""

    score: float
    box: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    yaw: float
    descriptor: NDArray[np.float32] | None


def write_photo(
    out: Path,
    seen: Sequence[Seen],
    model_set: str,
    shape: Sequence[int],
    *,
    warnings: Sequence[str],
    report: Report,
    form: Form = MESH,
) -> AnalysisSummary:
    """Write the analysis of a photo of `shape` (height, width, …) whose faces come largest first. Raises OSError."""
    tracks, found = [], []
    for number, face in enumerate(seen):
        found.append(FrameFace(number, face.score, face.box, face.landmarks))
        x, y, width, height = (float(value) for value in face.box)
        tracks.append(
            Track(
                id=number,
                first_seconds=0.0,
                last_seconds=0.0,
                frames=1,
                best_index=0,
                best_seconds=0.0,
                box=(x, y, width, height),
                size=max(width, height),
                yaw=face.yaw,
                descriptor=None if face.descriptor is None else tuple(map(float, face.descriptor)),
            )
        )
    summary = AnalysisSummary(
        "photo", model_set, shape[1], shape[0], 1, 0.0, tuple(tracks), warnings=tuple(warnings), form=form
    )
    writer = AnalysisWriter(out, form)
    try:
        writer.add(AnalysedFrame(0, 0.0, tuple(found)))
        writer.finish(summary)
    finally:
        writer.abort()
    report("detect", 1, 1)
    return summary
