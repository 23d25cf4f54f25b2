"""A photo through the pipeline: decode, swap, label, mark, write. Runs inside the media child."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from watermark.fingerprint import take
from watermark.image import embed_pattern
from watermark.labels import LabelRenderer
from watermark.pattern import MarkPattern
from worker.faces.anonymise import hide
from worker.inference.registry import BUILTIN, ModelSet
from worker.inference.types import ModelRunner
from worker.media import image
from worker.pipeline.analysis import Analysis
from worker.pipeline.errors import PipelineError
from worker.pipeline.photo_analysis import Report, read_photo
from worker.pipeline.photo_swaps import photo_swapper
from worker.pipeline.reports import fingerprint_record
from worker.pipeline.upscaling import reduced_picture, sizes_of, upscaler_of
from worker.spec import JobSpec


@dataclass(frozen=True)
class Outcome:
    """What a run hands back besides the file it wrote. Timings are seconds of work per stage, for a video
    also of each stage's own thread (`<stage>_cpu`), which leaves out a codec's threads and other programs."""

    width: int
    height: int
    duration: float | None
    frames: int
    timings: dict[str, float]
    quality: dict[str, Any]
    fingerprint: dict[str, Any]
    warnings: list[str]


class Clock:
    """Adds up seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Book the time since the last lap, or the start, on `stage`."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


def run_photo(
    spec: JobSpec, pattern: MarkPattern, runner: ModelRunner, report: Report, *, models: ModelSet = BUILTIN
) -> Outcome:
    """Carry out a photo job and write `spec.output_path`, marked and unsigned; `models` are the engine's.

    Raises MediaError, FaceError, ModelError, MarkError, LabelError, PipelineError, OSError.
    """
    clock = Clock()
    report("prepare", 0, 1)
    analysis = Analysis.load(spec.analysis_path)
    swapper = photo_swapper(spec, runner, models)
    upscaler = upscaler_of(spec, runner, models)
    clock.lap("prepare")
    report("decode", 0, 1)
    rgb, facts = read_photo(spec.target_path)
    rgb = np.array(rgb)  # Pillow's array may be read-only
    height, width = rgb.shape[:2]
    if analysis.info.kind != "photo" or (analysis.info.width, analysis.info.height) != (width, height):
        raise PipelineError("analysis_invalid", "another picture")
    (width, height), result, _ = sizes_of(spec, (width, height))
    clock.lap("decode")
    faces = {face.track: face for frame in analysis.frames() for face in frame.faces}
    report("swap", 0, 1)
    targets = {swap.target for swap in spec.swaps}
    if spec.others == "blur":
        for track, face in faces.items():
            if track not in targets:
                hide(rgb, face.landmarks)
    swapped = []
    for swap in spec.swaps:
        if swap.target not in faces:
            raise PipelineError("target_missing", f"face {swap.target}")
        swapped.append((swap.target, swapper.swap(rgb, faces[swap.target])))
        report("swap", 0, 1)
    clock.lap("swap")
    if upscaler is not None:
        report("upscale", 0, 1)
        rgb = upscaler.enlarge(rgb)
        clock.lap("upscale")
    report("mark", 0, 1)
    if spec.label is not None:
        label = LabelRenderer(result, spec.label.text, spec.label.place, letter_share=spec.label.letter_share)
        label.apply(rgb)
        clock.lap("label")
    rgb = embed_pattern(rgb, pattern, spec.mark_mode)
    clock.lap("mark")
    report("judge", 0, 1)
    judged = reduced_picture(rgb, (width, height))
    quality = {str(target): judge(judged) for target, judge in swapped}
    clock.lap("judge")
    fingerprint = fingerprint_record([(0.0, take(rgb))], "photo")
    clock.lap("fingerprint")
    report("encode", 0, 1)
    image.write(rgb, spec.output_path, spec.output_mime, quality=spec.jpeg_quality)
    clock.lap("encode")
    report("encode", 1, 1)
    return Outcome(*result, None, 1, clock.seconds, quality, fingerprint, list(facts["warnings"]))
