"""Consents, subjects and uses against the events that made them what they are."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from django.db.models import Prefetch

from consent import keys, subjects
from consent.envelope import EnvelopeError
from consent.ledger.checking import Report
from consent.models import Consent, Erasure, Event, Subject, Use
from consent.scope import scope_matches

CHUNK = 200
SEALED = ("name", "requested_by", "note", "typed_name", "notice_text")
# What an event of this type makes of the use it names.
USE_STATES = {"reserved": Use.State.RESERVED, "used": Use.State.COUNTED, "released": Use.State.RELEASED}

KeyOf = Callable[[str], bytes]


def check(report: Report, key_of: KeyOf) -> None:
    """Add a finding for every consent, subject or use that is not what its events say."""
    last = ""
    events = Prefetch("events", Event.objects.order_by("id"))
    while found := list(
        Consent.objects.filter(pk__gt=last)
        .order_by("pk")
        .prefetch_related(events, "uses")
        .select_related("subject")[:CHUNK]
    ):
        last = found[-1].pk
        for consent in found:
            report.consents += 1
            _check_consent(report, consent, erased=_is_erased(consent.key_id, key_of))
    last = ""
    while people := list(Subject.objects.filter(pk__gt=last).order_by("pk")[:CHUNK]):
        last = people[-1].pk
        for subject in people:
            _check_subject(report, subject, key_of)


def _check_consent(report: Report, consent: Consent, *, erased: bool) -> None:
    events = list(consent.events.all())
    if not events:
        report.add("consent_without_events", consent.pk, "There is no event that made this consent.")
        return
    if events[-1].state != consent.state:
        report.add(
            "consent_state_differs",
            consent.pk,
            f"The consent says {consent.state}, its last event says {events[-1].state}.",
        )
    _check_uses(report, consent, events)
    if erased:
        return  # erasing empties columns, and what was sealed opens no more
    digest = next((event.data["scope"] for event in reversed(events) if "scope" in _data(event)), None)
    if digest is not None and not scope_matches(consent, digest):
        report.add(
            "consent_scope_differs",
            consent.pk,
            "What the consent allows is not what was written down when it was asked or given.",
        )
    for column in SEALED:
        if getattr(consent, f"{column}_sealed"):
            try:
                consent.unseal(column)
            except (EnvelopeError, keys.KeyStoreError):
                report.add(
                    "sealed_edited", consent.pk, f"The sealed column {column} was changed or comes from elsewhere."
                )


def _check_uses(report: Report, consent: Consent, events: list[Event]) -> None:
    wanted: dict[str, tuple[str, object]] = {}
    for event in events:
        data = _data(event)
        job = data.get("job")
        if event.type in USE_STATES and isinstance(job, str):
            seconds = data["seconds"] if "seconds" in data else wanted.get(job, ("", None))[1]
            wanted[job] = (USE_STATES[event.type], seconds)
    there = {use.job_id: (use.state, use.seconds) for use in consent.uses.all()}
    for job in sorted(set(wanted) | set(there)):
        if job not in there or job not in wanted or wanted[job] != there[job]:
            report.add(
                "use_differs", f"{consent.pk} for {job}", "The uses counted are not those that the events record."
            )


def _check_subject(report: Report, subject: Subject, key_of: KeyOf) -> None:
    """A person must still be found by the contact that was sealed for them."""
    if _is_erased(subject.key_id, key_of) or _being_erased(subject):
        return
    try:
        contact = subject.contact
    except (EnvelopeError, keys.KeyStoreError):
        report.add("sealed_edited", subject.pk, "The sealed contact was changed or comes from elsewhere.")
        return
    expected = subjects.contact_hmac(contact) if contact else None
    if not hmac.compare_digest(expected or "", subject.contact_hmac or ""):
        report.add(
            "subject_edited", subject.pk, "This person is found by another contact than the one that was sealed."
        )


def _being_erased(subject: Subject) -> bool:
    """The contact leads nowhere from the first moment of an erasure on; the key goes at its end."""
    if subject.erased_at is None or subject.contact_hmac is not None:
        return False
    return Erasure.objects.filter(subject=subject, state=Erasure.State.ERASING).exists()


def _is_erased(key_id: str, key_of: KeyOf) -> bool:
    try:
        key_of(key_id)
    except keys.KeyDestroyedError:
        return True
    except (keys.KeyStoreError, EnvelopeError):
        return False
    return False


def _data(event: Event) -> dict[str, object]:
    return event.data if isinstance(event.data, dict) else {}
