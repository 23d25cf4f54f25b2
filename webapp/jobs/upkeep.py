"""What is done again and again: dead workers' rows are returned, lost messages sent again, ended things erased.

Every function is idempotent and may run anywhere, any number of times at once.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from consent import clips, keys
from webapp import storage
from webapp.jobs import challenges, flow, intake, leases, permission, running, transitions, workfolder
from webapp.jobs.models import Asset, Job, Output
from webapp.outbox import services as outbox

logger = logging.getLogger(__name__)

RESEND_AFTER = timedelta(seconds=60)  # a message this long without a claim may be lost; sending it twice does no harm
RESEND_AT_ONCE = 20
OVERLOOKED_AFTER = timedelta(seconds=5)  # longer than the transactions that may not have seen each other
UNUSED_ASSETS = timedelta(
    days=settings.CONSENT_LINK_DAYS
)  # a consent request may be open this long before a job is made
KINDS_OF_OBJECTS = frozenset({"asset", "analysis", "preview", "output", clips.PREFIX})
ORPHANS_AFTER = timedelta(days=1)  # longer than any upload, screening or finishing needs between object and row

_registered: list[Callable[[], object]] = []


@dataclass(frozen=True)
class Upkeep:
    """What one round did."""

    delivered: int = 0
    returned: int = 0
    resent: int = 0
    swept_folders: int = 0
    erased: int = 0


def tick() -> Upkeep:
    """One round of what must not wait: outbox, expired leases, lost messages, folders of the dead."""
    return Upkeep(
        delivered=outbox.relay(),
        returned=reap() + challenges.reap(),
        resent=sweep() + challenges.sweep(),
        swept_folders=sweep_folders(),
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
    limit = timezone.now() - RESEND_AFTER
    count = 0
    for asset_id in (
        Asset.objects.filter(state=Asset.State.UPLOADED, queued_at__lt=limit)
        .order_by("queued_at")
        .values_list("pk", flat=True)[:RESEND_AT_ONCE]
    ):
        with transaction.atomic():
            if Asset.objects.filter(pk=asset_id, state=Asset.State.UPLOADED, queued_at__lt=limit).update(
                queued_at=timezone.now()
            ):
                transitions.send_asset(asset_id)
                count += 1
    waiting = Q(state__in=[Job.State.QUEUED, Job.State.READY], queued_at__lt=limit)
    for job_id in Job.objects.filter(waiting).order_by("queued_at").values_list("pk", flat=True)[:RESEND_AT_ONCE]:
        with transaction.atomic():
            if Job.objects.filter(waiting, pk=job_id).update(queued_at=timezone.now()):
                transitions.send_job(job_id)
                count += 1
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
        .exclude(sources__state__in=open_states)
    )
    count = 0
    for job_id in unsent.values_list("pk", flat=True)[:RESEND_AT_ONCE]:
        flow.assets_changed(job_id)
        count += 1
    answered = ~Q(donor_consent__state__in=permission.OPEN) & ~Q(target_consent__state__in=permission.OPEN)
    ended = Q(donor_consent__state__in=flow.ENDED) | Q(target_consent__state__in=flow.ENDED)
    waiting = old.filter(answered | ended, state=Job.State.AWAITING_CONSENT)
    for job in waiting.select_related("target")[:RESEND_AT_ONCE]:
        flow.consents_changed(job)
        count += 1
    return count


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


def retention() -> int:
    """Erase what has had its time or lost its permission, and objects that no row knows; how many."""
    count = erase_outputs() + erase_assets() + sweep_orphans() + sweep_uploads()
    outbox.forget_sent()
    for forget in _registered:
        forget()
    return count


def register_retention(forget: Callable[[], object]) -> None:
    """`forget()` deletes what has had its time in another room, at each round of retention; often, even at once."""
    if forget not in _registered:
        _registered.append(forget)


def erase_outputs() -> int:
    """Delete bytes and key of outputs that expired or lost their permission; the record stays for verification."""
    count = 0
    due = Q(expires_at__lt=timezone.now()) | Q(permission=Output.Permission.WITHDRAWN)
    for output in Output.objects.filter(due, erased_at__isnull=True)[:200]:
        _erase(output.key_id, [output.object_name])
        count += Output.objects.filter(pk=output.pk, erased_at__isnull=True).update(erased_at=timezone.now())
    return count


def erase_assets() -> int:
    """Delete bytes and key of uploads INPUT_RETENTION_HOURS after their last job ended, or never used in time.

    A row says that it is erased before anything is destroyed, and forgets its objects' names only afterwards: one that
    has names still was begun by a process that died, and is done again.
    """
    now = timezone.now()
    ended = now - timedelta(hours=settings.INPUT_RETENTION_HOURS)
    alive = Job.objects.exclude(state__in=Job.FINAL) | Job.objects.filter(finished_at__gte=ended)
    kept = {*alive.values_list("target_id", flat=True), *alive.values_list("sources", flat=True)}
    used = {*Job.objects.values_list("target_id", flat=True), *Job.objects.values_list("sources", flat=True)}
    count = 0
    for asset in Asset.objects.filter(erased_at__isnull=False).exclude(object_name="").order_by("erased_at")[:500]:
        _erase_asset(asset)
        count += 1
    old = Asset.objects.filter(erased_at__isnull=True, created_at__lt=ended).exclude(state=Asset.State.SCREENING)
    for asset in old.order_by("created_at")[:500]:
        if asset.pk in kept or (asset.pk not in used and asset.created_at >= ended - UNUSED_ASSETS):
            continue
        # The row first: from here on no new job can be made of it.
        if not Asset.objects.filter(pk=asset.pk, erased_at__isnull=True).update(erased_at=now, faces=[]):
            continue
        _erase_asset(asset)
        count += 1
    return count


def sweep_orphans() -> int:
    """Delete stored objects no row names: left by a process killed between storing and its transaction; how many."""
    known: set[str] = set(Output.objects.values_list("object_name", flat=True))
    for object_name, analysis_name, previews in Asset.objects.values_list("object_name", "analysis_name", "previews"):
        known |= {object_name, analysis_name, *previews.values()}
    known |= challenges.objects()
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
    Asset.objects.filter(pk=asset.pk).update(object_name="", analysis_name="", previews={})


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
