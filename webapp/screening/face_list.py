"""The list "never my face": put on it, taken off it, and handed to the task that compares.

The photo is read by the worker alone, in a media child, and destroyed as soon as its descriptor is there. Descriptors
are opened in the memory of the screening task only; nothing here compares or shows one.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import BinaryIO

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.utils import timezone

from consent import keys, ledger
from consent.erasure import Line, Scope
from consent.errors import ConsentError
from consent.models import DataKey, Subject
from consent.portal.models import Wishes
from consent.subjects import plain_contact, subject_for
from consent.texts import face_list_text
from webapp import storage
from webapp.accounts.models import User
from webapp.jobs import intake, leases
from webapp.outbox import services as outbox
from webapp.screening.listed import ListedFace, listed_id
from worker.media.errors import FULL_DISK

logger = logging.getLogger(__name__)

State = ListedFace.State

TASK = "worker.enrol_block"
QUEUE = "cpu.media"
PREFIX = "listing"  # of the photos' objects
LIST_KEY = "list:faces"
MOST_ENTRIES = 3  # of one person
BOX = "face_list"
RESEND_AFTER = timedelta(seconds=60)
GIVEN_UP_AFTER = timedelta(days=1)  # a photo waits no longer than this for its worker
ORPHANS_AFTER = timedelta(days=1)


def enrol(
    subject: Subject, file: UploadedFile | Path, *, ticks: set[str], notice_sha256: str, locale: str
) -> ListedFace:
    """Have a face put on the list, made from a photo; the person ticked the box of `face_list_text` for it.

    Raises ConsentError: tick_required, notice_changed, biometrics_limited, list_full, photo_missing, photo_too_large,
    storage_failed. Nothing is kept then.
    """
    notice = face_list_text(locale)
    if notice.sha256 != notice_sha256:
        raise ConsentError("notice_changed", "The text changed. Nothing was kept; read it again.", status=409)
    if not {name for name, _ in notice.boxes} <= ticks:
        raise ConsentError("tick_required", "Without your tick nothing is computed. Nothing was kept.")
    entry = ListedFace(id=listed_id(), subject=subject, locale=notice.locale)
    entry.notice_version, entry.notice_sha256 = notice.version, notice.sha256
    return _take_in(entry, file)


def protect(file: Path, *, moderator: User, reason: str, contact: str = "", most: int | None = None) -> ListedFace:
    """Have a protected person's face put on the list by a moderator, for a reason that is kept in the audit log.

    With a `contact` the person finds the entry on their own pages, and their limit on biometric data holds. `most`
    entries are on the list afterwards. Raises ConsentError: reason_required, moderator_required, list_full, and those
    of `enrol`.
    """
    _check_moderator(moderator, reason)
    if most is not None and ListedFace.objects.exclude(state=State.FAILED).count() >= most:
        raise ConsentError(
            "list_full",
            f"With this face model at most {most} people can be told from strangers. Nothing was kept; remove one, or "
            "install a model whose threshold was measured for one against many.",
            status=409,
        )
    entry = ListedFace(id=listed_id(), subject=subject_for(plain_contact(contact)), protected=True)
    return _take_in(entry, file, said=lambda: ledger.audit(str(moderator.pk), "face.protected", entry.pk, reason))


def unprotect(entry_id: str, *, moderator: User, reason: str) -> ListedFace:
    """Take a protected person off the list; people's own wishes are theirs. Raises ConsentError: reason_required,
    moderator_required, entry_missing."""
    _check_moderator(moderator, reason)
    with transaction.atomic():
        entry = ListedFace.objects.select_for_update().filter(pk=entry_id, protected=True).first()
        if entry is None:
            raise ConsentError("entry_missing", f"There is no protected person {entry_id}. Nothing was changed.")
        ledger.audit(str(moderator.pk), "face.unprotected", entry.pk, reason)
        remove(entry)
    return entry


def _check_moderator(moderator: User, reason: str) -> None:
    if not (moderator.is_active and moderator.is_staff):
        raise ConsentError(
            "moderator_required", "Only a moderator enters protected persons. Nothing was changed.", status=403
        )
    if not reason.strip():
        raise ConsentError("reason_required", "It needs its reason. Nothing was changed; add one.")


def _take_in(entry: ListedFace, file: UploadedFile | Path, *, said: Callable[[], object] = lambda: None) -> ListedFace:
    """Store the photo and the row, and send for the descriptor; `said` is called in the same transaction."""
    subject = entry.subject
    _check_may_enrol(subject)
    try:
        with intake.local_file(file) as plain:
            _check_size(plain)
            entry.key_id = keys.create_key(f"listed:{entry.pk}")
            entry.photo_key_id = keys.create_key(f"listing:{entry.pk}")
            try:
                entry.photo_name = storage.store_stream(plain, key_id=entry.photo_key_id, prefix=PREFIX)
                with transaction.atomic():
                    Subject.objects.select_for_update().get(pk=subject.pk)
                    _check_may_enrol(subject)
                    entry.queued_at = timezone.now()
                    entry.save(force_insert=True)
                    said()
                    outbox.enqueue("task", {"name": TASK, "args": [entry.pk], "queue": QUEUE})
            except BaseException:
                _destroy(entry)
                raise
    except (storage.StorageError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in {*FULL_DISK, errno.EIO}:
            raise
        raise ConsentError(
            "storage_failed", "The photo could not be taken in. Nothing was kept; try again later.", status=503
        ) from error
    finally:
        if isinstance(file, UploadedFile):
            file.close()  # Django's temporary copy goes with it
    return entry


def remove(entry: ListedFace) -> None:
    """Take one entry off the list: its keys are destroyed, its row is deleted. Twice is fine."""
    with transaction.atomic():
        ListedFace.objects.filter(pk=entry.pk).delete()
        transaction.on_commit(partial(_destroy, entry))


def remove_all(subject: Subject) -> None:
    """Take a person off the list: at their limit on biometric data, and when they are erased."""
    for entry in ListedFace.objects.filter(subject=subject):
        remove(entry)


def forget_person(scope: Scope, look_only: bool) -> Iterator[Line]:
    """See `consent.erasure.register_eraser`: keys first, then photos, then the rows."""
    found = ListedFace.objects.filter(subject=scope.subject_id)
    count = found.count()
    if not look_only:
        for entry in found:
            _destroy(entry)
            ListedFace.objects.filter(pk=entry.pk).delete()
    yield Line("entries in the list of faces never to be used", count)


def claim(entry_id: str, owner: str) -> ListedFace | None:
    """Take a waiting entry for its descriptor to be computed; None if it is not there to be taken."""
    if not leases.claim(ListedFace, entry_id, owner, [State.WAITING], State.WORKING):
        return None
    return ListedFace.objects.get(pk=entry_id)


def list_key() -> tuple[str, bytes]:
    """(id, 32 bytes) of the key that turns descriptors, drawn at its first use; without it the list says nothing."""
    alive = DataKey.objects.filter(owner=LIST_KEY, destroyed_at__isnull=True).order_by("created_at", "id")
    if not alive.exists():
        keys.create_key(LIST_KEY)
    key_id = alive.values_list("pk", flat=True)[0]  # of two drawn at once, all use the first
    return key_id, keys.data_key(key_id)


def finish(entry: ListedFace, owner: str, packed: bytes, *, model_sha256: str, key_id: str) -> bool:
    """Keep the descriptor, sealed, and destroy the photo; False if the entry was taken away meanwhile."""
    sealed = keys.encrypt(entry.key_id, place(entry.pk), packed)
    return _settle(
        entry,
        owner,
        state=State.LISTED,
        descriptor_sealed=sealed,
        model_sha256=model_sha256,
        list_key_id=key_id,
        listed_at=timezone.now(),
    )


def fail(entry: ListedFace, owner: str, code: str) -> bool:
    """No descriptor can be made of this photo: it is destroyed, and the person reads why."""
    return _settle(entry, owner, state=State.FAILED, failure_code=code[:60])


def give_back(entry: ListedFace, owner: str) -> None:
    """A passing trouble: another start will do it, up to the cap."""
    if entry.starts_without_progress >= settings.MAX_STARTS_WITHOUT_PROGRESS:
        fail(entry, owner, "worker_crash")
        return
    ListedFace.objects.filter(pk=entry.pk, lease_owner=owner, state=State.WORKING).update(
        state=State.WAITING, lease_owner="", lease_expires_at=None
    )


def load(model_sha256: str) -> tuple[list[bytes], bytes]:
    """(packed descriptors made by this model, the key that turned them), for the memory of one task."""
    rows = ListedFace.objects.filter(state=State.LISTED).exclude(descriptor_sealed=None).order_by("pk")
    if not rows.exists():
        return [], b""
    key_id, key = list_key()
    wanted = rows.filter(model_sha256=model_sha256, list_key_id=key_id)
    if wanted.count() < rows.count():
        raise keys.KeyMissingError(
            "Entries of the face list were made with another model or key, so they cannot be compared. Nothing was "
            "let through for it; restore the key store or have those people enrol again."
        )
    found = [
        (key_id, place(pk), bytes(value or b""))
        for pk, key_id, value in wanted.values_list("pk", "key_id", "descriptor_sealed")
    ]
    return [value for value in keys.decrypt_many(found) if value is not None], key


def place(entry_id: str) -> bytes:
    """The associated data of an entry's descriptor."""
    return f"{ListedFace._meta.db_table}|{entry_id}|descriptor|1".encode()


