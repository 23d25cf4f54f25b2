"""What receipts, the ledger and erasure give the portal; whether each is installed is decided here alone.

A page that finds nothing here shows nothing: no half links.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from consent.errors import ConsentError
from consent.models import Consent, Event, Subject


@dataclass(frozen=True)
class Looks:
    """How often people of the operator looked at something, and when last."""

    count: int
    last: datetime | None


def has_receipts() -> bool:
    """Are receipts made here?"""
    return find_spec("consent.receipts") is not None


def receipt_of(consent: Consent) -> str | None:
    """The compact JWS of a consent; None before its event is in a checkpoint, and for one that was not given."""
    if not has_receipts() or consent.given_at is None:
        return None
    found: str | None = import_module("consent.receipts").receipt_of(consent)
    return found


def has_ledger() -> bool:
    """Is there a log to prove things with?"""
    return find_spec("consent.ledger") is not None


def proof_of(event: Event) -> dict[str, Any] | None:
    """The inclusion proof of one event as JSON (RFC 9162 section 2.1.3); None before it is covered by a checkpoint."""
    entry = getattr(event, "ledger_entry", None) if has_ledger() else None
    proof = import_module("consent.ledger").proof(entry) if entry is not None else None
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


def looks_at(refs: Iterable[str]) -> Looks | None:
    """The operator's views of these records; None where none are logged because there is no log."""
    if not has_ledger():
        return None
    rows = import_module("consent.ledger.models").AuditRecord.objects.filter(subject_ref__in=list(refs))
    times = list(rows.order_by("at").values_list("at", flat=True))
    return Looks(len(times), times[-1] if times else None)


def audit(actor_id: str, action: str, ref: str, reason: str) -> None:
    """Log that somebody of the operator looked; inside the transaction of the look."""
    if has_ledger():
        import_module("consent.ledger").audit(actor_id, action, ref, reason)


def can_erase() -> bool:
    """Is erasure installed?"""
    return find_spec("consent.erasure") is not None


def erase(subject: Subject) -> None:
    """Destroy what is kept about a person, as `consent.erasure` does it. Raises ConsentError erase_unavailable."""
    if not can_erase():
        raise ConsentError(
            "erase_unavailable", "Erasing is not available just now. Nothing was erased; write to us.", status=503
        )
    import_module("consent.erasure").erase_subject(subject, by="person")
