"""Does the upload carry a mark of this house, and could it carry one?

A photo and a short film are read by themselves. Of a longer film the mark is looked for in the pictures that the other
looks see: decoding what lies between the keyframes is half of what reading costs, and they pay for it anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from watermark import image, video
from watermark.keys import MarkKey
from worker.gate import signals
from worker.gate.declared.own import Outputs
from worker.gate.looks.sampling import STEP, Sample
from worker.gate.signals import Signal
from worker.gate.upload import Upload
from worker.media import client
from worker.pipeline.analysis import Analysis

if TYPE_CHECKING:
    from watermark.reading import Reading
    from watermark.video_reading import VideoReading

KIND: Final = "own_mark"
FRAMES_TO_JUDGE: Final = 12  # whether a video can carry a mark
_ROW: Final = 3  # of so many pictures in a row one is passed over: a piece of three seconds is still seen twice


class MarkLook:
    """Looks for a mark under `keys`, and which of the `outputs` it leads to: a `looking.Look`.

    `markable` says, afterwards, whether the upload could carry one.
    """

    kind: str = KIND

    def __init__(self, upload: Upload, analysis: Analysis, keys: Sequence[MarkKey], outputs: Outputs) -> None:
        self._upload, self._keys, self._outputs = upload, keys, outputs
        self._watch = video.watch(analysis.info.duration, keys)
        self.shares: Final = upload.kind == "video" and self._watch.gap > STEP
        """Whether it looks at the pictures that others see; else `read` alone answers."""
        self._judged = _Judged()
        self._last, self._row = -np.inf, 0

    @property
    def markable(self) -> Signal:
        """Can the upload carry a mark?"""
        return signals.markable(self._judged.reason)

    def read(self) -> Signal:
        """Look at the whole upload. Raises MediaError, ChildError."""
        if self._upload.kind == "photo":
            self._judged.see(self._upload.photo)
            return self._signal(image.read(self._upload.photo, self._keys, effort="deep"), "full")
        with client.open_frames(self._upload.path) as frames:
            found = video.read(_Passed(frames, self._judged), self._keys)
        return self._signal(found, f"{self._judged.count} frames")

    def take(self, sample: Sample) -> None:
        """Look at one picture of a film, unless enough were seen around it."""
        near = 0 <= sample.seconds - self._last < self._watch.gap
        self._last, self._row = sample.seconds, self._row + 1 if near else 0
        if self._row % _ROW == _ROW - 1:
            return
        self._judged.see(sample.rgb)
        self._watch.take(sample.seconds, sample.rgb)

    def finish(self) -> Signal:
        """The signal of this house's mark. Raises MediaError."""
        with client.open_frames(self._upload.path) as frames:
            found = self._watch.finish(_Passed(frames, self._judged))
        del self._watch  # it is large, and `markable` is still asked for
        return self._signal(found, f"{self._judged.count} frames")

    def _signal(self, found: Reading | VideoReading | None, effort: str) -> Signal:
        mark_id = found.mark_id if found is not None else None
        return signals.own_mark(mark_id, effort, self._outputs.by_mark(mark_id) if mark_id is not None else None)


class _Judged:
    """How many pictures were looked at, and why none of the first could carry a mark."""

    def __init__(self) -> None:
        self.count = 0
        self._reasons: list[str | None] = []

    def see(self, rgb: NDArray[np.uint8]) -> None:
        self.count += 1
        if None not in self._reasons and len(self._reasons) < FRAMES_TO_JUDGE:
            self._reasons.append(image.markable(rgb))

    @property
    def reason(self) -> str | None:
        """One picture that can carry the mark is enough for a video: the reader sums over frames."""
        return None if not self._reasons or None in self._reasons else self._reasons[0]


class _Passed:
    """Frames on their way to the reader, each judged."""

    def __init__(self, frames: client.VideoFrames, judged: _Judged) -> None:
        self._frames, self._judged = frames, judged
        self.duration, self.shrink = frames.duration, frames.shrink

    def keyframes(self, gap: float) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        return self._passed(self._frames.keyframes(gap))

    def frames(self, start: float, count: int, step: float = 0.0) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        return self._passed(self._frames.frames(start, count, step))

    def _passed(self, frames: Iterator[tuple[float, NDArray[np.uint8]]]) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        for seconds, frame in frames:
            self._judged.see(frame)
            yield seconds, frame
