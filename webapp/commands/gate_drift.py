"""What `manage.py gate drift` says."""

from __future__ import annotations

from collections.abc import Iterator

from worker.drift_watch import look
from worker.gate.packs.drift import LARGEST_PSI, LEAST_SCORES


def lines() -> Iterator[str]:
    """One line for each calibrated pack. Raises PackError."""
    found = look()
    for one in found:
        week = one.week
        if week.psi is None:
            yield f"{one.pack}: {week.scores} scores this week; {LEAST_SCORES} tell drift from chance."
        else:
            words = "it has DRIFTED and is advisory now; calibrate it anew" if week.drifted else "as calibrated"
            yield f"{one.pack}: PSI {week.psi:.3f} (at most {LARGEST_PSI}), median {week.median:.4f}: {words}."
    if not found:
        yield "No pack is calibrated, so nothing can drift."
