"""How good a detector is, by the terms of ISO/IEC 30107-3 and section 8.1 of the gate's reference. Pure numpy.

Higher scores mean "fake". APCER: share of attacks below the threshold, by species. BPCER: share of bona fide files at
or above it. A source is a person or recording from which several files may come: confidence intervals draw sources, not
files, because the files of one source are no independent evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

PREVALENCES: Final = (0.005, 0.02, 0.10)
BINS: Final = 15
DRAWS: Final = 1000


def auc(fake: Flags, scores: Floats) -> float:
    """Area under the ROC curve, ties counted half (Mann and Whitney); NaN where a class is missing."""
    return weighted_auc(fake, scores, np.ones(len(scores)))


def weighted_auc(fake: Flags, scores: Floats, weights: Floats) -> float:
    """As `auc`, each file counted `weights` times."""
    _, level = np.unique(scores, return_inverse=True)
    attack = np.bincount(level, weights=weights * fake)
    bona_fide = np.bincount(level, weights=weights * ~fake)
    total = attack.sum() * bona_fide.sum()
    if total == 0:
        return math.nan
    below = np.cumsum(bona_fide) - bona_fide
    return float((attack * (below + bona_fide / 2)).sum() / total)


def auc_interval(
    fake: Flags, scores: Floats, sources: Sequence[str], *, seed: int = 0, draws: int = DRAWS, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the AUC that draws whole sources with replacement; NaN where none can be."""
    names, source = np.unique(np.asarray(sources), return_inverse=True)
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        counts = np.bincount(generator.integers(0, len(names), len(names)), minlength=len(names))
        found.append(weighted_auc(fake, scores, counts[source].astype(np.float64)))
    kept = np.array([value for value in found if not math.isnan(value)])
    if not len(kept):
        return math.nan, math.nan
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def apcer(scores: Floats, species: Sequence[str], threshold: float) -> dict[str, float]:
    """Of each attack species, the share of its `scores` below `threshold`: missed."""
    kinds = np.asarray(species)
    return {str(kind): float((scores[kinds == kind] < threshold).mean()) for kind in np.unique(kinds)}


def bpcer(scores: Floats, threshold: float) -> float:
    """The share of bona fide `scores` at or above `threshold`; NaN without any."""
    return float((scores >= threshold).mean()) if len(scores) else math.nan


def bpcer_at(attacks: Floats, bona_fide: Floats, missed: float) -> float:
    """BPCER at the highest threshold at which at most the share `missed` of the attacks is missed (BPCER20: 0.05)."""
    ordered = np.sort(attacks)
    if not len(ordered):
        return math.nan
    return bpcer(bona_fide, float(ordered[min(math.floor(missed * len(ordered) + 1e-9), len(ordered) - 1)]))


def brier(fake: Flags, probabilities: Floats) -> float:
    """Mean squared difference between probability and truth."""
    return float(np.mean((probabilities - fake) ** 2))


def calibration_error(fake: Flags, probabilities: Floats, bins: int = BINS) -> float:
    """Expected calibration error over equally wide bins: the weighted mean gap between probability and frequency."""
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probabilities)
    counts = np.bincount(place, minlength=bins)
    gaps = np.abs(
        np.bincount(place, weights=probabilities, minlength=bins)
        - np.bincount(place, weights=fake.astype(np.float64), minlength=bins)
    )
    return float(gaps[counts > 0].sum() / len(probabilities))


def alarm_precision(missed: float, false_alarms: float, prevalence: float) -> float:
    """The share of alarms that are right where `prevalence` of the files are attacks (Bayes)."""
    right, wrong = (1 - missed) * prevalence, false_alarms * (1 - prevalence)
    return right / (right + wrong) if right + wrong > 0 else math.nan


@dataclass(frozen=True)
class Scored:
    """One file: is it an attack and of which species, from which source, its score (None: no usable face)."""

    fake: bool
    species: str
    source: str
    score: float | None
    group: str = ""


@dataclass(frozen=True)
class Rates:
    """The metrics of a set of files. At `threshold`: APCER, BPCER, review rate, precision; NaN if it cannot be told.

    `sources` counts those of each species; `groups` are the BPCER of named groups of bona fide files.
    """

    files: int
    attacks: int
    auc: float
    auc_low: float
    auc_high: float
    bpcer20: float
    bpcer100: float
    apnrr: float
    bpnrr: float
    threshold: float
    apcer: Mapping[str, float]
    bpcer: float
    review_rate: float
    precision: Mapping[float, float]
    sources: Mapping[str, int]
    bona_fide_sources: int
    groups: Mapping[str, float]

    @property
    def worst_species(self) -> str:
        """The species that is missed most, "" without attacks."""
        return max(self.apcer, key=lambda name: self.apcer[name], default="")


def rates(files: Sequence[Scored], threshold: float, *, seed: int = 0, draws: int = DRAWS) -> Rates:
    """All metrics of `files`. A file without a score counts as not answered, in no other rate."""
    fake = np.array([one.fake for one in files], bool)
    answered = np.array([one.score is not None for one in files], bool)
    told = [one for one in files if one.score is not None]
    truth = np.array([one.fake for one in told], bool)
    scores = np.array([one.score for one in told], np.float64)
    attacks = [one for one in told if one.fake]
    missed = apcer(scores[truth], [one.species for one in attacks], threshold) if attacks else {}
    alarms = bpcer(scores[~truth], threshold)
    overall = float((scores[truth] < threshold).mean()) if attacks else math.nan
    low, high = auc_interval(truth, scores, [one.source for one in told], seed=seed, draws=draws)
    groups = sorted({one.group for one in told if one.group and not one.fake})
    return Rates(
        files=len(files),
        attacks=int(fake.sum()),
        auc=auc(truth, scores),
        auc_low=low,
        auc_high=high,
        bpcer20=bpcer_at(scores[truth], scores[~truth], 0.05),
        bpcer100=bpcer_at(scores[truth], scores[~truth], 0.01),
        apnrr=_share(~answered, fake),
        bpnrr=_share(~answered, ~fake),
        threshold=threshold,
        apcer=missed,
        bpcer=alarms,
        review_rate=float((scores >= threshold).mean()) if told else math.nan,
        precision={each: alarm_precision(overall, alarms, each) for each in PREVALENCES},
        sources={kind: len({one.source for one in attacks if one.species == kind}) for kind in missed},
        bona_fide_sources=len({one.source for one in told if not one.fake}),
        groups={
            group: bpcer(
                np.array([one.score for one in told if one.group == group and not one.fake], np.float64), threshold
            )
            for group in groups
        },
    )


def _share(flags: Flags, among: Flags) -> float:
    return float(flags[among].mean()) if among.any() else math.nan
