"""Once a day: are the detector packs' scores still those they were calibrated on? One that drifted becomes advisory."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from webapp.screening import detector_scores
from worker.gate.packs import drift
from worker.gate.packs.drift import Drift
from worker.gate.packs.pack_store import PackStore
from worker.gate.packs.standing import PackError

logger = logging.getLogger(__name__)

WEEK: Final = timedelta(days=7)


@dataclass(frozen=True)
class Watched:
    """One calibrated pack's week."""

    pack: str
    week: Drift


@shared_task(name="worker.watch_drift")
def watch_drift() -> None:
    """Look at the week of every calibrated pack; those of several machines lie in one folder that they share."""
    try:
        look()
    except PackError as error:
        logger.warning("The drift of detector packs was not looked at: %s", error.message)


def look() -> list[Watched]:
    """The week of every calibrated pack; what drifted is noted, and the pack is advisory from now on.

    Raises PackError.
    """
    store = PackStore(Path(settings.GATE_PACKS_DIR))
    standings = [one for one in store.standings() if one.calibration is not None]
    if not standings:
        return []
    scores = detector_scores.let_through(timezone.now() - WEEK)
    found = []
    for one in standings:
        assert one.calibration is not None
        week = drift.watch(one.calibration.reference, scores.get((one.id, one.calibration.pack_sha256), []))
        if week.drifted and week.psi is not None and week.median is not None:
            logger.warning("The scores of the pack %s have drifted (PSI %.2f): it is advisory now.", one.id, week.psi)
            store.keep_drift(one.id, week.psi, week.median)
        found.append(Watched(one.id, week))
    return found
