"""The result larger than the target: after swap and enhancement, before label and mark, which are made for its size."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.faces.neural.upscalers import Upscaler
from worker.inference.registry import ModelSet
from worker.inference.types import ModelRunner
from worker.media.planes import Planes
from worker.media.scaling import is_too_large, output_size
from worker.model_choice import enlargement
from worker.pipeline.errors import PipelineError
from worker.spec import JobSpec


def upscaler_of(spec: JobSpec, runner: ModelRunner, models: ModelSet) -> Upscaler | None:
    """What a job enlarges its result with. Raises ModelError `model_missing`."""
    return Upscaler(runner, models.card(spec.upscaler)) if spec.upscaler else None


def sizes_of(spec: JobSpec, target: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int], bool]:
    """(width, height) at which the frames of a target of this size are worked on, that of the result, and whether the
    wish had to be limited. Raises PipelineError `result_too_large`."""
    size, limited = (
        output_size(target, scale=spec.scale, height=spec.height) if spec.kind == "video" else (target, False)
    )
    factor = enlargement(spec.upscaler)
    result = (size[0] * factor, size[1] * factor)
    if factor > 1 and is_too_large(result, spec.kind):
        raise PipelineError("result_too_large", f"{result[0]} x {result[1]}")
    return size, result, limited


def reduced(frame: Planes, size: tuple[int, int]) -> Planes:
    """A copy of a frame at a smaller `size`."""
    small = Planes(size)
    for plane, target in ((frame.y, small.y), (frame.u, small.u), (frame.v, small.v)):
        cv2.resize(plane, (target.shape[1], target.shape[0]), dst=target, interpolation=cv2.INTER_AREA)
    return small


def reduced_picture(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture uint8 [H, W, 3] at a smaller `size`; itself if it has that."""
    if rgb.shape[1::-1] == size:
        return rgb
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
