"""How the rows of the retention schedule about depicted people are carried out (`webapp.retention`)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Max, Q, QuerySet

from consent import erasure, keys
from consent.errors import ConsentError
from consent.models import Block, DataKey, Erasure, Subject
from consent.transitions import State
from webapp import retention
from webapp.retention import Forecast

AT_ONCE = 200
DECLARED = "attestation:"
# Their own day ended these; a permission that was used up or replaced is over only when its last day is.
ENDED_AT_ONCE = (State.WITHDRAWN, State.REVOKED, State.REFUSED, State.LAPSED, State.EXPIRED)


def register() -> None:
    """Called at start-up."""
    retention.register("consent_record", _forget_given, lambda now: _forecast(now, given=True))
    retention.register("unanswered", _forget_unanswered, lambda now: _forecast(now, given=False))
    retention.register("blocks", _forget_blocks, _blocks_forecast)
    retention.register("peppers", keys.forget_peppers, lambda now: Forecast(keys.old_peppers(now).count()))
    retention.register("declarations", _forget_statements, _statements_forecast)


def over(now: datetime, *, given: bool) -> Iterator[Subject]:
    """People whose time is over: of those who once gave a permission, or of those who never did; oldest first."""
    period = (
        timedelta(days=365 * settings.CONSENT_RETENTION_YEARS)
        if given
        else timedelta(days=settings.UNANSWERED_RETENTION_DAYS)
    )
    limit = now - period
    rows = _people(given=given).filter(Q(last__lte=limit) | Q(last__isnull=True, created_at__lte=limit))
    for subject in rows.order_by("created_at")[:AT_ONCE]:
        late = subject.consents.exclude(state__in=ENDED_AT_ONCE).aggregate(last=Max("valid_until"))["last"]
        if late is None or late <= limit:
            yield subject


def _people(*, given: bool) -> QuerySet[Any]:
    in_force = Count("consents", filter=Q(consents__state__in=erasure.IN_FORCE))
    yes = Count("consents", filter=Q(consents__given_at__isnull=False))
    rows = Subject.objects.filter(erased_at__isnull=True).annotate(
        in_force=in_force, yes=yes, last=Max("consents__ended_at")
    )
    return rows.filter(in_force=0, **({"yes__gt": 0} if given else {"yes": 0}))


def _forget_given(now: datetime) -> int:
    return _forget(now, given=True)


def _forget_unanswered(now: datetime) -> int:
    return _forget(now, given=False)


def _forget(now: datetime, *, given: bool) -> int:
    count = 0
    for subject in list(over(now, given=given)):
        try:
            count += erasure.erase_subject(subject, by=Erasure.By.RETENTION).finished
        except ConsentError:
            continue  # asked again in this moment: then their time is not over
    return count


def _forecast(now: datetime, *, given: bool) -> Forecast:
    due = [subject.pk for subject in over(now, given=given)]
    rows = _people(given=given).filter(last__isnull=False).exclude(pk__in=due)
    first = rows.order_by("last").values_list("last", flat=True).first()
    days = 365 * settings.CONSENT_RETENTION_YEARS if given else settings.UNANSWERED_RETENTION_DAYS
    return Forecast(len(due), tuple(due[:20]), first + timedelta(days=days) if first else None)


def _forget_blocks(now: datetime) -> int:
    return int(Block.objects.filter(until__lte=now).delete()[0])


def _blocks_forecast(now: datetime) -> Forecast:
    following = Block.objects.filter(until__gt=now).order_by("until").values_list("until", flat=True).first()
    return Forecast(Block.objects.filter(until__lte=now).count(), (), following)


def _statements(now: datetime) -> QuerySet[DataKey]:
    limit = now - timedelta(days=365 * settings.CONSENT_RETENTION_YEARS)
    rows = DataKey.objects.filter(owner__startswith=DECLARED, destroyed_at__isnull=True)
    return rows.filter(created_at__lte=limit).order_by("created_at")


def _forget_statements(now: datetime) -> int:
    ids = list(_statements(now).values_list("pk", flat=True)[:AT_ONCE])
    for key_id in ids:
        keys.destroy_key(key_id)
    return len(ids)


def _statements_forecast(now: datetime) -> Forecast:
    rows = _statements(now)
    owners = [owner.removeprefix(DECLARED) for owner in rows.values_list("owner", flat=True)[:20]]
    return Forecast(rows.count(), tuple(owners))
