"""The replacement of one track by a neural swapper, in steps, so that several frames are in flight at a time.

`begin` cuts the crop and hands it to the engine, `go_on` waits for the answer and pastes it; with an enhancer it hands
the swapped face to that, and a second `go_on` blends what comes. Each step is called from one thread, in the order of
the frames, and the threads may be different. What `TrackSwapper` does at once for the mesh this does in steps; the
rest is the same. Nothing is remembered from frame to frame, landmarks come smoothed. Frames are `Planes`, or RGB for a
photo.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.faces import align
from worker.faces.neural.donors import DonorPhoto, Identity, identity_of, sharpness_at
from worker.faces.neural.embeddings import ArcFace, apart
from worker.faces.neural.enhancers import Enhancer
from worker.faces.neural.join import Joiner, Look
from worker.faces.neural.masks import Mask
from worker.faces.neural.paste import Paster
from worker.faces.neural.photo import PhotoLooker
from worker.faces.neural.points import box_of_points, five_of
from worker.faces.neural.swappers import Swapper
from worker.faces.neural.track import NeuralModels
from worker.faces.quality import Quality
from worker.faces.types import MIN_FACE_PIXELS, FaceError, Floats, Frame, Rgb
from worker.inference.registry import ModelSet
from worker.inference.types import ModelRunner, Pending
from worker.media.planes import Box, Planes
from worker.pipeline.analysed import FrameFace
from worker.pipeline.analysis import Analysis
from worker.pipeline.errors import PipelineError
from worker.pipeline.masking import FaceMask, MaskStep, PendingMask
from worker.pipeline.segments import TrackFacts
from worker.pipeline.sources import face_of
from worker.pipeline.swapping import Samples, frames_to_judge
from worker.spec import JobSpec, Masking

_MARGIN: Final = 0.3
# 1 - cosine above which the result no longer counts as the donor; strangers are near 1. Not measured on people.
_WEAK: Final = 0.7
_BLURRED: Final = 6.0
_SMALL: Final = 110
# A face may be a little smaller than the least size for a moment, as the tracker allows.
_LEAST: Final = 0.75 * MIN_FACE_PIXELS


@dataclass(frozen=True)
class PendingPaste:
    """A face on its way through the engine, a run for each of its tiles, and where it belongs.

    `matrix` leads from the frame to the square.
    """

    plan: NeuralTrackSwapper
    runs: tuple[Pending, ...]
    matrix: NDArray[np.float64]
    index: int
    five: Floats
    box: Floats
    mask: PendingMask | None = None
    strength: float = 1.0

    def go_on(self, frame: Frame) -> PendingEnhancement | NeuralJudged | None:
        """See `NeuralTrackSwapper.finish`."""
        return self.plan.finish(self, frame)


@dataclass(frozen=True)
class PendingEnhancement:
    """A swapped face on its way through the enhancer; `judged` as it is handed on."""

    enhancer: FaceEnhancer
    run: Pending
    matrix: NDArray[np.float64]
    judged: NeuralJudged | None
    mask: Mask | None = None
    strength: float = 1.0

    def go_on(self, frame: Frame) -> NeuralJudged | None:
        """See `FaceEnhancer.finish`."""
        return self.enhancer.finish(self, frame)


@dataclass(frozen=True)
class NeuralJudged:
    """A swapped face to be judged once the frame is finished; `before` is the rectangle `box` as it was."""

    plan: NeuralTrackSwapper
    box: Box
    before: Rgb
    five: Floats
    size: float

    def judge(self, runner: ModelRunner, frame: Frame) -> None:
        """See `NeuralTrackSwapper.judge`."""
        self.plan.judge(runner, self, frame)


class NeuralTrackSwapper:
    """Swaps one track; `begin`, `finish` and `judge` each from one thread."""

    looks_back = False

    def __init__(
        self,
        runner: ModelRunner,
        models: ModelSet,
        swapper: str,
        identity: Identity,
        judged_frames: frozenset[int] = frozenset(),
        *,
        enhancer: str = "",
        enhancer_blend: int = 80,
        pixel_boost: int = 1,
        masking: Masking | None = None,
        look: Look | None = None,
    ) -> None:
        """`swapper` and `enhancer` name models of the roles face_swapper and face_enhancer; `identity` was read for
        this swapper. `pixel_boost` is how many times the model's side the face has (see `Swapper`), `enhancer_blend`
        how much of the enhanced face shows, in per cent, `masking` where the face shows, `look` how it is joined.

        Raises ModelError "model_missing" if one of them or the model of the embedding is not in `models`.
        """
        card = models.card(swapper)
        self._runner = runner
        self._model = swapper
        self._swapper = Swapper(card, boost=pixel_boost)
        self._describer = ArcFace(models.card(card.contract.identity))
        self._masks = MaskStep(runner, models, masking or Masking(), self._swapper.side)
        self._joiner = Joiner(Paster(self._swapper.side, feather=self._masks.feather), self._swapper, look or Look())
        enhanced = bool(enhancer) and enhancer_blend > 0
        self._enhancer = FaceEnhancer(runner, models, enhancer, blend=enhancer_blend / 100) if enhanced else None
        self._identity = identity
        self._samples = Samples(judged_frames)
        self.later: tuple[str, ...] = ("paste", "enhance") if enhanced else ("paste",)
        """The names of the steps that follow `begin`."""
        self.start_anew()

    def start_anew(self) -> None:
        """Forget what was counted: another segment begins."""
        self._samples.start_anew()
        self._qualities: list[Quality] = []
        self._replaced = 0
        self._left_alone = 0

    def reset(self) -> None:
        """Nothing is taken over from one frame to the next, so a cut changes nothing."""

    def look(self, frame: Frame, face: FrameFace) -> None:
        """Frames before a segment do not matter."""

    def begin(self, frame: Frame, face: FrameFace, index: int) -> PendingPaste | None:
        """Cut the face out and submit it; None if it lies outside the frame or is too small. Raises ModelError."""
        five, box = five_of(face.landmarks), box_of_points(face.landmarks)
        if float(box[2:].max()) < _LEAST or Box.around(face.landmarks, 0.0, _size_of(frame)) is None:
            self._left_alone += 1
            return None
        tiles, matrix = self._swapper.tiles(frame, five)
        source = self._identity.source
        runs = tuple(self._runner.submit(self._model, self._swapper.prepare(tile, source)) for tile in tiles)
        mask = self._masks.begin(frame, matrix, face.landmarks)
        return PendingPaste(self, runs, matrix, index, five, box, mask, face.strength)

    def finish(self, pending: PendingPaste, frame: Frame) -> PendingEnhancement | NeuralJudged | None:
        """Wait for the swapped face and paste it into `frame`, in place; what to judge where this frame is a sample.

        With an enhancer the face is submitted to it instead. Raises ModelError; the frame is as it was then.
        """
        outputs = [run.result() for run in pending.runs]
        mask = None if pending.mask is None else pending.mask.result()
        around = Box.around(_corners(pending.box), _MARGIN, _size_of(frame))
        # A face that is half faded is half somebody else; the next one is judged in its place.
        sampled = pending.strength >= 1 and self._samples.due(pending.index)
        before = _rgb(frame, around).copy() if around is not None and sampled else None
        shown = None if mask is None else mask.swap
        if self._joiner.join(frame, pending.matrix, outputs, mask=shown, share=pending.strength) is None:
            return None
        self._replaced += 1
        judged = None
        if around is not None and before is not None:
            five = pending.five - np.array([around.left, around.top], np.float32)
            judged = NeuralJudged(self, around, before, five, float(pending.box[2:].max()))
        if self._enhancer is None:
            return judged
        return self._enhancer.begin(
            frame, pending.five, judged, mask=mask, matrix=pending.matrix, strength=pending.strength
        )

    def judge(self, runner: ModelRunner, judged: NeuralJudged, frame: Frame) -> None:
        """Judge a sampled face in the finished frame: label and mark are in it, as in what people will see."""
        after = _rgb(frame, judged.box)
        made, target = (self._describe(runner, picture, judged.five) for picture in (after, judged.before))
        donor = self._identity.embedding
        to_source = apart(made, donor)
        checks = {
            "identity_weak": to_source > _WEAK,
            "source_blurred": self._identity.sharpness < _BLURRED,
            "target_small": judged.size < _SMALL,
        }
        self._qualities.append(
            Quality(
                distance_to_source=to_source,
                distance_to_target=apart(made, target),
                target_source_before=apart(target, donor),
                yaw_gap=0.0,  # a swapper renders the pose anew, so photo and frame need not face the same way
                sharpness=sharpness_at(after, judged.five),
                warnings=tuple(name for name, found in checks.items() if found),
            )
        )

    def facts(self) -> TrackFacts:
        """What this segment's frames of the track came to."""
        qualities = tuple({**asdict(one), "warnings": list(one.warnings)} for one in self._qualities)
        return TrackFacts(qualities, self._replaced, self._left_alone)

    def _describe(self, runner: ModelRunner, picture: Rgb, five: Floats) -> Floats:
        inputs = self._describer.prepare(picture, five)
        return self._describer.decode(runner.run(self._describer.card.name, inputs))


