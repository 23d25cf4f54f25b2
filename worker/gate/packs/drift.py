"""Are a pack's scores still those it was calibrated on? Pure.

The population stability index compares the week's scores with the deciles of the bona fide files of the calibration:
sum of (now - then) * ln(now / then) over the ten parts. Above 0.2 is the usual bound for "another population".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

LARGEST_PSI: Final = 0.2
LEAST_SCORES: Final = 100  # in a week, below which chance alone exceeds the bound
_FLOOR: Final = 1e-4  # of a share, so that an empty part stays finite


@dataclass(frozen=True)
class Drift:
    """One week of a pack: how many scores, their median, the stability index (None for too few scores)."""

    scores: int
    median: float | None
    psi: float | None

    @property
    def drifted(self) -> bool:
        """Whether the pack must become advisory."""
        return self.psi is not None and not self.psi <= LARGEST_PSI


def stability_index(reference: Sequence[float], scores: Sequence[float]) -> float:
    """PSI of raw `scores` against `reference`, the 11 deciles (0 to 100 %) of the calibration's bona fide files.

    Where deciles coincide the parts between them are one, with the share they hold together.
    """
    if reference[0] == reference[-1]:  # one value only: any other is another population
        return 0.0 if all(score == reference[0] for score in scores) else float("inf")
    edges, then, share = [-np.inf], [], 0.0
    for edge, following in pairwise(reference[1:]):
        share += 0.1
        if following > edge:
            edges.append(float(edge))
            then.append(share)
            share = 0.0
    then.append(share + 0.1)
    edges.append(np.inf)
    # A score on an edge belongs to the part below it, as the deciles themselves count.
    place = np.clip(
        np.searchsorted(np.asarray(edges), np.asarray(scores, np.float64), side="left") - 1, 0, len(then) - 1
    )
    now = np.maximum(np.bincount(place, minlength=len(then)) / len(scores), _FLOOR)
    expected = np.maximum(np.asarray(then), _FLOOR)
    return float(((now - expected) * np.log(now / expected)).sum())


def watch(reference: Sequence[float], scores: Sequence[float]) -> Drift:
    """One week's bona fide raw scores against the calibration."""
    median = float(np.median(scores)) if len(scores) else None
    if len(scores) < LEAST_SCORES:
        return Drift(len(scores), median, None)
    return Drift(len(scores), median, stability_index(reference, scores))
