"""From a detector's raw score to a probability, fitted on the operator's own files; pure numpy.

Platt: Platt 1999, "Probabilistic Outputs for Support Vector Machines", with his targets and the corrections of Lin, Lin
and Weng 2007. Isotonic: pool adjacent violators (Ayer et al. 1955), between the knots a straight line. Raw scores are
probabilities 0..1 where higher means fake; Platt works on their logits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

Method = Literal["platt", "isotonic"]
Floats = NDArray[np.float64]

LEAST_OF_CLASS: Final = 20  # files of each class, below which a fit is no calibration
REVIEW_BPCER: Final = 0.05  # share of bona fide files that may go to review
HIGH_BPCER: Final = 0.01
_EDGE: Final = 1e-7
_QUANTILES: Final = 11


class CalibrationError(ValueError):
    """A calibration that cannot be fitted or read; `code` is stable: too_few_samples, calibration_malformed,
    bpcer_out_of_range."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Curve:
    """A monotone map from raw score to probability. Platt: (slope, intercept) on logits; isotonic: knots."""

    method: Method
    x: tuple[float, ...]
    y: tuple[float, ...]

    def __call__(self, raw: Sequence[float] | Floats) -> Floats:
        """Probabilities float64 of raw scores."""
        values = np.asarray(raw, np.float64)
        if self.method == "platt":
            return sigmoid(self.x[0] * logit(values) + self.y[0])
        return np.asarray(np.interp(values, self.x, self.y), np.float64)


@dataclass(frozen=True)
class Calibration:
    """A curve, where it comes from, and the two thresholds frozen with it.

    `review` and `high` are probabilities at which 5 and 1 per cent of the bona fide files were at or above;
    `reference` the deciles of their raw scores, with which drift is told; `pack_sha256` the file it was fitted for.
    """

    curve: Curve
    review: float
    high: float
    reference: tuple[float, ...]
    pack_sha256: str
    data_sha256: str
    date: str
    bona_fide: int
    attacks: int

    def to_dict(self) -> dict[str, Any]:
        """As it is kept; `of` is the way back."""
        return asdict(self)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave. Raises CalibrationError."""
        try:
            fields = dict(raw)
            curve = fields.pop("curve")
            x, y = (tuple(map(float, curve[axis])) for axis in "xy")
            found = cls(
                curve=Curve(curve["method"], x, y),
                **{**fields, "reference": tuple(map(float, fields["reference"]))},
            )
            numbers = [*x, *y, found.review, found.high, *found.reference]
            known = found.curve.method in ("platt", "isotonic") and len(x) == len(y) > 0
            if not (known and all(map(math.isfinite, numbers)) and found.review <= found.high):
                raise ValueError("numbers")
            return found
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CalibrationError(
                "calibration_malformed",
                f"The record of a calibration cannot be read ({error}). The pack goes on as advisory. Calibrate again.",
            ) from error


def logit(probability: Floats) -> Floats:
    """The logit of probabilities, kept finite."""
    inside = np.clip(probability, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(inside) - np.log1p(-inside), np.float64)


def sigmoid(value: Floats) -> Floats:
    """1 / (1 + exp(-x)) without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * value)), np.float64)


def fit_curve(raw: Sequence[float] | Floats, fake: Sequence[bool] | NDArray[np.bool_], method: Method) -> Curve:
    """Fit raw scores to labels (True: attack). Raises CalibrationError `too_few_samples`."""
    scores, labels = np.asarray(raw, np.float64), np.asarray(fake, bool)
    if min(labels.sum(), (~labels).sum()) < LEAST_OF_CLASS:
        raise CalibrationError(
            "too_few_samples",
            f"A calibration needs at least {LEAST_OF_CLASS} bona fide files and as many attacks; there are "
            f"{(~labels).sum()} and {labels.sum()}. Nothing was changed. Add files.",
        )
    if method == "platt":
        slope, intercept = platt(logit(scores), labels)
        return Curve("platt", (slope,), (intercept,))
    x, y = isotonic(scores, labels)
    return Curve("isotonic", tuple(map(float, x)), tuple(map(float, y)))


