"""The replacement of faces in a photo, by the built-in swapper or a neural one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from worker.faces.errors import FaceError
from worker.faces.landmarks import pose_of
from worker.faces.neural.points import yaw_of
from worker.faces.quality import Quality, judge
from worker.faces.swap import MeshSwapper, SwapOptions
from worker.inference.registry import ModelSet
from worker.inference.types import ModelRunner
from worker.model_choice import MESH
from worker.pipeline.analysed import FrameFace
from worker.pipeline.errors import PipelineError
from worker.pipeline.neural_swapping import PendingEnhancement, load_identities, track_swapper
from worker.pipeline.reports import quality_record
from worker.pipeline.sources import load_sources
from worker.spec import JobSpec

Rgb = NDArray[np.uint8]
Judge = Callable[[Rgb], dict[str, Any]]
"""Takes the finished picture and gives the quality record of one face."""


class PhotoSwapper(Protocol):
    """Swaps the faces of one photo."""

    def swap(self, rgb: Rgb, face: FrameFace) -> Judge:
        """Replace `face`, a target of the job, in `rgb` in place. Raises FaceError, ModelError, PipelineError."""
        ...


def photo_swapper(spec: JobSpec, runner: ModelRunner, models: ModelSet) -> PhotoSwapper:
    """What the job chose, its sources read. Raises MediaError, FaceError, ModelError."""
    return _Mesh(spec, runner) if spec.swapper == MESH else _Neural(spec, runner, models)


class _Mesh:
    def __init__(self, spec: JobSpec, runner: ModelRunner) -> None:
        self._runner = runner
        self._sources = load_sources(spec, runner)
        self._options = SwapOptions(smoothing=0.0, blend=spec.blend)
        self._before: Rgb | None = None  # the photo before the first swap

    def swap(self, rgb: Rgb, face: FrameFace) -> Judge:
        sources = self._sources[face.track]
        before = self._before = rgb.copy() if self._before is None else self._before
        done = MeshSwapper(sources, self._options).swap(rgb, face.landmarks)
        source = sources[done.source_index]

        def judged(after: Rgb) -> dict[str, Any]:
            if source.descriptor is None:
                raise PipelineError("analysis_invalid", "a source without a descriptor")
            verdict = judge(
                self._runner,
                before,
                after,
                face.landmarks,
                source.descriptor,
                source_sharpness=source.sharpness,
                yaw_gap=done.yaw_gap,
            )
            return quality_record([verdict], pose_of(face.landmarks).yaw)

        return judged


class _Neural:
    def __init__(self, spec: JobSpec, runner: ModelRunner, models: ModelSet) -> None:
        self._spec = spec
        self._runner = runner
        self._models = models
        self._identities = load_identities(spec, runner, models)

    def swap(self, rgb: Rgb, face: FrameFace) -> Judge:
        identity = self._identities[face.track]
        plan = track_swapper(self._spec, identity, frozenset({0}), self._runner, self._models)
        begun = plan.begin(rgb, face, 0)
        if begun is None:
            raise FaceError("face_too_small")
        done = begun.go_on(rgb)
        if isinstance(done, PendingEnhancement):
            done = done.go_on(rgb)

        def judged(after: Rgb) -> dict[str, Any]:
            if done is not None:
                done.judge(self._runner, after)
            qualities = [Quality(**{**one, "warnings": tuple(one["warnings"])}) for one in plan.facts().qualities]
            return quality_record(qualities, yaw_of(face.landmarks))

        return judged
