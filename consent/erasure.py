"""Forgetting a person: what is in force ends, everything under their keys is destroyed, and a report says what stays.

That a person is to be forgotten is written down first (`Erasure`, state `erasing`); every step after it may be done
again, so a crash between the two databases, or between any two steps, is healed by `heal`, which the scheduler calls
each minute and every worker at its start. What other rooms hold (uploads, results, answers kept for partners) they
erase themselves, through functions registered at start-up.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import partial

from django.db import connections, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from consent import answers, forgotten_mail, keys
from consent.errors import ConsentError
from consent.models import Block, Consent, DataKey, Erasure, Event, Subject
from consent.subjects import contact_hmac, plain_contact
from consent.transitions import State, lock, move, record

logger = logging.getLogger(__name__)

EVENT = "erased"
SUBJECT_KEYS = "subject:"
RETRY_AFTER = timedelta(seconds=60)
IN_FORCE = (State.REQUESTED, State.VIEWED, State.GIVEN)
WITHDRAWABLE = (State.GIVEN, State.EXPIRED, State.EXHAUSTED, State.SUPERSEDED)


@dataclass(frozen=True)
class Line:
    """One line of a report: of what there were how many, destroyed or `kept`, and why."""

    what: str
    count: int
    kept: bool = False
    why: str = ""


@dataclass(frozen=True)
class Scope:
    """Whom an eraser is about. `contact` is "" where there is none, or where it can no longer be read."""

    subject_id: str
    consent_ids: tuple[str, ...]
    contact: str = ""


@dataclass(frozen=True)
class ErasureReport:
    """What was destroyed and what is kept, without a name. `finished` False: begun, and healed by the scheduler."""

    id: str
    subject_id: str
    finished: bool
    destroyed: tuple[Line, ...] = field(default=())
    kept: tuple[Line, ...] = field(default=())


Eraser = Callable[[Scope, bool], Iterable[Line]]

_erasers: dict[str, Eraser] = {}


def register_eraser(room: str, eraser: Eraser) -> None:
    """`eraser(scope, look_only)` destroys what its room holds of a person and says what; it may be called any number
    of times, after a half-done call too. With `look_only` it changes nothing and says what it would do."""
    _erasers[room] = eraser


def find_subject(contact: str) -> Subject:
    """The person of a contact. Raises ConsentError `contact_invalid`, `not_found`."""
    known = contact_hmac(plain_contact(contact))
    subject = Subject.objects.filter(contact_hmac=known, erased_at__isnull=True).first()
    if subject is None:
        raise ConsentError("not_found", "Nobody is known here by this contact. Nothing was changed.", status=404)
    return subject


def survey(subject: Subject) -> list[Line]:
    """What `erase_subject` would destroy and keep; nothing is changed."""
    scope = _scope(subject)
    lines = [Line("permissions ended", _in_force(subject).count())]
    for eraser in _erasers.values():
        lines += eraser(scope, True)
    lines += forgotten_mail.forget(scope.contact, scope.consent_ids, look_only=True)
    lines.append(Line("keys of the person", _subject_keys(subject).count()))
    return [line for line in lines if line.count] + kept(scope)


def erase_subject(subject: Subject, *, by: str) -> ErasureReport:
    """Forget a person, on their own word or the operator's, or because their time is over (`Erasure.By`).

    Permissions in force are withdrawn first, with all that follows for jobs and results. Again is fine. What fails on
    the way is logged, the report says that it is not finished, and `heal` goes on. Call it outside a transaction: a
    destroyed key stays destroyed whatever is rolled back. Raises ConsentError `in_force` if retention comes upon a
    permission that still holds.
    """
    with transaction.atomic():
        subject = Subject.objects.select_for_update().get(pk=subject.pk)
        if by == Erasure.By.RETENTION and _in_force(subject).exists():
            raise ConsentError("in_force", "A permission of this person still holds. Nothing was erased.", status=409)
        erasure, new = Erasure.objects.get_or_create(subject=subject, defaults={"by": by})
        if not new and by == Erasure.By.RESTORE:
            Erasure.objects.filter(pk=erasure.pk).update(state=Erasure.State.ERASING)
        # From here on a new request for this contact makes a new person, and none is added to this one.
        Subject.objects.filter(pk=subject.pk).update(contact_hmac=None, erased_at=subject.erased_at or timezone.now())
    erasure.refresh_from_db()
    return report_of(erasure) if erasure.state == Erasure.State.ERASED else carry_out(erasure)


def carry_out(erasure: Erasure) -> ErasureReport:
    """Do all steps of a recorded erasure; those that were done already find nothing left to do."""
    Erasure.objects.filter(pk=erasure.pk).update(tried_at=timezone.now())
    subject = Subject.objects.get(pk=erasure.subject_id)
    destroyed: dict[str, Line] = {name: Line(**line) for name, line in erasure.report.get("destroyed", {}).items()}
    scope = _scope(subject)
    try:
        for step in STEPS:
            for line in step(subject, scope):
                done = destroyed.get(line.what)
                destroyed[line.what] = Line(line.what, line.count + (done.count if done else 0))
            # What a step destroyed is known to the report even if the next one never comes.
            _write(erasure, destroyed, scope)
    except Exception as error:
        logger.exception("The erasure %s is not finished (%s); it is gone on with.", erasure.pk, type(error).__name__)
        return report_of(erasure)
    erasure.state, erasure.finished_at = Erasure.State.ERASED, timezone.now()
    erasure.save(update_fields=["state", "finished_at"])
    return report_of(erasure)


def report_of(erasure: Erasure) -> ErasureReport:
    """What is recorded of an erasure."""
    lines = erasure.report
    return ErasureReport(
        erasure.pk,
        erasure.subject_id,
        erasure.state == Erasure.State.ERASED,
        tuple(Line(**line) for line in lines.get("destroyed", {}).values()),
        tuple(Line(**line) for line in lines.get("kept", [])),
    )


def heal(*, at_start: bool = False) -> int:
    """Go on with erasures that were begun and not finished; how many. Idempotent, anywhere, any number at once.

    At a start also undo what a restored backup brought back: rows of somebody whose key is destroyed, or keys of
    somebody whose rows say that they are erased.
    """
    limit = timezone.now() - (timedelta() if at_start else RETRY_AFTER)
    open_ones = Erasure.objects.filter(state=Erasure.State.ERASING)
    waiting = open_ones.filter(Q(tried_at__isnull=True, begun_at__lte=limit) | Q(tried_at__lte=limit))
    count = sum(carry_out(erasure).finished for erasure in waiting.order_by("begun_at")[:50])
    return count + (_heal_restored() if at_start else 0)


def kept(scope: Scope) -> list[Line]:
    """What stays after an erasure, and why."""
    events = Event.objects.filter(consent__in=scope.consent_ids).count()
    uses = Consent.objects.filter(pk__in=scope.consent_ids, uses__isnull=False).count()
    lines = [
        Line(
            "records that a permission was asked for and what became of it: random ids, states, dates, hashes of the "
            "pictures and words; the signed words themselves as bytes that no key opens",
            len(scope.consent_ids),
            True,
            "proof for legal claims (GDPR 17(3)(e)); the ledger's digest of the record stays verifiable",
        ),
        Line("events and their commitments in the ledger", events, True, "the log is append-only; salted, keyless"),
        Line("counts of use, under random ids", uses, True, "proof of what was made under the permission"),
        Line(
            "wishes not to be asked again, as keyed hashes of organisation and contact",
            Block.objects.filter(until__gt=timezone.now()).count() if scope.consent_ids else 0,
            True,
            "the person's own wish; of all people together, for they name nobody; each ends on its day",
        ),
    ]
    for eraser in _kept_by.values():
        lines += eraser(scope)
    return [line for line in lines if line.count]


_kept_by: dict[str, Callable[[Scope], Iterable[Line]]] = {}


def register_kept(room: str, kept_by: Callable[[Scope], Iterable[Line]]) -> None:
    """`kept_by(scope)` says what its room keeps of an erased person, and why."""
    _kept_by[room] = kept_by


# --- the steps, in order: as long as a later one needs the person's key, it is there ---------------------------------


def _end(subject: Subject, scope: Scope) -> Iterator[Line]:
    """Whatever is open or in force ends, with all its effects on jobs and results."""
    count = 0
    for consent_id, state in subject.consents.order_by("pk").values_list("pk", "state"):
        if state in WITHDRAWABLE:
            answers.withdraw_consent(Consent.objects.get(pk=consent_id))
            count += 1
        elif state in (State.REQUESTED, State.VIEWED):
            count += _close(consent_id)
    yield Line("permissions ended", count)


def _close(consent_id: str) -> int:
    """A question still open lapses: nobody is there any more whom it asks."""
    with transaction.atomic():
        consent = lock(consent_id)
        if consent.state in (State.REQUESTED, State.VIEWED):
            move(consent, State.LAPSED, code="subject_erased")
            return 1
        if consent.state == State.GIVEN:  # answered in this very moment
            move(consent, State.WITHDRAWN, code="subject_erased")
            return 1
    return 0


def _other_rooms(subject: Subject, scope: Scope) -> Iterator[Line]:
    """Pictures, results, analyses, clips, sessions, answers: each room its own."""
    for eraser in _erasers.values():
        yield from eraser(scope, False)


def _mails(subject: Subject, scope: Scope) -> Iterator[Line]:
    """Letters with their address; while the contact can still be read, for it is what they are found by."""
    yield from forgotten_mail.forget(scope.contact, scope.consent_ids)


def _note(subject: Subject, scope: Scope) -> Iterator[Line]:
    """The event and its commitment, under the key that is destroyed next."""
    for consent_id in scope.consent_ids:
        with transaction.atomic():
            consent = lock(consent_id)
            if not consent.events.filter(type=EVENT).exists():
                record(consent, EVENT)
    yield from ()


def _destroy_keys(subject: Subject, scope: Scope) -> Iterator[Line]:
    """The moment from which on nothing of this person can be read, on no copy and in no backup of the main database."""
    count = 0
    for key_id in list(_subject_keys(subject).values_list("pk", flat=True)):
        keys.destroy_key(key_id)
        count += 1
    yield Line("keys of the person", count)


def _clear_columns(subject: Subject, scope: Scope) -> Iterator[Line]:
    """What lies sealed or hashed in the rows goes as well; the link leads nowhere from now on.

    `typed_name_sealed` and `notice_text_sealed` stay as bytes: the ledger holds a digest of them, by which the record
    can still be told from a forged one.
    """
    count = 0
    with transaction.atomic():
        Subject.objects.filter(pk=subject.pk).update(contact_hmac=None, contact_sealed=None)
        for consent in Consent.objects.select_for_update().filter(subject=subject).order_by("pk"):
            count += consent.name_sealed is not None
            Consent.objects.filter(pk=consent.pk).update(
                name_sealed=None,
                requested_by_sealed=None,
                note_sealed=None,
                evidence={},
                token_sha256=hashlib.sha256(secrets.token_bytes(32)).hexdigest(),
            )
    yield Line("records cleared of name, message, link and network", count)


def _overwrite(subject: Subject, scope: Scope) -> Iterator[Line]:
    """What the databases freed is overwritten or given back: a raw copy of their files holds it no more.

    SQLite overwrites what it deletes (`secure_delete`), and its log is emptied into it here; PostgreSQL frees dead rows
    with VACUUM. Copies that were made before are the operator's (see the schedule's row on backups).
    """
    for alias in ("default", keys.ALIAS):
        if connections[alias].in_atomic_block:  # a caller's transaction, which holds the old rows until its end
            transaction.on_commit(partial(_give_back, alias), using=alias, robust=True)
        else:
            _give_back(alias)
    yield from ()


def _give_back(alias: str) -> None:
    connection = connections[alias]
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            if cursor.fetchone()[0]:
                raise ConsentError("database_busy", "The log could not be emptied yet; it is tried again.")
        elif connection.vendor == "postgresql":
            cursor.execute("VACUUM")


def _prove(subject: Subject, scope: Scope) -> Iterator[Line]:
    """Nothing decrypts. Raises if something does: then the erasure is not finished."""
    if _subject_keys(subject).exists():
        raise ConsentError("still_readable", "A key of this person is still alive; it is destroyed at the next try.")
    fresh = Subject.objects.get(pk=subject.pk)
    if fresh.contact_hmac or fresh.contact_sealed:
        raise ConsentError("still_readable", "The contact is still there; it is removed at the next try.")
    yield from ()


STEPS: tuple[Callable[[Subject, Scope], Iterator[Line]], ...] = (
    _end,
    _other_rooms,
    _mails,
    _note,
    _destroy_keys,
    _clear_columns,
    _mails,  # once more: one may have been on its way out the first time
    _overwrite,
    _prove,
)


def _in_force(subject: Subject) -> QuerySet[Consent]:
    return subject.consents.filter(state__in=IN_FORCE)


def _subject_keys(subject: Subject) -> QuerySet[DataKey]:
    mine = Q(owner=f"{SUBJECT_KEYS}{subject.pk}") | Q(pk=subject.key_id)
    return DataKey.objects.filter(mine, destroyed_at__isnull=True)


def _scope(subject: Subject) -> Scope:
    try:
        contact = subject.contact
    except (keys.KeyStoreError, keys.TamperedError):
        contact = ""
    return Scope(subject.pk, tuple(subject.consents.order_by("pk").values_list("pk", flat=True)), contact)


def _write(erasure: Erasure, destroyed: dict[str, Line], scope: Scope) -> None:
    erasure.report = {
        "destroyed": {name: asdict(line) for name, line in destroyed.items() if line.count},
        "kept": [asdict(line) for line in kept(scope)],
    }
    erasure.save(update_fields=["report"])


def _heal_restored() -> int:
    """A backup of one of the two databases was put back: the other one knows better."""
    count = 0
    destroyed = DataKey.objects.filter(owner__startswith=SUBJECT_KEYS, destroyed_at__isnull=False)
    for chunk in _chunks(destroyed.values_list("owner", flat=True)):
        ids = [owner.removeprefix(SUBJECT_KEYS) for owner in chunk]
        for subject in Subject.objects.filter(pk__in=ids, erased_at__isnull=True):
            count += erase_subject(subject, by=Erasure.By.RESTORE).finished
    done = Erasure.objects.filter(state=Erasure.State.ERASED)
    for chunk in _chunks(done.values_list("subject_id", flat=True)):
        owners = [f"{SUBJECT_KEYS}{subject_id}" for subject_id in chunk]
        for key_id in DataKey.objects.filter(owner__in=owners, destroyed_at__isnull=True).values_list("pk", flat=True):
            keys.destroy_key(key_id)
            count += 1
    return count


def _chunks(values: Iterable[str], size: int = 500) -> Iterator[list[str]]:
    chunk: list[str] = []
    for value in values:
        chunk.append(value)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
