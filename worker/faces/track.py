"""Faces through a video: found every few frames, followed by their own mesh in between, cut at scene changes.

A track is one face for as long as it is surely the same. It never continues over a cut, and it ends where two faces
touch, and where what it follows no longer looks like whom it began with: who is shown after that is for the descriptors
to say (`persons`), and a permission hangs on it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.faces.detect import FaceDetector, intersection, overlap
from worker.faces.embed import Descriptor, chip, distance
from worker.faces.landmarks import FACE_SCORE, FaceMesh, box_of, pose_of
from worker.faces.persons import Stretch
from worker.faces.types import MIN_FACE_PIXELS, Detection, Floats, Frame, ModelRunner, Rgb, size_of
from worker.limits import IDENTITY_PASS, IDENTITY_REVIEW
from worker.media.planes import Planes

# New faces are looked for this often; every 15th frame at 25 a second.
_DETECT_SECONDS: Final = 0.6
_THOROUGH_EVERY: Final = 4
# One that was just lost is looked for this often, in frames: behind a hand or somebody else it is soon back.
_SEEK_EVERY: Final = 3
# A lost face is taken up again under its number within this time, if its descriptor agrees.
_RESUME_SECONDS: Final = 2.0
_KEEP_CHIPS: Final = 5
_LEAST_OVERLAP: Final = 0.25
_DUPLICATE: Final = 0.5
# Followed faces may shrink a little below the size at which new ones are taken, or a face at the limit would flicker.
_SHRINK: Final = 0.85
# Shares of the smaller of two boxes that both cover: from the first two faces touch, below the second they have parted.
_TOUCH, _PART = 0.12, 0.03
_PART_FRAMES: Final = 4
# Luma of a video, 16 to 235, as that of a picture, 0 to 255.
_FULL_RANGE: Final = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)
# A face that looks further aside, in degrees, is not asked whose it is.
_MOST_TURNED: Final = 35.0


@dataclass(frozen=True)
class TrackedFace:
    """One face in one frame: `box` float32 [4], `landmarks` float32 [478, 3] (of the neural tracker [68, 2]), raw:
    smooth them with `OneEuro`."""

    track: int
    box: Floats
    score: float
    landmarks: Floats


@dataclass(frozen=True)
class _Chip:
    """A face cut out of frame `index`; the more `worth`, the better it tells who it is."""

    index: int
    worth: float
    picture: Rgb


@dataclass
class _Track:
    number: int
    landmarks: Floats
    score: float
    seen: float
    first: int
    last: int
    frames: int = 0
    follows: int | None = None
    sure: int = 0  # the first frame of which it was not yet asked whose face it is
    fresh: list[_Chip] = field(default_factory=list)  # cut since then, in order
    known: list[tuple[float, Floats]] = field(default_factory=list)  # descriptors of the best before, best first
    looked: int = 0
    touching: bool = False
    parted: int = 0
    doubtful: bool = False


@dataclass(frozen=True)
class Correction:
    """From frame `since` on, what was given the number `old` is the track `new`."""

    old: int
    since: int
    new: int


class CutDetector:
    """Scene cuts from small pictures: a jump in both layout and histogram of luma, well above the shot's own motion."""

    _SIZE = (64, 36)

    def __init__(self) -> None:
        self._luma: NDArray[np.float32] | None = None
        self._histogram: NDArray[np.float32] | None = None
        self._usual = 0.02

    def push(self, frame: Frame) -> bool:
        """Whether `frame` begins a new shot; the first does not count as a cut. All are planes, or all are RGB."""
        if isinstance(frame, Planes):
            return self._compare(cv2.LUT(self._small(frame.y), _FULL_RANGE))
        return self._compare(cv2.cvtColor(self._small(frame), cv2.COLOR_RGB2GRAY))

    def _small(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = picture.shape[:2]
        step = max(1, min(width // (4 * self._SIZE[0]), height // (4 * self._SIZE[1])))
        sparse = np.ascontiguousarray(picture[::step, ::step])
        return np.asarray(cv2.resize(sparse, self._SIZE, interpolation=cv2.INTER_AREA), np.uint8)

    def _compare(self, luma: NDArray[np.uint8]) -> bool:
        histogram = np.bincount(luma.ravel() >> 4, minlength=16).astype(np.float32) / np.float32(luma.size)
        now = luma.astype(np.float32) / np.float32(255)
        cut = False
        if self._luma is not None and self._histogram is not None:
            moved = float(np.abs(now - self._luma).mean())
            changed = float(np.abs(histogram - self._histogram).sum()) / 2
            # The layout alone jumps in fast motion, the histogram alone in a flash; a large jump of one needs little
            # of the other.
            cut = moved > max(0.07, 4 * self._usual) and (changed > 0.12 or moved > 0.2)
            if not cut:
                self._usual += 0.1 * (moved - self._usual)
            else:
                self._usual = 0.02
        self._luma, self._histogram = now, histogram
        return cut


class VideoTracker:
    """Follows all faces of a video; feed every frame in order, from one thread.

    `fps` sets how often new faces are looked for, unless `detect_every` (frames) does; `min_size` in pixels.
    """

    def __init__(
        self,
        runner: ModelRunner,
        fps: float,
        *,
        min_size: int = MIN_FACE_PIXELS,
        detect_every: int | None = None,
    ) -> None:
        self._detector = FaceDetector(runner)
        self._mesh = FaceMesh(runner)
        self._descriptor = Descriptor(runner)
        self._min_size = min_size
        usual = int(np.clip(round(_DETECT_SECONDS * fps), 5, 30)) if fps > 0 else 15
        self._detect_every = max(1, detect_every or usual)
        self._cut = CutDetector()
        self._live: list[_Track] = []
        self._lost: list[_Track] = []
        self._all: dict[int, _Track] = {}
        self._corrections: list[Correction] = []
        self._until_detection = 0
        self._detections = 0
        self.cuts: list[int] = []
        self.settled = 0
        """The number of the first frame of which a later one may still correct the track numbers."""

    def push(self, index: int, seconds: float, frame: Frame) -> list[TrackedFace]:
        """The faces of `frame`, number `index` at `seconds`, in the order of their track numbers.

        Indices of frames that begin a new shot are added to `cuts`; see also `settled` and `corrections`.
        """
        if self._cut.push(frame):
            self.cuts.append(index)
            self._ask_all(index)
            self._live, self._lost = [], []
            self._until_detection, self._detections = 0, 0
        before = len(self._live)
        self._follow(frame, index, seconds)
        if self._until_detection <= 0 or len(self._live) < before:
            # Small faces cost many tiles, so they are looked for more rarely than large ones.
            thorough = self._detections % _THOROUGH_EVERY == 0
            self._ask_all(index)
            self._detect(frame, index, seconds, thorough)
            self._detections += 1
            self._until_detection = self._detect_every
        self._until_detection -= 1
        if self._lost:
            self._until_detection = min(self._until_detection, _SEEK_EVERY - 1)
        self._part_touching(index)
        for track in self._live:
            track.last, track.frames = index, track.frames + 1
            if index - track.looked >= self._detect_every // 3 or not (track.fresh or track.known):
                track.looked = index
                self._look(track, frame, index)
        horizon = seconds - _RESUME_SECONDS
        self._lost = [track for track in self._lost if track.seen >= horizon]
        faces = [TrackedFace(one.number, box_of(one.landmarks), one.score, one.landmarks) for one in self._live]
        return sorted(faces, key=lambda face: face.track)

    def corrections(self) -> list[Correction]:
        """What the last frame told about those before it, from `settled` of the frame before on; told once."""
        told, self._corrections = self._corrections, []
        return told

    def descriptors(self) -> dict[int, Floats]:
        """The descriptor float32 [128] of every track so far, the mean over its most frontal, large, sharp frames."""
        return {number: self._describe(track) for number, track in self._all.items() if track.fresh or track.known}

    def stretches(self) -> list[Stretch]:
        """All tracks so far, as `persons.group` takes them."""
        described = self.descriptors()
        return [
            Stretch(
                *(one.number, one.first, one.last, one.frames, described.get(one.number)),
                follows=one.follows,
                doubtful=one.doubtful,
            )
            for one in self._all.values()
            if one.frames
        ]

    def _ask_all(self, index: int) -> None:
        """Ask of every live track whether what was seen since the last time is still whom it began with."""
        self._live = [self._asked(track, index) for track in self._live]
        self.settled = min((track.sure for track in self._live), default=index)

    def _asked(self, track: _Track, index: int) -> _Track:
        """The track itself, or the new one that what was followed lately belongs to."""
        if not track.fresh:
            return track
        best = max(track.fresh, key=lambda chip: chip.worth)
        asked = [track.fresh[-1]] if best is track.fresh[-1] else [track.fresh[-1], best]
        described = self._descriptor.describe_chips([chip_.picture for chip_ in asked])
        last, good = described[0], described[-1]
        known = _mean(track.known)
        if known is not None and distance(last, known) > IDENTITY_REVIEW and _faces_us(track.landmarks):
            return self._changed(track, known, index)
        if known is None or distance(good, known) <= IDENTITY_PASS:
            track.known.append((best.worth, good))
            track.known.sort(key=lambda one: -one[0])
            del track.known[_KEEP_CHIPS:]
        track.fresh, track.sure = [], track.fresh[-1].index + 1
        return track

    def _changed(self, track: _Track, known: Floats, index: int) -> _Track:
        """The track of whom `track` has become; frames of which nobody knows whose they are get one of their own."""
        described = self._descriptor.describe_chips([chip.picture for chip in track.fresh])
        agree = [distance(now, known) <= IDENTITY_PASS for now in described]
        last = max((place for place, same in enumerate(agree) if same), default=-1)
        since = track.fresh[last].index + 1 if last >= 0 else track.sure
        others = track.fresh[last + 1 :]
        track.fresh = []
        unsure = self._split(track, since, index)
        new = self._split(unsure, others[0].index, index)
        new.fresh = others
        return new

    def _split(self, track: _Track, since: int, index: int) -> _Track:
        """A new track that goes on where `track` is now, from frame `since` on, as is told where that is past."""
        new = self._begun(track.landmarks, since)
        new.score, new.seen, new.last, new.looked = track.score, track.seen, track.last, track.looked
        new.touching, new.parted, new.sure, new.doubtful = track.touching, track.parted, index, True
        if since < index:
            new.frames = index - since
            track.frames, track.last = max(0, track.frames - new.frames), since - 1
            self._corrections.append(Correction(track.number, since, new.number))
        return new

    def _part_touching(self, index: int) -> None:
        """End the tracks of faces that begin to touch, and again when they have parted.

        While they do, the mesh of the one behind may take the face of the one in front for its own.
        """
        boxes = [box_of(track.landmarks) for track in self._live]
        for place, track in enumerate(self._live):
            near = max((_covered(boxes[place], box) for other, box in enumerate(boxes) if other != place), default=0.0)
            track.parted = track.parted + 1 if near < _PART else 0
            begins, ends = near > _TOUCH and not track.touching, track.touching and track.parted >= _PART_FRAMES
            if not (begins or ends):
                continue
            if not track.frames:  # begun in this very frame
                track.touching = begins
                continue
            before = self._asked(track, index)
            new = self._split(before, index, index)
            new.follows, new.touching = before.number, begins
            self._live[place] = new

    def _follow(self, frame: Frame, index: int, seconds: float) -> None:
        kept: list[_Track] = []
        for track in sorted(self._live, key=lambda one: one.number):
            landmarks, score = self._mesh.locate(frame, track.landmarks)
            if self._believable(track.landmarks, landmarks, score, size_of(frame)) and not any(
                overlap(box_of(landmarks), box_of(other.landmarks)) > _DUPLICATE for other in kept
            ):
                track.landmarks, track.score, track.seen = landmarks, score, seconds
                kept.append(track)
            else:
                self._lost.append(self._asked(track, index))
        self._live = kept

    def _believable(self, before: Floats, now: Floats, score: float, size: tuple[int, int]) -> bool:
        """Whether the mesh still sits on the same face: sure, large enough, not leapt, not out of the picture."""
        box, last = box_of(now), box_of(before)
        if score < FACE_SCORE or float(box[2:].max()) < _SHRINK * self._min_size:
            return False
        picture = np.array([0, 0, *size], np.float32)
        if intersection(box, picture) < 0.35 * float(box[2] * box[3]):
            return False
        return overlap(box, last) > _LEAST_OVERLAP and 0.6 < float(box[3] / max(last[3], 1)) < 1.7

    def _detect(self, frame: Frame, index: int, seconds: float, thorough: bool) -> None:
        least = self._min_size if thorough else max(self._min_size, max(size_of(frame)) // 12)
        for found in self._detector.detect(frame, min_size=round(0.8 * least)):
            if any(_same(found, track.landmarks) for track in self._live):
                continue
            landmarks, score = self._mesh.locate(frame, found)
            box = box_of(landmarks)
            if score < FACE_SCORE or float(box[2:].max()) < self._min_size:
                continue
            if any(overlap(box, box_of(track.landmarks)) > _DUPLICATE for track in self._live):
                continue
            track = self._resumed(frame, landmarks) or self._begun(landmarks, index)
            track.landmarks, track.score, track.seen = landmarks, score, seconds
            self._live.append(track)

    def _begun(self, landmarks: Floats, index: int) -> _Track:
        track = _Track(len(self._all), landmarks, score=0.0, seen=0.0, first=index, last=index, sure=index)
        track.doubtful = self._detections > 0
        self._all[track.number] = track
        return track

    def _resumed(self, frame: Frame, landmarks: Floats) -> _Track | None:
        """The lost track of this shot whose descriptor is nearest, if it is near enough to be the same person."""
        candidates = [track for track in self._lost if track.fresh or track.known]
        if not candidates:
            return None
        now = self._descriptor.describe(frame, landmarks)
        apart = [distance(now, self._describe(track)) for track in candidates]
        best = int(np.argmin(apart))
        if apart[best] > IDENTITY_PASS:
            return None
        self._lost.remove(candidates[best])
        return candidates[best]

    def _look(self, track: _Track, frame: Frame, index: int) -> None:
        pose = pose_of(track.landmarks)
        size = float(box_of(track.landmarks)[2:].max())
        frontal = np.exp(-((pose.yaw / 25) ** 2) - (pose.pitch / 35) ** 2)
        found = chip(frame, track.landmarks)
        track.fresh.append(_Chip(index, float(frontal * min(size, 250.0)) * _sharpness(found), found))

    def _describe(self, track: _Track) -> Floats:
        """The mean over the best of what is known and what came since."""
        seen = list(track.known)
        if track.fresh:
            described = self._descriptor.describe_chips([chip_.picture for chip_ in track.fresh])
            seen += [(chip_.worth, one) for chip_, one in zip(track.fresh, described, strict=True)]
        seen.sort(key=lambda one: -one[0])
        return np.asarray(np.mean([one for _, one in seen[:_KEEP_CHIPS]], axis=0), np.float32)


def _mean(known: list[tuple[float, Floats]]) -> Floats | None:
    return np.asarray(np.mean([one for _, one in known], axis=0), np.float32) if known else None


def _faces_us(landmarks: Floats) -> bool:
    """Whether a face looks so straight at the camera that its descriptor tells who it is."""
    return abs(pose_of(landmarks).yaw) < _MOST_TURNED


def _covered(box: Floats, other: Floats) -> float:
    """How much of the smaller of two boxes both cover, 0..1."""
    return intersection(box, other) / max(1.0, float(min(box[2] * box[3], other[2] * other[3])))


def keep_best(chips: list[tuple[float, Rgb]], value: float, cut: Callable[[], Rgb]) -> None:
    """Add the chip that `cut` gives to the best of a track, if it is among them; `chips` are (worth, chip), best first.

    `value` is what the chip is worth but for its sharpness, which at most makes it half as much again; so a chip that
    cannot get among the best is not even cut.
    """
    if len(chips) >= _KEEP_CHIPS and 1.5 * value <= chips[-1][0]:
        return
    found = cut()
    chips.append((value * _sharpness(found), found))
    chips.sort(key=lambda kept: -kept[0])
    del chips[_KEEP_CHIPS:]


def _sharpness(found: Rgb) -> float:
    """0.5 for a blurred chip to 1.5 for a sharp one."""
    detail = float(np.std(cv2.Laplacian(cv2.cvtColor(found, cv2.COLOR_RGB2GRAY), cv2.CV_32F)))
    return 0.5 + min(detail, 20.0) / 20.0


def _same(found: Detection, landmarks: Floats) -> bool:
    """Whether a detection is the face at `landmarks`: boxes overlap, or the eyes lie inside the mesh's box."""
    box = box_of(landmarks)
    if overlap(found.box, box) > _LEAST_OVERLAP:
        return True
    eyes = found.keypoints[:2]
    return bool(((eyes >= box[:2]) & (eyes <= box[:2] + box[2:])).all())
