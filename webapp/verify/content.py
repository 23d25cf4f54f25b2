"""Does a file show what we published? Its content against the fingerprints of a record.

A mark can be lifted from one picture and laid on another, so a mark counts only together with this.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from watermark.fingerprint import ContentMatch, Fingerprint, Judgement, compare_all
from watermark.frames import FrameSource
from watermark.geometry import Geometry
from watermark.mark_errors import MarkError

log = logging.getLogger(__name__)

Frame = tuple[float, NDArray[np.uint8]]  # seconds, uint8 [H, W, 3] RGB

NEAR_SECONDS = 1.6  # fingerprints of a video are a second apart
LOST_AFTER = 2  # frames that fit nowhere in the record, before the rest is not searched any more
SHARE = 0.5  # of the moments that can be told, which must fit
MOMENTS, FRAMES_OF_MOMENT = 5, 4


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
    return max(compare_all([each for _, each in recorded.frames], rgb, where), key=_rank)


def times_to_compare(duration: float) -> list[float]:
    """Seconds at which to look into a video of `duration` seconds: a few moments, at each a few frames close together.

    Fingerprints are a second apart, and a cut shifts them by any part of it: what moves is alike only at their time.
    """
    starts = [math.floor(duration * (place + 0.5) / MOMENTS) for place in range(MOMENTS)]
    return [start + part / FRAMES_OF_MOMENT for start in dict.fromkeys(starts) for part in range(FRAMES_OF_MOMENT)]


def moments(frames: FrameSource) -> Iterator[Frame]:
    """A few frames of a video at each of its moments, `times_to_compare` of them, in order."""
    wanted = times_to_compare(frames.duration)
    for first in range(0, len(wanted), FRAMES_OF_MOMENT):
        yield from frames.frames(wanted[first], FRAMES_OF_MOMENT, 1 / FRAMES_OF_MOMENT)


def as_shrunk(where: Geometry | None, shrink: float) -> Geometry | None:
    """A geometry of frames of the video's own size, for frames `shrink` times as large (pixel centres at halves)."""
    if where is None or shrink == 1.0:
        return where
    lead = 0.5 / shrink - 0.5
    return replace(
        where,
        a=where.a / shrink,
        b=where.b / shrink,
        c=where.c / shrink,
        d=where.d / shrink,
        tx=where.tx + (where.a + where.b) * lead,
        ty=where.ty + (where.c + where.d) * lead,
    )


def match_video(recorded: Recorded, frames: Iterable[Frame], where: Geometry | None) -> ContentMatch | None:
    """Compare frames of a video, in order, with the record; None without frames.

    Frames within a second are one moment, of which the best counts. The video may have been cut, so the first frame
    that fits anywhere tells how far times are shifted; the others are looked for there. At least half of the moments
    that can be told must fit. The numbers are those of the median of what fitted best.
    """
    shift: float | None = None
    lost = 0
    moments: list[tuple[float, ContentMatch]] = []
    for seconds, rgb in frames:
        new = not moments or seconds - moments[-1][0] >= 1.0
        found = _nearest(recorded, seconds + (shift or 0.0), rgb, where)
        if new and not found[1].matches and shift is None and lost < LOST_AFTER:
            found = _best(recorded.frames, rgb, where)
            lost += not found[1].matches
        if found[1].matches and shift is None:
            shift = found[0] - seconds
        if new:
            moments.append((seconds, found[1]))
        elif _rank(found[1]) > _rank(moments[-1][1]):
            moments[-1] = (moments[-1][0], found[1])
    if not moments:
        return None
    best = sorted((match for _, match in moments), key=_rank)
    return replace(best[len(best) // 2], judged=_together(best))


def _together(moments: Sequence[ContentMatch]) -> Judgement:
    """What the moments of a video say together; those too plain to tell have no voice."""
    told = [each for each in moments if each.judged != "unknown"]
    if not told:
        return "unknown"
    return "ours" if sum(each.matches for each in told) >= SHARE * len(told) else "differs"


def _nearest(
    recorded: Recorded, seconds: float, rgb: NDArray[np.uint8], where: Geometry | None
) -> tuple[float, ContentMatch]:
    """The best fit among the entries around a time, or the nearest entry if none is around."""
    near = [each for each in recorded.frames if abs(each[0] - seconds) <= NEAR_SECONDS]
    return _best(near or [min(recorded.frames, key=lambda each: abs(each[0] - seconds))], rgb, where)


def _best(
    entries: Sequence[tuple[float, Fingerprint]], rgb: NDArray[np.uint8], where: Geometry | None
) -> tuple[float, ContentMatch]:
    """The entry a frame fits best, as its time and the match."""
    matches = compare_all([each for _, each in entries], rgb, where)
    return max(zip((at for at, _ in entries), matches, strict=True), key=lambda one: _rank(one[1]))


def _rank(match: ContentMatch) -> tuple[bool, float]:
    return match.matches, match.evidence
