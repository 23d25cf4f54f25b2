"""The one way a job's or an asset's state changes: a compare-and-set UPDATE with its event, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from consent import services as consent_services
from webapp.jobs.models import Asset, Job, JobEvent, JobSwap
from webapp.outbox import services as outbox

INTERACTIVE_QUEUE = "interactive"  # somebody waits: photos, and clips that are one segment
OFFLINE_QUEUE = "offline"  # longer videos, so that they never hold up a photo
MEDIA_QUEUE = "cpu.media"

State = Job.State
LONGEST_PAUSE = 60.0  # seconds
SHORT_CLIP = 48  # frames; `worker.pipeline.segments.MOST_FRAMES`

_ended: list[Callable[[Job], None]] = []


@consent_services.survives_deadlocks
def move(
    job_id: str,
    from_states: Iterable[str],
    to_state: str,
    *,
    code: str = "",
    message: str = "",
    owner: str | None = None,
    silent_since: datetime | None = None,
    **fields: Any,
) -> bool:
    """Move a job from one of `from_states` to `to_state`, write its event; False if it was not there (any more).

    With `owner`, only while that owner holds the lease; with `silent_since`, only if the lease ran out before it. A
    final state ends the lease, sets `finished_at` and, unless the job succeeded, gives back the consent uses it had
    reserved. Call it inside the transaction of what belongs to it, or alone.
    """
    allowed = set(from_states)
    final = to_state in Job.FINAL
    with transaction.atomic():
        if final and to_state != State.SUCCEEDED:
            _lock_consents(job_id)
        while True:
            rows = Job.objects.filter(pk=job_id)
            if owner is not None:
                rows = rows.filter(lease_owner=owner)
            if silent_since is not None:
                rows = rows.filter(lease_expires_at__lt=silent_since)
            current = rows.values_list("state", flat=True).first()
            if current is None or current not in allowed:
                return False
            changes: dict[str, Any] = {"state": to_state, **fields}
            if final:
                changes |= {"finished_at": timezone.now(), "lease_owner": "", "lease_expires_at": None}
                if to_state != State.SUCCEEDED:
                    changes |= {"failure_code": code[:60], "failure_message": message[:500]}
            if rows.filter(state=current).update(**changes):
                break
        JobEvent.objects.create(
            job_id=job_id, from_state=current, to_state=to_state, code=code[:60], message=message[:500]
        )
        if final and to_state != State.SUCCEEDED:
            release_uses(job_id)
        if final and _ended:
            job = Job.objects.get(pk=job_id)
            for listener in _ended:
                listener(job)
    return True


def register_ended(listener: Callable[[Job], None]) -> None:
    """`listener(job)` is called inside the transaction in which a job comes to its end, whichever it is."""
    if listener not in _ended:
        _ended.append(listener)


def note(job_id: str, code: str, message: str) -> None:
    """An event without a change of state."""
    state = Job.objects.values_list("state", flat=True).get(pk=job_id)
    JobEvent.objects.create(job_id=job_id, from_state=state, to_state=state, code=code[:60], message=message[:500])


def pause(starts: int) -> float:
    """Seconds until the next start after a passing trouble; growing, so that a short outage does not use all up."""
    return min(2.0 ** min(starts, 10), LONGEST_PAUSE)


def send_job(job_id: str, *, delay: float = 0) -> None:
    """Ask a worker to take a job that is queued (gate) or ready (run); inside the transaction that made it so.

    `delay` in seconds; the time from which the message may count as lost is later by as much.
    """
    state = Job.objects.values_list("state", flat=True).get(pk=job_id)
    Job.objects.filter(pk=job_id).update(queued_at=timezone.now() + timedelta(seconds=delay))
    if state == State.QUEUED:
        outbox.enqueue("task", {"name": "worker.screen_job", "args": [job_id], "queue": MEDIA_QUEUE}, delay=delay)
    elif state == State.READY:
        outbox.enqueue("task", {"name": "worker.run_job", "args": [job_id], "queue": run_queue(job_id)}, delay=delay)


def run_queue(job_id: str) -> str:
    """Where a job waits for its worker. A guess from the header is enough: the wrong queue costs somebody a wait."""
    target = Job.objects.select_related("target").get(pk=job_id).target
    if target.kind != "video":
        return INTERACTIVE_QUEUE
    frames = target.media.get("frames") or (target.media.get("duration") or 0) * (target.media.get("fps") or 0)
    return INTERACTIVE_QUEUE if 0 < frames <= SHORT_CLIP else OFFLINE_QUEUE


def send_asset(asset_id: str, *, delay: float = 0) -> None:
    """Ask a worker to screen an uploaded asset; inside the transaction that made it so. `delay` as in `send_job`."""
    Asset.objects.filter(pk=asset_id).update(queued_at=timezone.now() + timedelta(seconds=delay))
    outbox.enqueue("task", {"name": "worker.screen_asset", "args": [asset_id], "queue": MEDIA_QUEUE}, delay=delay)


def move_asset(
    asset_id: str, from_states: Iterable[str], to_state: str, *, owner: str | None = None, **fields: Any
) -> bool:
    """Move an asset; ends its lease unless it goes into screening. False if it was not there (any more)."""
    rows = Asset.objects.filter(pk=asset_id, state__in=list(from_states))
    if owner is not None:
        rows = rows.filter(lease_owner=owner)
    return bool(rows.update(state=to_state, lease_owner="", lease_expires_at=None, **fields))


def consent_ids(job_id: str) -> list[str]:
    """The consents a job stands on, in the order in which everybody locks them."""
    return sorted(consents_under([job_id]))


def consents_under(jobs: Iterable[str] | QuerySet[Any, Any]) -> set[str]:
    """The consents on which any of these jobs (by id) stands."""
    pairs = JobSwap.objects.filter(job__in=jobs).values_list("donor_consent_id", "target_consent_id")
    return {each for pair in pairs for each in pair if each is not None}


def _lock_consents(job_id: str) -> None:
    """Consents are locked before jobs, here as in a withdrawal, so that the two cannot wait for each other."""
    if Job.objects.filter(pk=job_id).exists():
        consent_services.hold(consent_ids(job_id))


def release_uses(job_id: str) -> None:
    """Give back the consent uses a job had reserved; one that has none is fine."""
    for consent_id in consent_ids(job_id):
        consent_services.release_use(consent_id, job_id)
