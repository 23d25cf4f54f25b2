"""One file, looked at in media children: its mark, and how it compares with what we published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from watermark import image, video
from watermark.fingerprint import ContentMatch
from watermark.reading import Reading
from watermark.verdict import ContentEvidence, OutputRecord
from watermark.video_reading import VideoReading
from webapp import keys_of_house
from webapp.verify import content
from worker.media import client
from worker.media.magic import Sniffed


class Look:
    """A photo decoded once, or a video read where it is needed. Raises MediaError while it is made or asked.

    `reading`: the mark that was read, or None. `duration`: seconds of a video, else 0.
    """

    def __init__(self, path: Path, kind: Sniffed) -> None:
        self._path = path
        self._rgb: NDArray[np.uint8] | None = None
        self.reading: Reading | VideoReading | None
        self.duration = 0.0
        keys = keys_of_house.mark_keys()
        if kind.kind == "photo":
            self._rgb = client.decode_image(path)
            self.reading = image.read(self._rgb, keys, effort="deep")
        else:
            with client.open_frames(path) as frames:
                self.reading = video.read(frames, keys)
                self.duration = frames.duration

    def compare(self, record: OutputRecord) -> ContentEvidence | None:
        """Does the file show what was published as `record`? None without anything to compare.

        In the frame its mark was read in, if that is the record's; else as a whole.
        """
        recorded = content.Recorded.read(record.fingerprint) if record.fingerprint else None
        if recorded is None:
            return None
        where = self.reading.geometry if self.reading and self.reading.mark_id == record.mark_id else None
        if self._rgb is not None:
            match: ContentMatch | None = content.match_photo(recorded, self._rgb, where)
        else:
            frames_at = client.sample_frames(self._path, times=content.times_to_compare(self.duration))
            match = content.match_video(recorded, frames_at, where)
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
