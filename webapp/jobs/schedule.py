"""How the rows of the retention schedule about uploads, jobs and results are carried out (`webapp.retention`)."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db.models import QuerySet

from webapp import retention
from webapp.jobs import segments, upkeep
from webapp.jobs.models import Asset, Job, JobEvent, JobSource, Output
from webapp.outbox import services as outbox
from webapp.outbox.models import OutboxMessage
from webapp.retention import Forecast

AT_ONCE = 5000


def register() -> None:
    """Called at start-up."""
    retention.register("inputs", upkeep.erase_used_assets, lambda now: _assets_forecast(now, unused=False))
    retention.register("unused_inputs", upkeep.erase_unused_assets, lambda now: _assets_forecast(now, unused=True))
    retention.register("parts", segments.drop_ended, _parts_forecast)
    retention.register("outputs", upkeep.erase_outputs, _outputs_forecast)
    retention.register("jobs", _forget_remarks, _remarks_forecast)
    retention.register("messages", lambda now: outbox.forget_sent(), _messages_forecast, key="messages")
    retention.register("sessions", _forget_sessions, _sessions_forecast)
    retention.register("leftovers", _sweep, key="leftovers")


def _assets_forecast(now: datetime, *, unused: bool) -> Forecast:
    due = [asset.pk for asset in upkeep.assets_due(now, unused=unused)]
    following = None
    if not unused:
        rows = Job.objects.filter(target__erased_at__isnull=True, finished_at__isnull=False)
        first = rows.exclude(target__in=due).order_by("finished_at").values_list("finished_at", flat=True).first()
        following = first + timedelta(hours=settings.INPUT_RETENTION_HOURS) if first else None
    else:
        idle = Asset.objects.filter(erased_at__isnull=True).exclude(pk__in=due)
        idle = idle.exclude(pk__in=Job.objects.values("target"))
        idle = idle.exclude(pk__in=JobSource.objects.values("asset"))
        first = idle.order_by("created_at").values_list("created_at", flat=True).first()
        wait = timedelta(hours=settings.INPUT_RETENTION_HOURS) + upkeep.UNUSED_ASSETS
        following = first + wait if first else None
    return Forecast(len(due), tuple(due[:20]), following)


def _parts_forecast(now: datetime) -> Forecast:
    due = segments.ended().exclude(object_name="")
    return Forecast(due.count(), tuple(str(pk) for pk in due.values_list("pk", flat=True)[:20]), None)


def _outputs_forecast(now: datetime) -> Forecast:
    due = upkeep.outputs_due(now)
    rows = Output.objects.filter(erased_at__isnull=True, expires_at__gte=now)
    following = rows.order_by("expires_at").values_list("expires_at", flat=True).first()
    return Forecast(due.count(), tuple(due.order_by("published_at").values_list("pk", flat=True)[:20]), following)


def _remarks(now: datetime) -> QuerySet[JobEvent]:
    limit = now - timedelta(days=settings.EVIDENCE_RETENTION_DAYS)
    return JobEvent.objects.filter(job__finished_at__lt=limit).exclude(message="")


def _forget_remarks(now: datetime) -> int:
    return JobEvent.objects.filter(pk__in=list(_remarks(now).values_list("pk", flat=True)[:AT_ONCE])).update(message="")


def _remarks_forecast(now: datetime) -> Forecast:
    rows = Job.objects.filter(finished_at__gte=now - timedelta(days=settings.EVIDENCE_RETENTION_DAYS))
    first = rows.order_by("finished_at").values_list("finished_at", flat=True).first()
    following = first + timedelta(days=settings.EVIDENCE_RETENTION_DAYS) if first else None
    return Forecast(_remarks(now).count(), (), following)


def _messages_forecast(now: datetime) -> Forecast:
    sent = OutboxMessage.objects.filter(sent_at__isnull=False).order_by("sent_at")
    first = sent.filter(sent_at__gte=now - outbox.KEEP_SENT).values_list("sent_at", flat=True).first()
    due = sent.filter(sent_at__lt=now - outbox.KEEP_SENT).count()
    return Forecast(due, (), first + outbox.KEEP_SENT if first else None)


def _forget_sessions(now: datetime) -> int:
    return int(Session.objects.filter(expire_date__lt=now).delete()[0])


def _sessions_forecast(now: datetime) -> Forecast:
    rows = Session.objects.order_by("expire_date")
    following = rows.filter(expire_date__gte=now).values_list("expire_date", flat=True).first()
    return Forecast(rows.filter(expire_date__lt=now).count(), (), following)


def _sweep(now: datetime) -> int:
    return upkeep.sweep_orphans() + upkeep.sweep_uploads()
