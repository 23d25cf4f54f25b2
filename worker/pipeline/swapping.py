"""The replacement of one track through a video, on planes: only the face's rectangle is ever turned into RGB."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.faces import select
from worker.faces.landmarks import pose_of
from worker.faces.quality import Quality, judge
from worker.faces.swap import MeshSwapper, SourceFace, SwapOptions
from worker.faces.types import FaceError, ModelRunner, Pose
from worker.media.planes import Box, Planes
from worker.pipeline.analysed import FrameFace
from worker.pipeline.analysis import Analysis
from worker.pipeline.errors import PipelineError
from worker.pipeline.reports import quality_record
from worker.pipeline.segments import TrackFacts
from worker.spec import Blend, JobSpec

_MARGIN: Final = 0.3
"""How far around the landmarks the rectangle reaches, as a share of the face: the swap moves features a little."""
_JUDGED_FRAMES: Final = 5


@dataclass(frozen=True)
class Judged:
    """A swapped face to be judged once the frame is finished. Arrays are of the rectangle `box`."""

    plan: TrackSwapper
    box: Box
    before: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    source: SourceFace
    yaw_gap: float

    def judge(self, runner: ModelRunner, planes: Planes) -> None:
        """See `TrackSwapper.judge`."""
        self.plan.judge(runner, self, planes)


class TrackSwapper:
    """Swaps one track; `look` and `begin` from one thread, `judge` from another. Landmarks come smoothed.

    Where a neural swapper has steps of its own for later (see `neural_swapping`), this one is done at once.
    """

    later: tuple[str, ...] = ()
    looks_back = True

    def __init__(self, sources: Sequence[SourceFace], judged_frames: frozenset[int], blend: Blend = "feather") -> None:
        self._sources = tuple(sources)
        self._swapper = MeshSwapper(sources, SwapOptions(most_yaw_gap=180.0, blend=blend))
        self._samples = Samples(judged_frames)
        self.start_anew()

    def start_anew(self) -> None:
        """Forget the frames before and what was counted: another segment begins."""
        self.reset()
        self._samples.start_anew()
        self._qualities: list[Quality] = []
        self._replaced = 0
        self._widest_gap = 0.0
        self._left_alone = 0

    def reset(self) -> None:
        """Forget the frames before, as after a cut."""
        self._swapper.reset()

    def look(self, planes: Planes, face: FrameFace) -> None:
        """Take note of `face` in a frame before the segment, and change nothing."""
        box = Box.around(face.landmarks, _MARGIN, planes.size)
        if box is None:
            return
        with suppress(FaceError):  # too small to be replaced there: then there is nothing to remember either
            self._swapper.look(planes.to_rgb(box), _inside(face, box))

    def begin(self, planes: Planes, face: FrameFace, index: int) -> Judged | None:
        """Replace `face` in `planes`, in place; return what is needed to judge it where this frame is a sample."""
        box = Box.around(face.landmarks, _MARGIN, planes.size)
        if box is None:
            self._left_alone += 1
            return None
        before = planes.to_rgb(box)
        rgb = before.copy()
        inside = _inside(face, box)
        try:
            done = self._swapper.swap(rgb, inside)
        except FaceError as error:
            if error.code != "face_too_small":
                raise
            self._left_alone += 1
            return None
        if face.strength < 1:
            rgb = cv2.addWeighted(rgb, face.strength, before, 1 - face.strength, 0)
        planes.paste(box, rgb, before)
        self._replaced += 1
        self._widest_gap = max(self._widest_gap, done.yaw_gap)
        # A face that is half faded is half somebody else; the next one is judged in its place.
        if face.strength < 1 or not self._samples.due(index):
            return None
        return Judged(self, box, before, inside, self._sources[done.source_index], done.yaw_gap)

    def judge(self, runner: ModelRunner, judged: Judged, planes: Planes) -> None:
        """Judge a sampled face in the finished frame: label and mark are in it, as in what people will see."""
        if judged.source.descriptor is None:
            return
        quality = judge(
            runner,
            judged.before,
            planes.to_rgb(judged.box),
            judged.landmarks,
            judged.source.descriptor,
            source_sharpness=judged.source.sharpness,
            yaw_gap=judged.yaw_gap,
        )
        self._qualities.append(quality)

    def facts(self) -> TrackFacts:
        """What this segment's frames of the track came to."""
        qualities = tuple({**asdict(one), "warnings": list(one.warnings)} for one in self._qualities)
        return TrackFacts(qualities, self._replaced, self._left_alone, self._widest_gap)


