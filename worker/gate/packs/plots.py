"""The figure of an evaluation as a PNG file. matplotlib is asked for only here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from worker.gate.packs.calibration import Calibration
from worker.gate.packs.evaluation import AS_IT_IS, Measured, Report


def available() -> bool:
    """Whether figures can be drawn here."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def draw(report: Report, rows: Sequence[Measured], calibration: Calibration | None, file: Path) -> None:
    """Write error trade-off, scores by species, and (with a calibration) the reliability diagram. Raises OSError."""
    # Without pyplot: no window system is touched, and nothing is kept between figures.
    from matplotlib.figure import Figure

    told = [row for row in rows if row.score is not None]
    scores = np.array([row.score for row in told], np.float64)
    if calibration is not None and len(scores):
        scores = calibration.curve(scores)
    fake = np.array([row.entry.fake for row in told], bool)
    figure = Figure(figsize=(13.0, 4.2), dpi=110, layout="constrained")
    errors, spread, reliable = figure.subplots(1, 3)
    rates = report.roads[AS_IT_IS]
    steps = np.unique(np.concatenate([scores, [0.0, np.nextafter(1.0, 2.0)]]))
    if fake.any() and not fake.all():
        errors.plot(
            [100 * (scores[~fake] >= step).mean() for step in steps],
            [100 * (scores[fake] < step).mean() for step in steps],
            color="#2563a8",
        )
        errors.axvline(100 * rates.bpcer, color="#8a8a8a", linewidth=0.8)
    errors.set(xlabel="BPCER, %", ylabel="APCER, %", title=f"{report.pack}: errors, AUC {rates.auc:.3f}")
    names = ["bona fide", *rates.apcer]
    groups = [scores[~fake], *(scores[[row.entry.species == name for row in told]] for name in rates.apcer)]
    spread.boxplot([group for group in groups if len(group)], orientation="horizontal")
    kept = [name for name, group in zip(names, groups, strict=True) if len(group)]
    spread.set_yticks(range(1, len(kept) + 1), kept)
    spread.axvline(rates.threshold, color="#c2571a", linewidth=0.8)
    spread.set(xlabel="probability" if calibration else "raw score", title="scores, and the frozen threshold")
    reliable.plot([0, 1], [0, 1], color="#8a8a8a", linewidth=0.8)
    if calibration is not None and len(scores):
        place = np.minimum((scores * 10).astype(int), 9)
        there = [part for part in range(10) if (place == part).any()]
        reliable.plot(
            [scores[place == part].mean() for part in there], [fake[place == part].mean() for part in there], "o-"
        )
    reliable.set(xlabel="probability", ylabel="share of attacks", title="calibration")
    figure.savefig(file)
