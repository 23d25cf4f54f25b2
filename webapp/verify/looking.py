"""One file, looked at in a media child: its mark, and how it compares with what we published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from watermark import image, video
from watermark.fingerprint import ContentMatch
from watermark.keys import MarkKey
from watermark.reading import Reading
from watermark.verdict import ContentEvidence, OutputRecord
from watermark.video_reading import VideoReading
from webapp.verify import content
from worker.media.client import Examination, VideoFrames


class Look:
    """A photo decoded once, or a video read where it is needed. Raises MediaError while it is made or asked.

    `reading`: the mark that was read, or None. `duration`: seconds of a video, else 0. It can be asked for as long as
    `file` is open; a film occupies its child, so nothing else is asked of that afterwards.
    """

    def __init__(self, file: Examination, keys: Sequence[MarkKey]) -> None:
        self._rgb: NDArray[np.uint8] | None = None
        self._frames: VideoFrames | None = None
        self.reading: Reading | VideoReading | None
        self.duration = 0.0
        if file.kind.kind == "photo":
            self._rgb = file.picture()
            self.reading = image.read(self._rgb, keys, effort="deep")
        else:
            self._frames = file.frames()
            self.reading = video.read(self._frames, keys)
            self.duration = self._frames.duration

    def pictures(self, count: int) -> Iterator[content.Frame]:
        """The photo, or about `count` key frames of the video."""
        if self._rgb is not None:
            yield 0.0, self._rgb
        elif self._frames is not None:
            yield from self._frames.keyframes(max(1.0, self.duration / count))

    def compare(self, record: OutputRecord) -> ContentEvidence | None:
        """Does the file show what was published as `record`? None without anything to compare.

        In the frame its mark was read in, if that is the record's; else as a whole.
        """
        recorded = content.Recorded.read(record.fingerprint) if record.fingerprint else None
        if recorded is None:
            return None
        where = self.reading.geometry if self.reading and self.reading.mark_id == record.mark_id else None
        match: ContentMatch | None = None
        if self._rgb is not None:
            match = content.match_photo(recorded, self._rgb, where)
        elif self._frames is not None:
            where = content.as_shrunk(where, self._frames.shrink)
            match = content.match_video(recorded, content.moments(self._frames), where)
        if match is None:
            return None
        return ContentEvidence(
            record.output_id,
            None if match.judged == "unknown" else match.matches,
            match.pdq_distance,
            match.grid_correlation,
            match.share,
            tuple(match.regions),
        )
