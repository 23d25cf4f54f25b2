"""How far a model in lower precision strays from itself in float32, and whether that is near enough.

Each reader knows what one kind of model gives and turns two runs on the same inputs, float32 and lower, into named
metrics. `judge` holds metrics against limits; what was not measured does not pass.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Outputs = Mapping[str, NDArray[Any]]
Metrics = Mapping[str, float]

NOT_FINITE: Final = "values_not_finite"
SAMPLES: Final = "samples"
FACE: Final = 0.5  # scores above it say "a face", as in worker.faces
_SAME_FACE: Final = 1 / 3


class Reader(Protocol):
    """Reads one kind of model; float32 outputs with the batch first, `lower` with the shapes of `full`."""

    def compare(self, full: Outputs, lower: Outputs) -> dict[str, float]:
        """The metrics of this kind of model. All values are finite."""
        ...


@dataclass(frozen=True)
class DetectorReader:
    """A detector that gives a box (centre x, y, width, height first) and a score for each of its anchors.

    Two boxes of one anchor are compared, so it does not matter whether places are relative to it.
    """

    boxes: str
    scores: str
    logits: bool = False

    def compare(self, full: Outputs, lower: Outputs) -> dict[str, float]:
        """Overlap (intersection over union) of all boxes that either run calls a face, and what became of scores."""
        sure, now = self._scores(full), self._scores(lower)
        seen = (sure > FACE) | (now > FACE)
        overlaps = _overlaps(full[self.boxes][seen], lower[self.boxes][seen])
        metrics = {
            "boxes": float(seen.sum()),
            "score_drift_worst": float(np.abs(sure - now).max()),
            "faces_changed": float(((sure > FACE).any(axis=1) != (now > FACE).any(axis=1)).sum()),
        }
        if overlaps.size:
            metrics["box_overlap_p05"] = float(np.percentile(overlaps, 5))
            metrics["box_overlap_worst"] = float(overlaps.min())
        return metrics

    def _scores(self, outputs: Outputs) -> NDArray[np.float64]:
        scores = outputs[self.scores].reshape(len(outputs[self.scores]), -1).astype(np.float64)
        return 1 / (1 + np.exp(-np.clip(scores, -80, 80))) if self.logits else scores


@dataclass(frozen=True)
class FaceListReader:
    """A detector that gives the faces it found as a list, best first, filled up with scores of 0.

    Boxes begin with x, y, width, height. A face of one list and the nearest of the other are the same face from a
    third of overlap; what has no such partner appeared or got lost.
    """

    boxes: str
    scores: str

    def compare(self, full: Outputs, lower: Outputs) -> dict[str, float]:
        """Overlap and score of all faces found by both runs, and how many only one of them found."""
        overlaps: list[float] = []
        drifts: list[float] = [0.0]
        changed = 0
        for there, now, sure, unsure in zip(
            full[self.boxes], lower[self.boxes], full[self.scores], lower[self.scores], strict=True
        ):
            left = [row for row in range(len(now)) if unsure[row] > FACE]
            for row in np.flatnonzero(sure > FACE):
                shared = _overlaps(_centred(np.repeat(there[row : row + 1], len(left), axis=0)), _centred(now[left]))
                if not left or shared.max() < _SAME_FACE:
                    changed += 1
                    continue
                partner = left.pop(int(shared.argmax()))
                overlaps.append(float(shared.max()))
                drifts.append(abs(float(sure[row]) - float(unsure[partner])))
            changed += len(left)
        metrics = {
            "boxes": float(len(overlaps)),
            "score_drift_worst": max(drifts),
            "faces_changed": float(changed),
        }
        if overlaps:
            metrics["box_overlap_p05"] = float(np.percentile(overlaps, 5))
            metrics["box_overlap_worst"] = min(overlaps)
        return metrics


@dataclass(frozen=True)
class LandmarkReader:
    """A model that gives points (x, y first) in pixels; the first `outline` of them span the face.

    `scores` names the output that says whether there is a face at all; without one, every sample counts as a face.
    """

    points: str
    outline: int
    scores: str = ""

    def compare(self, full: Outputs, lower: Outputs) -> dict[str, float]:
        """How far points moved, in pixels of the model's input and in per cent of the longer side of the face."""
        sure, unsure = (self._scores(outputs) for outputs in (full, lower))
        seen = sure > FACE  # where there is no face, the points mean nothing and nobody uses them
        metrics = {
            "faces": float(seen.sum()),
            "score_drift_worst": float(np.abs(sure - unsure).max()),
            "faces_changed": float(((sure > FACE) != (unsure > FACE)).sum()),
        }
        if seen.any():
            there, now = (outputs[self.points][seen, :, :2].astype(np.float64) for outputs in (full, lower))
            sizes = np.ptp(there[:, : self.outline], axis=1).max(axis=1)
            moved = np.linalg.norm(there - now, axis=2)
            share = 100 * moved / np.maximum(sizes, 1e-6)[:, None]
            metrics["drift_p95_pixels"] = float(np.percentile(moved, 95))
            metrics["drift_p95_percent"] = float(np.percentile(share, 95))
            metrics["drift_worst_percent"] = float(share.max())
        return metrics

    def _scores(self, outputs: Outputs) -> NDArray[np.float64]:
        if not self.scores:
            return np.ones(len(outputs[self.points]))
        return outputs[self.scores].reshape(-1).astype(np.float64)


