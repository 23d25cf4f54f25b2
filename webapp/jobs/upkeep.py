"""What is done again and again: dead workers' rows are returned, lost messages sent again, ended things erased.

Every function is idempotent and may run anywhere, any number of times at once.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from consent import keys
from consent.challenge import clips
from consent.receipts import services as receipts
from webapp import retention as schedule
from webapp import storage
from webapp.jobs import challenges, flow, intake, leases, permission, running, segments, transitions, workfolder
from webapp.jobs.models import Asset, Job, JobSource, JobSwap, Output
from webapp.outbox import services as outbox

logger = logging.getLogger(__name__)

RESEND_AFTER = timedelta(seconds=60)  # a message this long without a claim may be lost; sending it twice does no harm
RESEND_AT_ONCE = 20
FRESH_ANSWERS = timedelta(hours=1)  # looked at each second for a receipt; older ones each minute (`worker.expire`)
OVERLOOKED_AFTER = timedelta(seconds=5)  # longer than the transactions that may not have seen each other
UNUSED_ASSETS = timedelta(
    days=settings.CONSENT_LINK_DAYS
)  # a consent request may be open this long before a job is made
KINDS_OF_OBJECTS = frozenset({"asset", "analysis", "preview", "output", segments.PREFIX, clips.PREFIX})
ORPHANS_AFTER = timedelta(days=1)  # longer than any upload, screening or finishing needs between object and row


@dataclass(frozen=True)
class Upkeep:
    """What one round did."""

    delivered: int = 0
    returned: int = 0
    resent: int = 0
    dropped_parts: int = 0
    swept_folders: int = 0
    erased: int = 0
    receipts: int = 0


def tick() -> Upkeep:
    """One round of what must not wait: outbox, expired leases, lost messages, folders of the dead, receipts."""
    outbox.relay_aside()
    return Upkeep(
        delivered=outbox.relay(),
        returned=reap() + segments.reap() + challenges.reap(),
        resent=sweep() + segments.sweep() + challenges.sweep(),
        dropped_parts=segments.drop_ended(),
        swept_folders=sweep_folders(),
        receipts=receipts.issue_due(within=FRESH_ANSWERS),
    )


def reap() -> int:
    """Return rows whose worker fell silent, or fail those that wore out; how many."""
    now = timezone.now()
    count = 0
    for lost in leases.expired(Job, [Job.State.SCREENING, Job.State.RUNNING, Job.State.FINISHING]):
        count += running.put_back(
            lost.pk, lost.owner, code="worker_lost", message="The worker fell silent.", silent_since=now
        )
    for lost in leases.expired(Asset, [Asset.State.SCREENING]):
        still_silent = Asset.objects.filter(pk=lost.pk, lease_owner=lost.owner, lease_expires_at__lt=now)
        with transaction.atomic():
            if still_silent.exists():
                count += intake.return_asset(lost.pk, lost.owner)
    return count


def sweep() -> int:
    """Send again what waits for a worker longer than RESEND_AFTER: its message may have been lost; how many."""
    old = Q(queued_at__lt=timezone.now() - RESEND_AFTER)
    uploaded, ready = Q(state=Asset.State.UPLOADED), Q(state__in=[Job.State.QUEUED, Job.State.READY])
    count = leases.resend(Asset, uploaded & old, transitions.send_asset, RESEND_AT_ONCE)
    count += leases.resend(Job, ready & old, transitions.send_job, RESEND_AT_ONCE)
    return count + _go_on()


def _go_on() -> int:
    """Jobs that wait for what has happened already; how many.

    Two transactions at once (two consents given, an asset settled and a job submitted) may each miss what the other
    writes, and then nobody sends the job on. Only jobs that cannot but go on are selected, so none blocks the others.
    """
    old = Job.objects.filter(created_at__lt=timezone.now() - OVERLOOKED_AFTER).order_by("created_at")
    open_states = [Asset.State.UPLOADED, Asset.State.SCREENING, Asset.State.IN_REVIEW]
    unsent = (
        old.filter(state=Job.State.QUEUED, queued_at__isnull=True)
        .exclude(target__state__in=open_states)
        .exclude(swaps__photos__asset__state__in=open_states)
    )
    count = 0
    for job_id in unsent.values_list("pk", flat=True)[:RESEND_AT_ONCE]:
        flow.assets_changed(job_id)
        count += 1
    answered, ended = ~Q(pk__in=_on_consents_in(permission.OPEN)), Q(pk__in=_on_consents_in(flow.ENDED))
    waiting = old.filter(answered | ended, state=Job.State.AWAITING_CONSENT)
    for job in waiting.select_related("target")[:RESEND_AT_ONCE]:
        flow.consents_changed(job)
        count += 1
    return count


def _on_consents_in(states: Iterable[str]) -> QuerySet[JobSwap, str]:
    """The ids of the jobs of which any consent is in one of these states."""
    states = list(states)
    found = JobSwap.objects.filter(Q(donor_consent__state__in=states) | Q(target_consent__state__in=states))
    return found.values_list("job", flat=True)


def sweep_folders() -> int:
    """Remove work folders whose process is gone: its lock went with it, by whatever death it died; how many."""
    count = 0
    root = workfolder.root()
    if not root.is_dir():
        return 0
    for folder in root.iterdir():
        try:
            descriptor = os.open(folder / workfolder.LOCK_FILE, os.O_RDWR)
        except FileNotFoundError:
            # Being made or being removed at this moment, unless it stays like that.
            if _older_than(folder, 60):
                shutil.rmtree(folder, ignore_errors=True)
                count += 1
            continue
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            count += 1
        except BlockingIOError:
            pass
        finally:
            os.close(descriptor)
    return count


def retention(now: datetime | None = None) -> int:
    """Erase what has had its time or lost its permission, by the schedule of `webapp.retention`; how many."""
    return schedule.run(now or timezone.now()).total


def register_retention(forget: Callable[[], object], rule: str = "short_lived") -> None:
    """`forget()` deletes what has had its time in another room, at each round of retention; often, even at once.

    `rule` is the row of the schedule that it carries out; `webapp.retention.register` also takes a forecast.
    """

    def run(now: datetime) -> int:
        gone = forget()
        return gone if isinstance(gone, int) else 0

    schedule.register(rule, run, key=forget)


def erase_outputs(now: datetime | None = None) -> int:
    """Delete bytes and key of outputs that expired or lost their permission; the record stays for verification."""
    due = outputs_due(now or timezone.now()).order_by("published_at")[:200]
    return sum(erase_output_now(output) for output in due)


def outputs_due(now: datetime) -> QuerySet[Output]:
    """Results whose time is over or whose permission was withdrawn."""
    grace = now - timedelta(hours=settings.WITHDRAWN_GRACE_HOURS)
    due = Q(expires_at__lt=now) | Q(permission__in=Output.ENDED, permission_changed_at__lte=grace)
    return Output.objects.filter(due, erased_at__isnull=True)


def erase_output_now(output: Output) -> int:
    """Destroy key and object of a result, whatever its time; 1 if it was not erased yet. Again is fine."""
    _erase(output.key_id, [output.object_name])
    return Output.objects.filter(pk=output.pk, erased_at__isnull=True).update(erased_at=timezone.now())


def erase_assets(now: datetime | None = None) -> int:
    """Delete bytes and key of uploads INPUT_RETENTION_HOURS after their last job ended, or never used in time."""
    return erase_used_assets(now) + erase_unused_assets(now)


def erase_used_assets(now: datetime | None = None) -> int:
    """Of `erase_assets`, those that a job used, and whatever a process that died left half erased."""
    count = 0
    for asset in Asset.objects.filter(erased_at__isnull=False).exclude(object_name="").order_by("erased_at")[:500]:
        _erase_asset(asset)
        count += 1
    return count + sum(erase_asset_now(asset) for asset in assets_due(now or timezone.now(), unused=False))


def erase_unused_assets(now: datetime | None = None) -> int:
    """Of `erase_assets`, those that no job ever used, once their longer time is over."""
    return sum(erase_asset_now(asset) for asset in assets_due(now or timezone.now(), unused=True))


def assets_due(now: datetime, *, unused: bool) -> Iterator[Asset]:
    """Uploads whose time is over: of those that a job used, or of those that none did; 500 at a time, oldest first."""
    ended = now - timedelta(hours=settings.INPUT_RETENTION_HOURS)
    alive = Job.objects.exclude(state__in=Job.FINAL) | Job.objects.filter(finished_at__gte=ended)
    photos = JobSource.objects.values_list("asset_id", flat=True)
    kept = {*alive.values_list("target_id", flat=True), *photos.filter(swap__job__in=alive.values("pk"))}
    used = {*Job.objects.values_list("target_id", flat=True), *photos}
    old = Asset.objects.filter(erased_at__isnull=True, created_at__lt=ended).exclude(state=Asset.State.SCREENING)
    for asset in old.order_by("created_at")[:500]:
        if asset.pk in kept or (asset.pk in used) == unused:
            continue
        if unused and asset.created_at >= ended - UNUSED_ASSETS:
            continue
        yield asset


def erase_asset_now(asset: Asset) -> int:
    """Destroy an upload, whatever its time; 1 if it was not erased yet. Again finishes what was half done.

    A row says that it is erased before anything is destroyed, so that no new job can be made of it, and forgets its
    objects' names only afterwards: one that has names still was begun by a process that died, and is done again.
    """
    rows = Asset.objects.filter(pk=asset.pk, erased_at__isnull=True)
    new = rows.update(erased_at=timezone.now(), faces=[], name="")
    asset.refresh_from_db()
    if new or asset.object_name:
        _erase_asset(asset)
    return new


def sweep_orphans() -> int:
    """Delete stored objects no row names: left by a process killed between storing and its transaction; how many."""
    known: set[str] = set(Output.objects.values_list("object_name", flat=True))
    for object_name, analysis_name, previews in Asset.objects.values_list("object_name", "analysis_name", "previews"):
        known |= {object_name, analysis_name, *previews.values()}
    known |= challenges.objects() | segments.objects()
    count = 0
    for name in storage.objects(older_than=timezone.now() - ORPHANS_AFTER):
        if name not in known and name.split("/")[0] in KINDS_OF_OBJECTS:
            storage.delete(name)
            count += 1
    return count


def sweep_uploads() -> int:
    """Delete half-received uploads (plain bytes) that a killed web process left; how many."""
    count = 0
    folder = Path(settings.FILE_UPLOAD_TEMP_DIR)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_file() and _older_than(path, ORPHANS_AFTER.total_seconds()):
            path.unlink(missing_ok=True)
            count += 1
    return count


def _erase_asset(asset: Asset) -> None:
    """Key and objects first, then their names; any number of times."""
    _erase(asset.key_id, [asset.object_name, asset.analysis_name, *asset.previews.values()])
    Asset.objects.filter(pk=asset.pk).update(object_name="", analysis_name="", previews={}, name="")


def _erase(key_id: str, names: list[str]) -> None:
    """The key first: what it locked is unreadable from then on, on every copy and backup."""
    keys.destroy_key(key_id)
    for name in names:
        storage.delete(name)


def _older_than(path: Path, seconds: float) -> bool:
    try:
        return timezone.now().timestamp() - path.stat().st_mtime > seconds
    except OSError:
        return False
