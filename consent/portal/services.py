"""What a person sees and does in their portal. Every function is given the session, and sees what that session may.

Another person's record is not found, whoever asks by whatever id.
"""

from __future__ import annotations

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from consent import mail
from consent.errors import ConsentError
from consent.models import Consent, Subject
from consent.portal import restriction
from consent.portal.models import Note, PortalSession, Restriction, Wishes, note_id
from consent.portal.texts import portal_words
from consent.subjects import is_email
from consent.texts import fill, known_locale

LONGEST_TEXT = 2000
OPEN_NOTES = 10  # of one person, at a time

UNANSWERED = (Consent.State.REQUESTED, Consent.State.VIEWED)
WITHDRAWABLE = (Consent.State.GIVEN, Consent.State.EXHAUSTED, Consent.State.EXPIRED, Consent.State.SUPERSEDED)
HOLDABLE = restriction.HOLDABLE


def consents_of(session: PortalSession) -> QuerySet[Consent]:
    """Every consent this session may see, the newest first."""
    rows = Consent.objects.filter(subject=session.subject_id)
    if not session.whole:
        rows = rows.filter(pk=session.consent_id)
    return rows.select_related("subject").order_by("-created_at", "-pk")


def consent_of(session: PortalSession, consent_id: str) -> Consent:
    """One of them. Raises ConsentError `not_found` for every other, whether it exists or not."""
    plausible = consent_id.isascii() and consent_id.isprintable()
    consent = consents_of(session).filter(pk=consent_id).first() if plausible else None
    if consent is None:
        raise ConsentError("not_found", "There is no such record of yours. Nothing was changed.", status=404)
    return consent


def check_whole(session: PortalSession) -> Subject:
    """The person, for what concerns everything about them. Raises ConsentError `portal_one_request` (403)."""
    if not session.whole:
        raise ConsentError(
            "portal_one_request",
            "This page was opened by the link of one request, so it is about that one only. Nothing was changed; "
            "have a link sent to your own address for the rest.",
            status=403,
        )
    return session.subject


def wishes_of(subject: Subject) -> Wishes:
    """What the person wishes for everything; a row is made by a change only."""
    return Wishes.objects.filter(subject=subject).first() or Wishes(subject=subject)


def on_hold(session: PortalSession) -> set[str]:
    """Ids of the consents that were put on hold one by one."""
    rows = Restriction.objects.filter(consent__subject=session.subject_id)
    return set(rows.values_list("consent_id", flat=True))


def can_be_mailed(subject: Subject) -> bool:
    """Does the house know an e-mail address of this person?"""
    return is_email(subject.contact)


def tell_of_uses(session: PortalSession, wanted: bool) -> None:
    """Have each published use told by mail, or no more. Raises ConsentError `no_address` without an address."""
    subject = check_whole(session)
    if wanted and not can_be_mailed(subject):
        raise ConsentError(
            "no_address", "No e-mail address of yours is known here, so nothing can be sent. Nothing was changed."
        )
    with transaction.atomic():
        Subject.objects.select_for_update().get(pk=subject.pk)
        wishes = restriction.wishes_of(subject)
        wishes.told_of_uses, wishes.locale = wanted, session.locale
        wishes.save()


def write_note(session: PortalSession, *, kind: str, text: str, consent_id: str = "") -> Note:
    """An objection, a correction or a question, for the operator's console.

    Raises ConsentError: note_invalid (with `fields`), too_many_notes, not_found.
    """
    text = text.replace("\x00", "").strip()
    wrong: dict[str, str] = {}
    if kind not in Note.Kind.values:
        wrong["kind"] = "kind_required"
    if not 1 <= len(text) <= LONGEST_TEXT:
        wrong["text"] = "text_required"
    if wrong:
        raise ConsentError("note_invalid", "The note is not complete. Nothing was sent; complete it.", fields=wrong)
    consent = consent_of(session, consent_id) if consent_id else None
    if consent is None and not session.whole:
        consent = consents_of(session).first()
    with transaction.atomic():
        subject = Subject.objects.select_for_update().get(pk=session.subject_id)
        if subject.notes.filter(state=Note.State.OPEN).count() >= OPEN_NOTES:
            raise ConsentError(
                "too_many_notes",
                "Several notes of yours wait for an answer. Nothing was sent; wait for one.",
                status=429,
            )
        note = Note(
            id=note_id(), subject=subject, consent=consent, kind=kind, key_id=subject.key_id, locale=session.locale
        )
        note.text_sealed = note.seal("text", text)
        note.save(force_insert=True)
    return note


def notes_of(session: PortalSession) -> QuerySet[Note]:
    """The person's notes, the newest first."""
    rows = Note.objects.filter(subject=session.subject_id)
    if not session.whole:
        rows = rows.filter(consent=session.consent_id)
    return rows.order_by("-created_at", "-pk")


def open_notes() -> QuerySet[Note]:
    """What waits for the operator, the oldest first."""
    rows = Note.objects.filter(state=Note.State.OPEN, subject__erased_at__isnull=True)
    return rows.select_related("subject", "consent").order_by("created_at")


def answer_note(note_id: str, *, text: str, by: str) -> None:
    """The operator's answer; the person reads it in the portal, and a mail without its words says that it is there.

    Raises ConsentError: note_invalid, note_answered (409).
    """
    text = text.replace("\x00", "").strip()
    if not 1 <= len(text) <= LONGEST_TEXT:
        raise ConsentError("note_invalid", "An answer needs words, at most 2000 letters. Nothing was sent.")
    with transaction.atomic():
        note = Note.objects.select_for_update().select_related("subject").filter(pk=note_id).first()
        if note is None or note.state != Note.State.OPEN:
            raise ConsentError("note_answered", "This note is answered or gone. Nothing was changed.", status=409)
        note.answer_sealed = note.seal("answer", text)
        note.state, note.answered_at, note.answered_by = Note.State.ANSWERED, timezone.now(), by
        note.save(update_fields=["answer_sealed", "state", "answered_at", "answered_by"])
        if can_be_mailed(note.subject):
            words = portal_words(note.locale)["mail"]
            body = fill(words["answer_body"].lstrip("\n"), link=mail.portal())
            mail.post(note.key_id, note.pk, to=note.subject.contact, subject=words["answer_subject"], body=body)


def choose_language(session: PortalSession, locale: str) -> None:
    """Keep the language chosen on a page."""
    locale = known_locale(locale)
    if locale != session.locale:
        session.locale = locale
        PortalSession.objects.filter(pk=session.pk).update(locale=locale)