def upkeep() -> int:
    """Send again what waits too long, give up what waited a day, sweep photos no entry names; how many."""
    now = timezone.now()
    count = 0
    for lost in ListedFace.objects.filter(state=State.WORKING, lease_expires_at__lt=now):
        give_back(lost, lost.lease_owner)
        count += 1
    for entry in ListedFace.objects.filter(state=State.WAITING, created_at__lt=now - GIVEN_UP_AFTER):
        _settle(entry, None, state=State.FAILED, failure_code="waited_too_long")
        count += 1
    for entry in ListedFace.objects.filter(state=State.WAITING, queued_at__lt=now - RESEND_AFTER):
        with transaction.atomic():
            ListedFace.objects.filter(pk=entry.pk).update(queued_at=now)
            outbox.enqueue("task", {"name": TASK, "args": [entry.pk], "queue": QUEUE})
        count += 1
    known = set(ListedFace.objects.exclude(photo_name="").values_list("photo_name", flat=True))
    for name in storage.objects(older_than=now - ORPHANS_AFTER):
        if name.startswith(f"{PREFIX}/") and name not in known:
            storage.delete(name)
            count += 1
    return count


def _settle(entry: ListedFace, owner: str | None, **values: object) -> bool:
    """One conditional update with the photo's name forgotten, and the photo destroyed once that is committed."""
    with transaction.atomic():
        rows = ListedFace.objects.filter(pk=entry.pk, state__in=[State.WORKING, State.WAITING])
        if owner is not None:
            rows = rows.filter(lease_owner=owner, state=State.WORKING)
        if not rows.update(photo_name="", photo_key_id="", lease_owner="", lease_expires_at=None, **values):
            return False
        transaction.on_commit(partial(_destroy_photo, entry.photo_key_id, entry.photo_name))
    return True


