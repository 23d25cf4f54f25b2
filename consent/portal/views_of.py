"""Who looked: what a person is told about operators' views of their face or record. Count and dates, no operator."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from consent.ledger.models import AuditRecord
from consent.models import Consent, Subject, Use

# What an operator does with a record or a face in front of them. Other audit entries are about the house.
ACTIONS = {
    "consent.viewed": "record",
    "consent.exported": "record",
    "face.viewed": "face",
}


@dataclass(frozen=True)
class View:
    """One look: when, and at what ("record" or "face")."""

    at: datetime
    what: str


def views_of(subject: Subject, consent: Consent | None = None) -> list[View]:
    """Every look at this person's records and face, newest first, or of one record; in one minute it is one look."""
    consents = [consent] if consent is not None else list(Consent.objects.filter(subject=subject))
    refs = {each.pk for each in consents}
    for each in consents:
        refs |= {shown["asset_id"] for shown in (each.photos if each.role == Consent.Role.FACE_DONOR else each.targets)}
    refs |= set(Use.objects.filter(consent__in=consents).values_list("job_id", flat=True))
    found = AuditRecord.objects.filter(subject_ref__in=refs - {""}, action__in=ACTIONS).order_by("-at")
    looks: dict[tuple[str, str, datetime], View] = {}
    for record in found:
        minute = record.at.replace(second=0, microsecond=0)
        what = ACTIONS[record.action]
        looks.setdefault((record.actor_id, what, minute), View(record.at, what))
    return list(looks.values())