class FaceEnhancer:
    """Restores faces after the swap; `begin` and `finish` each from one thread."""

    def __init__(self, runner: ModelRunner, models: ModelSet, enhancer: str, *, blend: float = 0.8) -> None:
        """`blend` 0..1 is how much of the restored face shows. Raises ModelError "model_missing"."""
        self._runner = runner
        self._model = enhancer
        self._enhancer = Enhancer(models.card(enhancer))
        self._paster = Paster(self._enhancer.image.side, opacity=blend)

    def begin(
        self,
        frame: Frame,
        five: Floats,
        judged: NeuralJudged | None,
        *,
        mask: FaceMask | None,
        matrix: align.Affine,
        strength: float = 1.0,
    ) -> PendingEnhancement:
        """Cut out and submit the face at `five` float32 [5, 2], once it is swapped. Raises ModelError.

        `mask` is that of the swap, whose square `matrix` leads to: what covers the face covers it here too.
        """
        inputs, to = self._enhancer.prepare(frame, five)
        shown = None if mask is None else mask.moved(matrix, to, self._enhancer.image.side)
        return PendingEnhancement(self, self._runner.submit(self._model, inputs), to, judged, shown, strength)

    def finish(self, pending: PendingEnhancement, frame: Frame) -> NeuralJudged | None:
        """Wait for the restored face and blend it into `frame`, in place; gives `judged`. Raises ModelError."""
        outputs = pending.run.result()
        square = self._enhancer.decode(outputs)
        self._paster.paste(frame, pending.matrix, square, mask=pending.mask, share=pending.strength)
        return pending.judged


