"""The pictures of an upload that the gate's models look at: a photo, or of a video one a second, each new shot, and
each person who is there for less.

Keyframes are taken where they lie, because they cost a hundredth of decoding everything; only what they leave open is
decoded beside them. The cuts are those of the analysis. One picture exists at a time, whatever the length.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.gate.upload import Upload
from worker.media import client
from worker.pipeline.analysed import AnalysedFrame, Track
from worker.pipeline.analysis import Analysis

STEP: Final = 1.0  # seconds between two pictures of a video
LEAST_PICTURES: Final = 20  # of a short video, where detectors look: enough for their 16 faces
SHORTEST_STEP: Final = 0.1
SHORT_SIDE: Final = 720  # pixels; larger frames tell the models nothing more
MOST_BRIEF: Final = 100  # persons seen for a moment only that are looked for one by one
_LATE: Final = 0.15  # seconds that a frame may come later than it was asked for
_SAME: Final = 0.06  # seconds: as far as the analysis' frame may lie from the picture
_AFTER_CUT: Final = 0.04  # a little into the new shot, so that a blended frame is passed


@dataclass(frozen=True)
class SampledFace:
    """One face of a sampled picture, in its pixels: `box` float32 [4] x, y, width, height, `landmarks` [478, 3]."""

    track: int
    box: NDArray[np.float32]
    landmarks: NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """A picture uint8 [H, W, 3] RGB, its time in seconds from the first frame, and the faces of the analysis there."""

    seconds: float
    rgb: NDArray[np.uint8]
    faces: tuple[SampledFace, ...]


def samples(upload: Upload, analysis: Analysis, *, dense: bool = False) -> Iterator[Sample]:
    """Yield the pictures to look at; a video's in two runs, each in order of time.

    `dense`: short videos are sampled more often, up to `LEAST_PICTURES`. Raises MediaError, AnalysisError.
    """
    if upload.kind == "photo":
        frame = next(analysis.frames(), None)
        yield Sample(0.0, upload.photo, _scaled(frame, 1.0))
        return
    with client.open_frames(upload.path, short_side=SHORT_SIDE) as video:
        step = step_of(video.duration, dense=dense)
        taken: list[float] = []
        found = _Faces(analysis, video.shrink)
        for seconds, rgb in video.keyframes(0.9 * step):
            taken.append(seconds)
            yield Sample(seconds, rgb, found.at(seconds))
        found = _Faces(analysis, video.shrink)
        for due, exactly in _orders(video.duration, analysis, taken, step):
            for seconds, rgb in video.frames(due, 1, 0.0 if exactly else step):
                yield Sample(seconds, rgb, found.at(seconds))


def step_of(duration: float, *, dense: bool) -> float:
    """Seconds between two pictures of a video of `duration` seconds."""
    return min(STEP, max(SHORTEST_STEP, duration / LEAST_PICTURES)) if dense else STEP


def open_times(duration: float, cuts: Sequence[float], taken: Sequence[float], step: float) -> list[float]:
    """When to look beside the keyframes at `taken` (in order): each `step` with none within half of it, each cut with
    none in the shot's first `step`. Seconds, in order, none twice."""
    times = [
        step * number
        for number in range(max(1, int(np.ceil(duration / step))))
        if not _within(taken, step * number - step / 2, step * number + step / 2)
    ]
    for cut, following in zip(cuts, [*cuts[1:], duration], strict=False):  # a video of one shot has no cut
        due = cut + _AFTER_CUT
        if due < min(following, duration) and not _within(taken, cut, min(cut + step, following)):
            times.append(due)
    ordered: list[float] = []
    for time in sorted(times):
        if not ordered or time - ordered[-1] > _AFTER_CUT:
            ordered.append(time)
    return ordered


def _orders(duration: float, analysis: Analysis, taken: Sequence[float], step: float) -> list[tuple[float, bool]]:
    """The times to look at beside the keyframes, in order, and whether that very frame is meant."""
    orders = [(due, False) for due in open_times(duration, analysis.info.cuts, taken, step)]
    looked = sorted([*taken, *(due for due, _ in orders)])
    return sorted([*orders, *((due, True) for due in brief(analysis.tracks, looked))])


def brief(tracks: Sequence[Track], looked: Sequence[float]) -> list[float]:
    """Where to see the persons who come and go between the times in `looked`, in order: each at their best."""
    # A time is met up to some frames later, so the last moments of a track do not count as seen.
    unseen = [
        track.best_seconds
        for track in tracks
        if not _within(looked, track.first_seconds, max(track.last_seconds - _LATE, track.first_seconds + 1e-3))
    ]
    return sorted(set(unseen))[:MOST_BRIEF]


def _within(ordered: Sequence[float], begin: float, end: float) -> bool:
    at = bisect.bisect_left(ordered, begin)
    return at < len(ordered) and ordered[at] < end


class _Faces:
    """The faces of an analysis at rising times; two of its frames are in memory."""

    def __init__(self, analysis: Analysis, shrink: float) -> None:
        self._frames = analysis.frames()
        self._before: AnalysedFrame | None = None
        self._next = next(self._frames, None)
        self._shrink = shrink

    def at(self, seconds: float) -> tuple[SampledFace, ...]:
        while self._next is not None and self._next.seconds <= seconds:
            self._before, self._next = self._next, next(self._frames, None)
        near = [frame for frame in (self._before, self._next) if frame is not None]
        nearest = min(near, key=lambda frame: abs(frame.seconds - seconds), default=None)
        if nearest is None or abs(nearest.seconds - seconds) > _SAME:
            return ()
        return _scaled(nearest, self._shrink)


def _scaled(frame: AnalysedFrame | None, shrink: float) -> tuple[SampledFace, ...]:
    faces = frame.faces if frame is not None else ()
    factor = np.float32(shrink)
    return tuple(SampledFace(face.track, face.box * factor, face.landmarks * factor) for face in faces)
