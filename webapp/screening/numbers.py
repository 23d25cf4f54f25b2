"""How the review queue does: outcomes by reason, how often two people agree, how long it takes, what is overdue.

And the decisions as rows that a detector's calibration can learn from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any, Final

from django.db.models import QuerySet
from django.utils import timezone

from webapp.screening import services
from webapp.screening.models import Review
from worker.spec import EXTENSIONS

LABELS: Final = {Review.State.RELEASED.value: "bona_fide", Review.State.REJECTED.value: "attack"}
COLUMNS: Final = ("file", "label", "species", "source", "score", "signal", "pack", "outcome")


@dataclass(frozen=True)
class Numbers:
    """Of the reviews opened since a day, or of all. Times in hours; None where there is nothing to say."""

    opened: int
    open: int
    waiting_for_second: int
    overdue: int  # still open
    late: int  # decided after they were due
    outcomes: Mapping[str, Mapping[str, int]]  # reason → state → count
    appeals: Mapping[str, int]  # state → count
    pairs: int  # reviews that two people decided on
    agreed: int
    median_hours: float | None
    median_hours_two: float | None  # of those that two people had to release


def numbers(since: datetime | None = None) -> Numbers:
    """Count."""
    rows = Review.objects.select_related("screening")
    if since is not None:
        rows = rows.filter(opened_at__gte=since)
    outcomes: dict[str, Counter[str]] = {}
    appeals: Counter[str] = Counter()
    pairs = agreed = late = opened = 0
    hours: list[float] = []
    of_two: list[float] = []
    for review in rows.iterator(chunk_size=500):
        opened += 1
        for code in review.screening.reasons:
            outcomes.setdefault(code, Counter())[review.state] += 1
        if review.kind == Review.Kind.APPEAL:
            appeals[review.state] += 1
        if review.decided_at is None:
            continue
        late += review.decided_at > review.due_at
        taken = (review.decided_at - review.opened_at).total_seconds() / 3600
        (of_two if review.needs_two else hours).append(taken)
        if _two_people(review):
            pairs += 1
            agreed += review.state == Review.State.RELEASED
    queue = services.waiting()
    if since is not None:
        queue = queue.filter(opened_at__gte=since)
    return Numbers(
        opened=opened,
        open=queue.count(),
        waiting_for_second=queue.filter(first_at__isnull=False).count(),
        overdue=overdue(queue),
        late=late,
        outcomes={code: dict(sorted(found.items())) for code, found in sorted(outcomes.items())},
        appeals=dict(sorted(appeals.items())),
        pairs=pairs,
        agreed=agreed,
        median_hours=_median(hours),
        median_hours_two=_median(of_two),
    )


def overdue(queue: QuerySet[Review] | None = None) -> int:
    """How many open reviews (of `queue`) should have been decided by now."""
    return (services.waiting() if queue is None else queue).filter(due_at__lte=timezone.now()).count()


def labelled(since: datetime | None = None, pack: str = "") -> Iterator[dict[str, str]]:
    """Decided reviews of uploads as rows of COLUMNS, one for each pack that scored the file.

    Released is bona fide. Rejected is an attack of the species that the signal is about, and only where a reason of
    that signal sent it to review: a file refused for another reason says nothing about the detector.
    """
    rows = Review.objects.filter(state__in=list(LABELS), screening__asset__isnull=False)
    if since is not None:
        rows = rows.filter(opened_at__gte=since)
    for review in rows.select_related("screening__asset").order_by("opened_at", "pk").iterator(chunk_size=500):
        asset = review.screening.asset
        assert asset is not None
        for kind, name, score in _scores(review.screening.signals):
            about = any(code == kind or code.startswith(f"{kind}_") for code in review.screening.reasons)
            if (pack and name != pack) or (review.state == Review.State.REJECTED and not about):
                continue
            label = LABELS[review.state]
            yield {
                "file": f"{asset.sha256}.{EXTENSIONS.get(asset.mime, 'bin')}",
                "label": label,
                "species": kind if label == "attack" else "",
                "source": asset.sha256,
                "score": f"{score:.6f}",
                "signal": kind,
                "pack": name,
                "outcome": review.state,
            }


def _two_people(review: Review) -> bool:
    """Did two people judge it? Who released it first and rejected it after all is one."""
    if review.first_at is None:
        return False
    return review.state == Review.State.RELEASED or review.first_reviewer_id != review.reviewer_id


def _scores(signals: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, float]]:
    """(kind, pack or tool, raw score) of every learned signal."""
    for signal in signals:
        value = signal.get("value")
        if not isinstance(value, Mapping):
            continue
        for row in value.get("packs") or []:
            if isinstance(row.get("raw"), float):
                yield str(signal["kind"]), str(row["id"]), row["raw"]
        if signal.get("kind") == "nsfw" and isinstance(value.get("highest"), float):
            yield "nsfw", str(signal.get("tool", "")), value["highest"]


def _median(hours: list[float]) -> float | None:
    return round(median(hours), 2) if hours else None