@dataclass(frozen=True)
class DescriptorReader:
    """A model that describes a face by a vector; vectors are compared by Euclidean distance with `thresholds`."""

    vectors: str
    thresholds: tuple[float, ...]
    normalised: bool = False  # compared after division by their length

    def compare(self, full: Outputs, lower: Outputs) -> dict[str, float]:
        """Distance of each vector to itself in float32, and pairs whose decision at a threshold turns over."""
        there, now = self._vectors(full), self._vectors(lower)
        apart = np.linalg.norm(there - now, axis=1)
        pairs = list(combinations(range(len(there)), 2))
        crossing = 0
        for one, other in pairs:
            before = float(np.linalg.norm(there[one] - there[other]))
            after = float(np.linalg.norm(now[one] - now[other]))
            crossing += any((before <= limit) != (after <= limit) for limit in self.thresholds)
        return {
            "distance_p95": float(np.percentile(apart, 95)),
            "distance_worst": float(apart.max()),
            "pairs": float(len(pairs)),
            "pairs_crossing": float(crossing),
        }

    def _vectors(self, outputs: Outputs) -> NDArray[np.float64]:
        vectors = outputs[self.vectors].reshape(len(outputs[self.vectors]), -1).astype(np.float64)
        if self.normalised:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors


@dataclass(frozen=True)
class ImageReader:
    """A model that gives a picture with values from `low` to `high`; what is beyond is cut off, as when it is shown."""

    picture: str
    low: float = 0.0
    high: float = 1.0

    def compare(self, full: Outputs, lower: Outputs) -> dict[str, float]:
        """Peak signal to noise ratio in dB, at most 120, of each picture."""
        there, now = (
            np.clip(outputs[self.picture].astype(np.float64), self.low, self.high) for outputs in (full, lower)
        )
        errors = ((there - now) ** 2).reshape(len(there), -1).mean(axis=1)
        ratios = 10 * np.log10((self.high - self.low) ** 2 / np.maximum(errors, 1e-12 * (self.high - self.low) ** 2))
        return {"psnr_worst_db": float(ratios.min()), "psnr_median_db": float(np.median(ratios))}


@dataclass(frozen=True)
class Limits:
    """Bounds by metric; both ends belong to what passes."""

    at_most: Metrics
    at_least: Metrics


@dataclass(frozen=True)
class Line:
    """One metric held against its limit. A metric that was not measured has the value None."""

    metric: str
    value: float | None
    bound: Literal["at most", "at least", ""]  # empty: shown only
    limit: float | None
    passed: bool

    def words(self) -> str:
        """Metric, value and limit on one line."""
        value = "not measured" if self.value is None else f"{self.value:.4g}"
        return f"{self.metric} {value}" + (f" ({self.bound} {self.limit:g})" if self.limit is not None else "")


def measure(reader: Reader, full: Outputs, lower: Outputs) -> dict[str, float]:
    """All metrics of two runs on the same inputs.

    Where the lower run gave a value that is no finite number, only the count of those is told: nothing else has a
    meaning then, and `judge` refuses what was not measured.
    """
    broken = sum(int((~np.isfinite(array)).sum()) for array in lower.values())
    metrics = {SAMPLES: float(len(next(iter(full.values())))), NOT_FINITE: float(broken)}
    if not broken and metrics[SAMPLES]:
        metrics |= reader.compare(full, lower)
    return metrics


def judge(metrics: Metrics, limits: Limits) -> list[Line]:
    """Every metric and every limit, one line each; the gate passes if all lines do."""
    lines = []
    bounds = [("at most", {NOT_FINITE: 0.0, **limits.at_most}), ("at least", limits.at_least)]
    for bound, listed in bounds:
        for metric, limit in listed.items():
            value = metrics.get(metric)
            good = (
                value is not None
                and math.isfinite(value)
                and (value <= limit if bound == "at most" else value >= limit)
            )
            lines.append(Line(metric, value, bound, limit, good))  # type: ignore[arg-type]
    named = {line.metric for line in lines}
    lines += [Line(metric, value, "", None, True) for metric, value in metrics.items() if metric not in named]
    return lines


def worse(first: Metrics, second: Metrics, limits: Limits) -> dict[str, float]:
    """Of two trials, the value of each metric that is nearer to its limit or further beyond it.

    What one of them did not measure is left out; what has no limit is taken from the second.
    """
    worst = {**dict.fromkeys((*limits.at_most, NOT_FINITE), max), **dict.fromkeys(limits.at_least, min)}
    return {
        metric: worst[metric](first[metric], value) if metric in worst else value
        for metric, value in second.items()
        if metric in first
    }


def passes(metrics: Metrics, limits: Limits) -> bool:
    """Whether every limit is kept."""
    return all(line.passed for line in judge(metrics, limits))


def _centred(boxes: NDArray[Any]) -> NDArray[np.float64]:
    """Boxes [N, >=4] as x, y, width, height -> [N, 4] as centre x, y, width, height."""
    boxes = boxes[:, :4].astype(np.float64)
    return np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]], axis=1)


def _overlaps(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union of boxes [N, >=4] as centre x, y, width, height."""
    a, b = a[:, :4].astype(np.float64), b[:, :4].astype(np.float64)
    low = np.maximum(a[:, :2] - a[:, 2:] / 2, b[:, :2] - b[:, 2:] / 2)
    high = np.minimum(a[:, :2] + a[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2)
    shared = np.clip(high - low, 0, None).prod(axis=1)
    union = a[:, 2:].prod(axis=1) + b[:, 2:].prod(axis=1) - shared
    overlaps: NDArray[np.float64] = shared / np.maximum(union, 1e-9)
    return overlaps
