"""Does a file show what we published? Its content against the fingerprints of a record.

A mark can be lifted from one picture and laid on another, so a mark counts only together with this.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from watermark.fingerprint import ContentMatch, Fingerprint, compare
from watermark.geometry import Geometry
from watermark.mark_errors import MarkError

log = logging.getLogger(__name__)

Frame = tuple[float, NDArray[np.uint8]]  # seconds, uint8 [H, W, 3] RGB

NEAR_SECONDS = 1.6  # fingerprints of a video are a second apart
LOST_AFTER = 2  # frames that fit nowhere in the record, before the rest is not searched any more
SHARE = 0.5  # of the frames that must fit


@dataclass(frozen=True)
class Recorded:
    """The fingerprints of one output: one for a photo, one per second for a video."""

    frames: tuple[tuple[float, Fingerprint], ...]

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Recorded | None:
        """From an output's row; None, with a line in the log, for what is no fingerprint."""
        try:
            frames = [(float(each["seconds"]), Fingerprint.from_json(each["fingerprint"])) for each in raw["frames"]]
        except (KeyError, TypeError, ValueError, MarkError):
            log.warning("a record's fingerprint cannot be read")
            return None
        return cls(tuple(frames)) if frames else None


def match_photo(recorded: Recorded, rgb: NDArray[np.uint8], where: Geometry | None) -> ContentMatch:
    """Compare a photo, or a frame cut out of a video, with the record: the best of all entries."""
    return max((compare(each, rgb, where) for _, each in recorded.frames), key=_rank)


def match_video(recorded: Recorded, frames: Sequence[Frame], where: Geometry | None) -> ContentMatch | None:
    """Compare frames of a video with the record; None without frames.

    The video may have been cut, so the first frame that fits anywhere tells how far times are shifted; the others are
    looked for there. At least half of the frames must fit. The numbers are those of the median of what fitted best.
    """
    shift: float | None = None
    lost = 0
    best: list[ContentMatch] = []
    for seconds, rgb in frames:
        found = _nearest(recorded, seconds + (shift or 0.0), rgb, where)
        if not found[1].matches and shift is None and lost < LOST_AFTER:
            found = max(
                ((at, compare(each, rgb, where)) for at, each in recorded.frames), key=lambda one: _rank(one[1])
            )
            lost += not found[1].matches
        if found[1].matches and shift is None:
            shift = found[0] - seconds
        best.append(found[1])
    if not best:
        return None
    best.sort(key=_rank)
    middle = best[len(best) // 2]
    fitting = sum(each.matches for each in best) / len(best)
    return ContentMatch(fitting >= SHARE, middle.pdq_distance, middle.grid_correlation)


def _nearest(
    recorded: Recorded, seconds: float, rgb: NDArray[np.uint8], where: Geometry | None
) -> tuple[float, ContentMatch]:
    """The best fit among the entries around a time, or the nearest entry if none is around."""
    near = [each for each in recorded.frames if abs(each[0] - seconds) <= NEAR_SECONDS]
    near = near or [min(recorded.frames, key=lambda each: abs(each[0] - seconds))]
    return max(((at, compare(each, rgb, where)) for at, each in near), key=lambda one: _rank(one[1]))


def _rank(match: ContentMatch) -> tuple[bool, float]:
    return match.matches, match.grid_correlation
