"""What a video needs of whatever swaps its faces, and which of the two ways a job takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from worker.inference.registry import ModelSet
from worker.inference.types import ModelRunner
from worker.media.planes import Planes
from worker.model_choice import MESH
from worker.pipeline.analysed import FrameFace
from worker.pipeline.analysis import Analysis
from worker.pipeline.neural_swapping import load_identities, plan_neural_swaps
from worker.pipeline.segments import TrackFacts
from worker.pipeline.sources import load_sources
from worker.pipeline.swapping import plan_swaps
from worker.spec import JobSpec


class Judgeable(Protocol):
    """A swapped face that is a sample."""

    def judge(self, runner: ModelRunner, planes: Planes, /) -> None:
        """Judge it in the finished frame."""
        ...


@runtime_checkable
class UnderWay(Protocol):
    """A face whose swap takes further steps."""

    def go_on(self, planes: Planes, /) -> UnderWay | Judgeable | None:
        """Take the next step, waiting for what it needs; what is left to do with the face."""
        ...


class TrackPlan(Protocol):
    """Swaps one track, frame after frame; each step from one thread, in the order of the frames."""

    later: tuple[str, ...]
    """The names of the steps after `begin`, each a stage of its own."""
    looks_back: bool
    """Whether frames before a segment matter to it, so that `look` has to be called with them."""

    def start_anew(self) -> None:
        """Forget the frames before and what was counted: another segment begins."""
        ...

    def reset(self) -> None:
        """Forget the frames before, as after a cut."""
        ...

    def look(self, planes: Planes, face: FrameFace, /) -> None:
        """Take note of `face` in a frame before the segment, and change nothing."""
        ...

    def begin(self, planes: Planes, face: FrameFace, index: int, /) -> UnderWay | Judgeable | None:
        """Take the first step, or all of them; None if there is nothing left to do."""
        ...

    def facts(self) -> TrackFacts:
        """What this segment's frames of the track came to."""
        ...


def plan_tracks(spec: JobSpec, analysis: Analysis, runner: ModelRunner, models: ModelSet) -> Mapping[int, TrackPlan]:
    """The plans of a job's tracks. Raises MediaError, FaceError, ModelError, PipelineError."""
    if spec.swapper == MESH:
        return plan_swaps(spec, analysis, load_sources(spec, runner))
    return plan_neural_swaps(spec, analysis, load_identities(spec, runner, models), runner, models)