def _inside(face: FrameFace, box: Box) -> NDArray[np.float32]:
    return face.landmarks - np.array([box.left, box.top, 0], np.float32)


def sum_up(facts: Sequence[TrackFacts]) -> dict[str, Any]:
    """Return the record of one track over all segments. Raises PipelineError `part_invalid`."""
    try:
        judged = [
            Quality(**{**quality, "warnings": tuple(quality["warnings"])}) for one in facts for quality in one.qualities
        ]
        record = quality_record(
            judged,
            frames_replaced=sum(one.replaced for one in facts),
            frames_left_alone=sum(one.left_alone for one in facts),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PipelineError("part_invalid", str(error)) from error
    widest = max((one.widest_gap for one in facts), default=0.0)
    record["yaw_gap"] = round(widest, 2)
    if widest > select.YAW_WARN:
        record["warnings"] = sorted({*record["warnings"], "pose_gap_wide"})
    return record


def plan_swaps(
    spec: JobSpec, analysis: Analysis, sources: Mapping[int, tuple[SourceFace, ...]]
) -> dict[int, TrackSwapper]:
    """Look once through the stored landmarks, before a frame is decoded, and refuse what cannot become good.

    Raises PipelineError `target_missing`, FaceError `pose_gap` or `face_too_small`.
    """
    wanted = {swap.target for swap in spec.swaps}
    indices: dict[int, list[int]] = {target: [] for target in wanted}
    poses: dict[int, list[Pose]] = {target: [] for target in wanted}
    small = dict.fromkeys(wanted, 0)
    for frame in analysis.frames():
        for face in frame.faces:
            if face.track not in wanted:
                continue
            indices[face.track].append(frame.index)
            poses[face.track].append(pose_of(face.landmarks))
            small[face.track] += float(face.box[2:].max()) < 64
    plans = {}
    for target in sorted(wanted):
        count = len(indices[target])
        if count == 0:
            raise PipelineError("target_missing", f"track {target}")
        fit = select.fit_poses([source.pose for source in sources[target]], poses[target])
        if fit.refused:
            raise FaceError("pose_gap", f"{fit.turned} of {count} frames, up to {fit.widest:.0f} degrees")
        if small[target] > count / 2:
            raise FaceError("face_too_small", f"{small[target]} of {count} frames")
        plans[target] = TrackSwapper(sources[target], frames_to_judge(indices[target]), spec.blend)
    return plans


class Samples:
    """Which frames of a track are judged: of each drawn one, the first that is there from it on.

    At a lower rate a drawn frame itself may be left out. A segment starts anew, so what it judges does not depend on
    the segments before it.
    """

    def __init__(self, drawn: Iterable[int]) -> None:
        self._drawn = sorted(drawn)
        self.start_anew()

    def start_anew(self) -> None:
        """Forget the frames before."""
        self._last: int | None = None

    def due(self, index: int) -> bool:
        """Whether the frame `index` is to be judged; called once for each that is replaced, in their order."""
        since = index - 1 if self._last is None else self._last
        self._last = index
        return bisect_right(self._drawn, index) > bisect_right(self._drawn, since)


def frames_to_judge(indices: Sequence[int]) -> frozenset[int]:
    """Some of the frames a track is seen in, spread over all of them."""
    step = max(1, math.ceil(len(indices) / _JUDGED_FRAMES))
    return frozenset(indices[step // 2 :: step])
