"""Faces through a video by neural models: a detector on every k-th frame, 68 landmarks on every one, tracks by overlap.

The work on a frame has three steps, each called for the frames in order and each from one thread: `begin` submits the
detector, `locate` waits for it and submits the landmarks, `finish` waits for those and continues the tracks. So the
engine has runs of several frames at hand, and what comes out does not depend on how quick it is: no step uses anything
that a later step found out, but for frames without a detector, whose landmarks are asked for in `finish`.

A track is one person in one shot, as in `worker.faces.track`, and never continues over a cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from worker.faces.detect import intersection, overlap
from worker.faces.neural.crops import cut, framing
from worker.faces.neural.detectors import Detecting, detector_of
from worker.faces.neural.embeddings import apart, describer_of, unit
from worker.faces.neural.landmarks import LandmarkFinder, Placed, landmark_finder
from worker.faces.neural.points import Landmarks68, NeuralDetection, box_of_points, five_of, yaw_of_five
from worker.faces.track import CutDetector, TrackedFace, keep_best
from worker.faces.types import MIN_FACE_PIXELS, Floats, Frame, Rgb, size_of
from worker.inference.registry import ModelSet
from worker.inference.types import ModelRunner, Pending

# Below this the landmarks are no face's. Heat maps on a face peak near 1.
LANDMARK_SCORE: Final = 0.5
_SAME: Final = 0.25
# A face that the detector misses is followed by its landmarks alone for at most this long.
_UNSEEN_SECONDS: Final = 0.6
_RESUME_SECONDS: Final = 2.0
_LOOK_EVERY: Final = 5  # frames, for a better picture to describe the track by
_SHRINK: Final = 0.85


@dataclass(frozen=True)
class NeuralModels:
    """The names of the models that an analysis uses; several detectors look in union."""

    detectors: tuple[str, ...] = ("yoloface_8n",)
    landmarks: str = "2dfan4"
    embedding: str = "arcface_w600k_r50"


@dataclass
class PendingFrame:
    """One frame on its way through the three steps."""

    index: int
    seconds: float
    begins_shot: bool
    detection: Detecting | None
    found: tuple[NeuralDetection, ...] = ()
    looks: "list[_Look]" = field(default_factory=list)


@dataclass(frozen=True)
class _Look:
    run: Pending
    placed: Placed


@dataclass
class _Track:
    number: int
    landmarks: Floats
    box: Floats  # of the landmarks
    around: Floats  # as the detector frames the face: where to look for it next
    score: float
    seen: float  # when it was last in a frame
    detected: float  # when the detector last saw it
    looked: int = -_LOOK_EVERY
    chips: list[tuple[float, Rgb]] = field(default_factory=list)

    @property
    def last_seen(self) -> NeuralDetection:
        """Where to look for it next, as a detector would tell it."""
        return NeuralDetection(self.around, self.score, five_of(self.landmarks))


class NeuralTracker:
    """Follows all faces of a video; see the module for who calls what."""

    def __init__(
        self,
        runner: ModelRunner,
        models: ModelSet,
        *,
        names: NeuralModels | None = None,
        detect_every: int = 1,
        min_size: int = MIN_FACE_PIXELS,
    ) -> None:
        """`detect_every` in frames, `min_size` in pixels. Raises ModelError "model_missing".

        Landmarks by which no face can be followed make every frame one with a detector.
        """
        names = names or NeuralModels()
        self._runner = runner
        self._detector = detector_of(runner, models, names.detectors)
        self._finder = landmark_finder(models.card(names.landmarks))
        # Landmarks are prepared in `locate` and in `finish`, and a tensor is one thread's.
        self._late_finder = landmark_finder(models.card(names.landmarks))
        self._describer = describer_of(models.card(names.embedding))
        self._aligned = self._describer.image
        self._detect_every = max(1, detect_every) if self._finder.follows else 1
        self._min_size = min_size
        self._cut = CutDetector()
        self._until_detection = 0
        self._live: list[_Track] = []
        self._lost: list[_Track] = []
        self._all: dict[int, _Track] = {}
        self.cuts: list[int] = []

    @property
    def descriptor_size(self) -> int:
        """How many numbers a descriptor has."""
        return self._describer.size

    def begin(self, index: int, seconds: float, frame: Frame) -> PendingFrame:
        """Look whether frame `index` at `seconds` begins a shot, and submit the detector where it is due."""
        begins = self._cut.push(frame)
        detection = None
        if begins or self._until_detection <= 0:
            detection = self._detector.submit(frame, round(_SHRINK * self._min_size))
            self._until_detection = self._detect_every
        self._until_detection -= 1
        return PendingFrame(index, seconds, begins, detection)

    def locate(self, pending: PendingFrame, frame: Frame) -> None:
        """Wait for the detector, if it was asked, and submit the landmarks of what it found."""
        if pending.detection is None:
            return
        pending.found = tuple(pending.detection.result())
        pending.looks = [self._look(self._finder, frame, one) for one in pending.found]

    def finish(self, pending: PendingFrame, frame: Frame) -> list[TrackedFace]:
        """Wait for the landmarks and continue the tracks: the frame's faces in the order of their track numbers.

        Indices of frames that begin a new shot are added to `cuts`.
        """
        if pending.begins_shot:
            self.cuts.append(pending.index)
            self._live, self._lost = [], []
        shape = size_of(frame)
        faces = [self._finder.decode(look.run.result(), look.placed) for look in pending.looks]
        kept = [
            (points, found)
            for points, found in zip(faces, pending.found, strict=True)
            if points.score >= LANDMARK_SCORE and self._large_enough(points.points, shape)
        ]
        self._continue(kept, pending, frame)
        for track in self._live:
            if pending.index - track.looked >= _LOOK_EVERY:
                track.looked = pending.index
                self._keep_best(track, frame)
        self._lost = [track for track in self._lost if track.seen >= pending.seconds - _RESUME_SECONDS]
        seen = [TrackedFace(one.number, one.box, one.score, one.landmarks) for one in self._live]
        return sorted(seen, key=lambda face: face.track)

    def descriptors(self) -> dict[int, Floats]:
        """The embedding float32 [D], length 1, of every track so far: the mean over its best frames."""
        return {number: self._describe(track) for number, track in self._all.items() if track.chips}

    def _look(self, finder: LandmarkFinder, frame: Frame, found: NeuralDetection) -> _Look:
        inputs, placed = finder.prepare(frame, found)
        return _Look(self._runner.submit(finder.card.name, inputs), placed)

    def _large_enough(self, points: Floats, shape: tuple[int, int]) -> bool:
        box = box_of_points(points)
        inside = np.array([0, 0, shape[0], shape[1]], np.float32)
        return float(box[2:].max()) >= _SHRINK * self._min_size and intersection(box, inside) >= 0.35 * float(
            box[2] * box[3]
        )

    def _continue(
        self, faces: Sequence[tuple[Landmarks68, NeuralDetection]], pending: PendingFrame, frame: Frame
    ) -> None:
        """Give every face to the track it overlaps most, follow tracks without a face, begin tracks for the rest."""
        boxes = [box_of_points(points.points) for points, _ in faces]
        pairs = sorted(
            (-overlap(track.box, box), row, column)
            for row, track in enumerate(self._live)
            for column, box in enumerate(boxes)
        )
        given: dict[int, int] = {}
        taken: set[int] = set()
        for worth, row, column in pairs:
            if -worth > _SAME and row not in given and column not in taken:
                given[row] = column
                taken.add(column)
        live: list[_Track] = []
        unseen: list[_Track] = []
        for row, track in enumerate(self._live):
            if row in given:
                _place(track, *faces[given[row]], pending.seconds)
                live.append(track)
            else:
                unseen.append(track)
        if not self._late_finder.follows:
            self._lost += unseen
            unseen = []
        looks = [self._look(self._late_finder, frame, track.last_seen) for track in unseen]
        for track, look in zip(unseen, looks, strict=True):
            points = self._late_finder.decode(look.run.result(), look.placed)
            if self._followed(track, points, pending, frame, live):
                _move(track, points, pending.seconds)
                live.append(track)
            else:
                self._lost.append(track)
        self._live = live
        for column, (points, found) in enumerate(faces):
            large = float(boxes[column][2:].max()) >= self._min_size  # a followed face may shrink a little below it
            if column not in taken and large and all(overlap(boxes[column], one.box) <= _SAME for one in self._live):
                track = self._resumed(points.points, frame) or self._begun()
                _place(track, points, found, pending.seconds)
                self._live.append(track)

    def _followed(
        self, track: _Track, now: Landmarks68, pending: PendingFrame, frame: Frame, others: Sequence[_Track]
    ) -> bool:
        """Whether landmarks that started from the last box still sit on the same face."""
        box = box_of_points(now.points)
        longest = max(_UNSEEN_SECONDS, 0.0 if pending.detection else _RESUME_SECONDS)
        return (
            now.score >= LANDMARK_SCORE
            and pending.seconds - track.detected <= longest
            and self._large_enough(now.points, size_of(frame))
            and overlap(box, track.box) > _SAME
            and all(overlap(box, other.box) <= _SAME for other in others)
        )

    def _begun(self) -> _Track:
        nothing = np.zeros((68, 2), np.float32)
        box = np.zeros(4, np.float32)
        track = _Track(len(self._all), nothing, box, box, 0.0, 0.0, 0.0)
        self._all[track.number] = track
        return track

    def _resumed(self, points: Floats, frame: Frame) -> _Track | None:
        """The lost track of this shot whose embedding is nearest, if it is near enough to be the same person."""
        candidates = [track for track in self._lost if track.chips]
        if not candidates:
            return None
        now = self._embed([self._chip(frame, points)])[0]
        distances = [apart(now, self._describe(track)) for track in candidates]
        best = int(np.argmin(distances))
        if distances[best] > self._describer.same_apart:
            return None
        self._lost.remove(candidates[best])
        return candidates[best]

    def _keep_best(self, track: _Track, frame: Frame) -> None:
        size = min(float(track.box[2:].max()), 250.0)
        value = float(np.exp(-((yaw_of_five(five_of(track.landmarks)) / 25) ** 2))) * size
        keep_best(track.chips, value, lambda: self._chip(frame, track.landmarks))

    def _chip(self, frame: Frame, points: Floats) -> Rgb:
        return cut(frame, framing(self._aligned, five_of(points)), self._aligned.side)

    def _describe(self, track: _Track) -> Floats:
        return unit(np.sum(self._embed([chip for _, chip in track.chips]), axis=0))

    def _embed(self, chips: Sequence[Rgb]) -> list[Floats]:
        name = self._describer.card.name
        runs = [self._runner.submit(name, self._describer.prepare_chip(chip)) for chip in chips]
        return [self._describer.decode(run.result()) for run in runs]


def _place(track: _Track, now: Landmarks68, found: NeuralDetection, seconds: float) -> None:
    """Put the track where the detector found its face."""
    track.landmarks, track.box, track.around = now.points, box_of_points(now.points), found.box
    track.score, track.seen, track.detected = found.score, seconds, seconds


def _move(track: _Track, now: Landmarks68, seconds: float) -> None:
    """Put the track where its landmarks went, and the detector's box along with them.

    The landmarks reach less far than the detector's box; looking at theirs would look closer from frame to frame.
    """
    box = box_of_points(now.points)
    grown = float(box[2:].max()) / float(track.box[2:].max())
    size = track.around[2:] * grown
    aside = (track.around[:2] + track.around[2:] / 2 - track.box[:2] - track.box[2:] / 2) * grown
    track.around = np.concatenate([box[:2] + box[2:] / 2 + aside - size / 2, size]).astype(np.float32)
    track.landmarks, track.box, track.seen = now.points, box, seconds
