"""What receipts, the ledger and erasure give the portal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from consent import ledger
from consent.erasure import ErasureReport, erase_subject
from consent.forgetting import Erasure
from consent.ledger.models import LedgerEntry
from consent.models import Consent, Event, Subject
from consent.portal.views_of import views_of
from consent.receipts.services import receipt_of

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


def looks_at(consent: Consent) -> Looks:
    """The operator's looks at a person's record and face, as the audit log has them."""
    times = [view.at for view in views_of(consent.subject, consent)]
    return Looks(len(times), max(times, default=None))


def audit(consent: Consent | None, subject: Subject, actor_id: str, action: str, reason: str) -> None:
    """Log that somebody of the operator looked at a person's words, under that person's own key."""
    ledger.audit(actor_id, action, consent.pk if consent else subject.pk, reason, key_id=subject.key_id)


def erase(subject: Subject) -> ErasureReport:
    """Forget a person on their own word."""
    return erase_subject(subject, by=Erasure.By.PERSON)