def platt(values: Floats, fake: NDArray[np.bool_]) -> tuple[float, float]:
    """(slope, intercept) that maximise Platt's regularised likelihood, by damped Newton steps."""
    positive, negative = int(fake.sum()), int((~fake).sum())
    target = np.where(fake, (positive + 1.0) / (positive + 2.0), 1.0 / (negative + 2.0))
    design = np.stack([values, np.ones_like(values)], axis=1)
    beta = np.array([0.0, math.log((positive + 1.0) / (negative + 1.0))])

    def loss(at: Floats) -> float:
        margin = design @ at
        return float(np.sum(np.logaddexp(0.0, margin) - target * margin))

    best = loss(beta)
    for _ in range(100):
        p = sigmoid(design @ beta)
        gradient = design.T @ (p - target)
        if np.abs(gradient).max() < 1e-10 * len(values):
            break
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-12 * np.eye(2)
        step, scale = np.linalg.solve(hessian, gradient), 1.0
        while (now := loss(beta - scale * step)) > best and scale > 1e-10:
            scale /= 2
        beta, best = beta - scale * step, min(now, best)
    return float(beta[0]), float(beta[1])


def isotonic(values: Floats, fake: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Knots (x rising, y never falling) of the least-squares monotone fit; equal scores are one point."""
    x, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, weights=fake.astype(np.float64)) / counts
    blocks: list[list[float]] = []  # mean, weight, points
    for mean, weight in zip(means, counts, strict=True):
        blocks.append([float(mean), float(weight), 1.0])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            mean_b, weight_b, points_b = blocks.pop()
            mean_a, weight_a, points_a = blocks.pop()
            together = weight_a + weight_b
            blocks.append([(mean_a * weight_a + mean_b * weight_b) / together, together, points_a + points_b])
    y = np.concatenate([np.full(int(points), mean) for mean, _, points in blocks])
    # Inside a flat stretch only its ends matter.
    kept = np.ones(len(x), bool)
    kept[1:-1] = (y[1:-1] != y[:-2]) | (y[1:-1] != y[2:])
    return x[kept], y[kept]


def threshold_at(bona_fide: Sequence[float] | Floats, bpcer: float) -> float:
    """The least threshold at or above which at most the share `bpcer` of the bona fide probabilities lies."""
    ordered = np.sort(np.asarray(bona_fide, np.float64))[::-1]
    allowed = math.floor(bpcer * len(ordered) + 1e-9)
    # The score that must stay below: the next float above it is the threshold.
    return float(np.nextafter(ordered[allowed], np.inf)) if allowed < len(ordered) else 0.0


def calibrate(
    raw: Sequence[float] | Floats,
    fake: Sequence[bool] | NDArray[np.bool_],
    method: Method,
    *,
    pack_sha256: str,
    data_sha256: str,
    date: str,
    bpcer: float = REVIEW_BPCER,
) -> Calibration:
    """Fit a curve and freeze the thresholds of review (the share `bpcer` of the bona fide files) and high (1 %).

    Other files will be a little above or below `bpcer`; below 5 % it leaves room to the bound of 5 % that a pack needs
    to decide. Raises CalibrationError.
    """
    if not 0 <= bpcer <= REVIEW_BPCER:
        raise CalibrationError(
            "bpcer_out_of_range",
            f"The share of bona fide files to review lies between 0 and {REVIEW_BPCER}, not at {bpcer}. Nothing was "
            "changed.",
        )
    scores, labels = np.asarray(raw, np.float64), np.asarray(fake, bool)
    curve = fit_curve(scores, labels, method)
    bona_fide = curve(scores[~labels])
    return Calibration(
        curve=curve,
        review=threshold_at(bona_fide, bpcer),
        high=threshold_at(bona_fide, min(bpcer, HIGH_BPCER)),
        reference=tuple(map(float, np.quantile(scores[~labels], np.linspace(0, 1, _QUANTILES)))),
        pack_sha256=pack_sha256,
        data_sha256=data_sha256,
        date=date,
        bona_fide=int((~labels).sum()),
        attacks=int(labels.sum()),
    )