def _destroy(entry: ListedFace) -> None:
    if entry.key_id:
        keys.destroy_key(entry.key_id)
    _destroy_photo(entry.photo_key_id, entry.photo_name)


def _destroy_photo(key_id: str, name: str) -> None:
    """The key first: what it locked is unreadable from then on, on every copy and backup."""
    if key_id:
        keys.destroy_key(key_id)
    storage.delete(name)


def _check_may_enrol(subject: Subject) -> None:
    wishes = Wishes.objects.filter(subject=subject).first()
    if wishes is not None and wishes.limited_at is not None:
        raise ConsentError(
            "biometrics_limited",
            "You limited the use of your biometric data, so no descriptor of your face is kept. Nothing was kept.",
            status=409,
        )
    if ListedFace.objects.filter(subject=subject).exclude(state=State.FAILED).count() >= MOST_ENTRIES:
        raise ConsentError(
            "list_full",
            f"At most {MOST_ENTRIES} photos of one person are on the list. Nothing was kept; remove one first.",
            status=409,
        )


def _check_size(plain: BinaryIO) -> None:
    size = plain.seek(0, 2)
    plain.seek(0)
    if size == 0:
        raise ConsentError("photo_missing", "There was no photo. Nothing was kept; choose one.")
    if size > settings.MAX_PHOTO_BYTES:
        raise ConsentError(
            "photo_too_large",
            f"The photo is larger than {settings.MAX_PHOTO_BYTES >> 20} MiB. Nothing was kept; choose a smaller one.",
            status=413,
        )
