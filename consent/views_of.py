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


def views_of(subject: Subject) -> list[View]:
    """Every look at this person's records and pictures, newest first; several pictures in one minute are one look."""
    consents = Consent.objects.filter(subject=subject)
    refs = {*consents.values_list("pk", flat=True)}
    for consent in consents:
        refs |= {photo["asset_id"] for photo in consent.photos} | _targets(consent)
    refs |= set(Use.objects.filter(consent__subject=subject).values_list("job_id", flat=True))
    found = AuditRecord.objects.filter(subject_ref__in=refs - {""}, action__in=ACTIONS).order_by("-at")
    looks: dict[tuple[str, str, datetime], View] = {}
    for record in found:
        minute = record.at.replace(second=0, microsecond=0)
        what = ACTIONS[record.action]
        looks.setdefault((record.actor_id, what, minute), View(record.at, what))
    return list(looks.values())


def _targets(consent: Consent) -> set[str]:
    targets = getattr(consent, "targets", None)
    return {target["asset_id"] for target in targets} if targets is not None else {consent.target_asset_id}
