"""The scores that detector packs gave to what was let through: what the watch over their drift looks at."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

from django.db.models import Q

from webapp.screening.models import Review, ScreeningRecord

KINDS = ("face_forgery", "ai_image")


def let_through(since: datetime) -> dict[tuple[str, str], list[float]]:
    """Raw scores of uploads that were accepted, or released by a person, by pack: (id, SHA-256 of its model)."""
    released = Q(review__state=Review.State.RELEASED)  # held, or refused and let through on appeal
    records = ScreeningRecord.objects.filter(
        Q(decision="accept") | released, asset__isnull=False, created_at__gte=since
    )
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for signals in records.values_list("signals", flat=True).iterator(chunk_size=100):
        for signal in signals:
            if signal["kind"] in KINDS:
                for row in signal["value"].get("packs", []):
                    if isinstance(row.get("raw"), float):
                        found[str(row["id"]), str(row["sha256"])].append(row["raw"])
    return dict(found)
