"""The ledger: a Merkle log over salted commitments to what happened (RFC 9162), with signed checkpoints.

    with transaction.atomic():
        entry = ledger.append("audit", "viewed", {"id": "…"}, ref="cns_…")
    ledger.sequence()                # the scheduler does, each second
    ledger.proof(entry).checkpoint   # a C2SP signed note

Names are resolved at their first use: the package is loaded while the app's models still are.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from consent.ledger.entries import (
        NewEntry,
        Opening,
        append,
        append_attestation,
        append_event,
        append_many,
        audit,
        open_entry,
        opens,
    )
    from consent.ledger.errors import LedgerError
    from consent.ledger.proofs import Proof, checkpoint, given_index, index_of, proof, public_key
    from consent.ledger.sequencer import sequence

_HOMES = {
    "append": "entries",
    "append_attestation": "entries",
    "append_event": "entries",
    "append_many": "entries",
    "audit": "entries",
    "open_entry": "entries",
    "opens": "entries",
    "NewEntry": "entries",
    "Opening": "entries",
    "LedgerError": "errors",
    "Proof": "proofs",
    "checkpoint": "proofs",
    "given_index": "proofs",
    "index_of": "proofs",
    "proof": "proofs",
    "public_key": "proofs",
    "sequence": "sequencer",
}

__all__ = [
    "LedgerError",
    "NewEntry",
    "Opening",
    "Proof",
    "append",
    "append_attestation",
    "append_event",
    "append_many",
    "audit",
    "checkpoint",
    "given_index",
    "index_of",
    "open_entry",
    "opens",
    "proof",
    "public_key",
    "sequence",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"consent.ledger.{_HOMES[name]}"), name)
