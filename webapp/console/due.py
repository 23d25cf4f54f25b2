"""What the queue says of time and of the two people, in words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from webapp.accounts.models import User
from webapp.screening.models import Review


@dataclass(frozen=True)
class Standing:
    """Where a review stands."""

    overdue: bool
    due: str
    steps: str  # "" where one person is enough
    no_release: bool  # this reader has released it


def standing(review: Review, reader: User) -> Standing:
    """For this reader: who released it first may not release it again. Nobody reads the other's reason beforehand."""
    now = timezone.now()
    overdue = review.due_at <= now
    due = f"Overdue since {_moment(review.due_at)}" if overdue else f"Due {_moment(review.due_at)}"
    due += f" ({_span(now - review.due_at)} ago)" if overdue else f" (in {_span(review.due_at - now)})"
    if not review.needs_two:
        return Standing(overdue, due, "", no_release=False)
    steps, own = "Two different people have to release it; either may reject it alone.", False
    if review.waits_for_second:
        own = review.first_reviewer_id == reader.pk
        who = "You have released it" if own else "One person has released it"
        steps = f"{who}; it waits for a second reviewer. Either may still reject it alone."
    return Standing(overdue, due, steps, no_release=own)


def _moment(at: datetime) -> str:
    return f"{at.day} {at:%b, %H:%M} UTC"


def _span(length: timedelta) -> str:
    minutes = max(1, round(length.total_seconds() / 60))
    if minutes < 60:
        return f"{minutes} min"
    hours = round(minutes / 60)
    return f"{hours} h" if hours < 48 else f"{round(hours / 24)} days"
