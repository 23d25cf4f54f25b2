"""What receipts, the ledger and erasure give the portal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from consent import ledger
from consent.erasure import ErasureReport, erase_subject
from consent.forgetting import Erasure
from consent.ledger.models import AuditRecord, LedgerEntry
from consent.models import Consent, Event, Subject
from consent.receipts import receipt_of

__all__ = ["Looks", "audit", "erase", "looks_at", "proof_of", "receipt_of"]


@dataclass(frozen=True)
class Looks:
    """How often people of the operator looked at something, and when last."""

    count: int
    last: datetime | None


def proof_of(event: Event) -> dict[str, Any] | None:
    """The inclusion proof of one event as JSON (RFC 9162 section 2.1.3); None before it is covered by a checkpoint."""
    entry = LedgerEntry.objects.filter(event=event).first()
    proof = ledger.proof(entry) if entry is not None else None
    if proof is None:
        return None
    return {
        "event": event.pk,
        "type": event.type,
        "index": proof.index,
        "size": proof.size,
        "leaf": proof.leaf.hex(),
        "path": [each.hex() for each in proof.path],
        "checkpoint": proof.checkpoint,
    }


def looks_at(refs: Iterable[str]) -> Looks:
    """The operator's looks at these records and files, as their audit log has them."""
    times = list(AuditRecord.objects.filter(subject_ref__in=list(refs)).order_by("at").values_list("at", flat=True))
    return Looks(len(times), times[-1] if times else None)


def audit(consent: Consent | None, subject: Subject, actor_id: str, action: str, reason: str) -> None:
    """Log that somebody of the operator looked at a person's words, under that person's own key."""
    ledger.audit(actor_id, action, consent.pk if consent else subject.pk, reason, key_id=subject.key_id)


def erase(subject: Subject) -> ErasureReport:
    """Forget a person on their own word."""
    return erase_subject(subject, by=Erasure.By.PERSON)
