"""What moderators wrote and the gate measured: gone with the person it is about, and with time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q, QuerySet

from consent.erasure import Line, Scope
from webapp.jobs.forgetting import pictures
from webapp.jobs.models import Job
from webapp.retention import Forecast
from webapp.screening import ledgered
from webapp.screening.models import Review, ScreeningRecord


def forget_person(scope: Scope, look_only: bool) -> Iterator[Line]:
    """See `consent.erasure.register_eraser`: remarks may name people, measurements are of their pictures."""
    about = Q(asset__in=pictures(scope)) | Q(job__in=Job.objects.on_consents(scope.consent_ids))
    records = ScreeningRecord.objects.filter(about)
    reviews = Review.objects.filter(screening__in=records).exclude(reason="", first_reason="", statement="")
    measured = records.exclude(signals=[])
    if look_only:
        yield Line("remarks of moderators and statements of appeals", reviews.count())
        yield Line("measurements of the gate", measured.count())
        return
    emptied, silenced = ledgered.forget(records=records, reviews=reviews)
    yield Line("remarks of moderators and statements of appeals", silenced)
    yield Line("measurements of the gate", emptied)


def forget_old(now: datetime) -> int:
    """The schedule's row "jobs", of what the gate measured and moderators wrote."""
    ids = list(_old(now).values_list("pk", flat=True)[:5000])
    records, reviews = ScreeningRecord.objects.filter(pk__in=ids), Review.objects.filter(screening__in=ids)
    return ledgered.forget(records=records, reviews=reviews)[0]


def forecast(now: datetime) -> Forecast:
    """What `forget_old` would do."""
    return Forecast(_old(now).count())


def _old(now: datetime) -> QuerySet[ScreeningRecord]:
    limit = now - timedelta(days=settings.EVIDENCE_RETENTION_DAYS)
    return ScreeningRecord.objects.filter(created_at__lt=limit).exclude(signals=[])