def load_identities(spec: JobSpec, runner: ModelRunner, models: ModelSet) -> dict[int, Identity]:
    """The donors of a job by target, as its swapper takes them, from all their photos.

    Which face of a photo is meant was agreed on with the built-in analysis, so that analysis points it out here too.
    Raises MediaError for an unreadable photo, FaceError `no_face` or `source_unusable`, ModelError `model_missing`.
    """
    chosen = models.neural_set(spec.swapper, spec.enhancer)
    looker = PhotoLooker(runner, models, NeuralModels((chosen.detector,), chosen.landmarks, chosen.embedding))
    identities = {}
    for swap in spec.swaps:
        photos = []
        for photo in swap.sources:
            rgb, agreed = face_of(photo, runner)
            face = looker.face_at(rgb, agreed.box)
            photos.append(DonorPhoto(rgb, face.five, face.raw))
        identities[swap.target] = identity_of(photos, spec.swapper, runner, models)
    return identities


def plan_neural_swaps(
    spec: JobSpec,
    analysis: Analysis,
    identities: Mapping[int, Identity],
    runner: ModelRunner,
    models: ModelSet,
) -> dict[int, NeuralTrackSwapper]:
    """Look once through the stored landmarks, before a frame is decoded, and refuse what cannot become good.

    Raises PipelineError `target_missing`, FaceError `face_too_small`, ModelError `model_missing`.
    """
    indices: dict[int, list[int]] = {swap.target: [] for swap in spec.swaps}
    small = dict.fromkeys(indices, 0)
    for frame in analysis.frames():
        for face in frame.faces:
            if face.track in indices:
                indices[face.track].append(frame.index)
                small[face.track] += float(face.box[2:].max()) < MIN_FACE_PIXELS
    plans = {}
    for target, seen in sorted(indices.items()):
        if not seen:
            raise PipelineError("target_missing", f"track {target}")
        if small[target] > len(seen) / 2:
            raise FaceError("face_too_small", f"{small[target]} of {len(seen)} frames")
        plans[target] = track_swapper(spec, identities[target], frames_to_judge(seen), runner, models)
    return plans


def track_swapper(
    spec: JobSpec, identity: Identity, judged_frames: frozenset[int], runner: ModelRunner, models: ModelSet
) -> NeuralTrackSwapper:
    """What swaps one face of the job `spec`. Raises ModelError "model_missing"."""
    return NeuralTrackSwapper(
        runner,
        models,
        spec.swapper,
        identity,
        judged_frames,
        enhancer=spec.enhancer,
        enhancer_blend=spec.enhancer_blend,
        pixel_boost=spec.pixel_boost,
        masking=spec.masking,
        look=Look(spec.blend, spec.colour_match),
    )


def _size_of(frame: Frame) -> tuple[int, int]:
    """(width, height) of a frame, made even."""
    if isinstance(frame, Planes):
        return frame.size
    return frame.shape[1] // 2 * 2, frame.shape[0] // 2 * 2


def _rgb(frame: Frame, box: Box) -> Rgb:
    return frame.to_rgb(box) if isinstance(frame, Planes) else frame[box.top : box.bottom, box.left : box.right]


def _corners(box: Floats) -> Floats:
    return np.stack([box[:2], box[:2] + box[2:]])
