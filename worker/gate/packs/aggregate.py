"""From many faces and frames to one score of a file. Pure; section 8 of the gate's reference.

A photo scores as its worst face. A video scores as the mean of its worst fifth of frames, because a swap need not last
long; beside it stand the share of frames over the threshold and the longest run of them. Too few usable faces are no
score at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

TOP_SHARE: Final = 0.2
LEAST_FACES: Final = 16  # of a video
LEAST_PIXELS: Final = 80  # longer side of a face's box
LEAST_SHARPNESS: Final = 20.0  # variance of the Laplacian of the face at 128 pixels, 0..255 luma


@dataclass(frozen=True)
class Summary:
    """A file's score 0..1, the share of frames at or above the threshold, the longest run of them (frames, seconds)."""

    score: float
    share: float
    run_frames: int
    run_seconds: float


def per_frame(faces: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """(seconds, the highest score of that frame's faces) in order of time, from (seconds, score) of faces."""
    best: dict[float, float] = {}
    for seconds, score in faces:
        best[seconds] = max(score, best.get(seconds, -math.inf))
    return sorted(best.items())


def top_mean(scores: Sequence[float], share: float = TOP_SHARE) -> float:
    """The mean of the highest `share` of the scores, of at least one."""
    count = max(1, math.ceil(share * len(scores)))
    return sum(sorted(scores, reverse=True)[:count]) / count


def summarise(timeline: Sequence[tuple[float, float]], threshold: float) -> Summary:
    """Sum up frames, (seconds, score) in order of time; of a photo that is one. ValueError without any."""
    if not timeline:
        raise ValueError("no frames")
    over = [score >= threshold for _, score in timeline]
    best_frames, best_seconds, begin = 0, 0.0, 0
    for number, (hit, (seconds, _)) in enumerate(zip(over, timeline, strict=True)):
        if not hit:
            begin = number + 1
        elif number - begin + 1 > best_frames:
            best_frames, best_seconds = number - begin + 1, seconds - timeline[begin][0]
    return Summary(top_mean([score for _, score in timeline]), sum(over) / len(over), best_frames, best_seconds)


def fuse(probabilities: Sequence[float]) -> float:
    """One probability from the calibrated ones of the packs of a kind: their mean. ValueError without any."""
    if not probabilities:
        raise ValueError("no packs")
    return sum(probabilities) / len(probabilities)
