"""Writing entries, and opening them again while their key exists."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from consent import envelope, keys
from consent.ledger import house
from consent.ledger.canonical import SALT_BYTES, canonical, commit
from consent.ledger.errors import LedgerError
from consent.ledger.models import AuditRecord, LedgerEntry, audit_id
from consent.models import Attestation, Event

KeyOf = Callable[[str], bytes]


@dataclass(frozen=True)
class Opening:
    """What the two commitments of an entry hide: whoever gets it can check them (`canonical.commit`)."""

    salt: bytes
    ref: str
    payload: Any


@dataclass(frozen=True)
class NewEntry:
    """What is to be entered; see `append`."""

    kind: str
    type: str
    payload: Mapping[str, Any]
    key_id: str = ""
    ref: str = ""
    source: str = ""
    event: Event | None = None
    at: datetime | None = None


def append(
    kind: str,
    type: str,
    payload: Mapping[str, Any],
    *,
    key_id: str = "",
    ref: str = "",
    source: str = "",
    event: Event | None = None,
    at: datetime | None = None,
) -> LedgerEntry:
    """Commit to a payload without personal data, in the caller's transaction; its place in the tree comes later.

    `key_id` is the data key whose destruction makes the commitment meaningless ("": the house's own), `ref` the id of
    what it is about, `source` names the row it speaks of (see `sources`). Raises LedgerError payload_invalid,
    kind_unknown, not_in_transaction; KeyStoreError.
    """
    return append_many([NewEntry(kind, type, payload, key_id, ref, source, event, at)])[0]


def append_many(new: Sequence[NewEntry]) -> list[LedgerEntry]:
    """Several at once: each key is read once, and the rows go in together. Raises as `append`."""
    if not transaction.get_connection().in_atomic_block:
        raise LedgerError(
            "not_in_transaction",
            "An entry is written in the transaction of what it speaks of; nothing was written.",
            status=500,
        )
    own_key = house.house_key()
    read: dict[str, bytes] = {own_key: keys.data_key(own_key)}
    own = row_key(read[own_key])
    entries = []
    for each in new:
        key_id = each.key_id or own_key
        if key_id not in read:
            read[key_id] = keys.data_key(key_id)
        entries.append(_committed(each, key_id, read[key_id], own))
    if len(entries) == 1:
        entries[0].save(force_insert=True)
    else:
        LedgerEntry.objects.bulk_create(entries)
    return entries


def _committed(new: NewEntry, key_id: str, key: bytes, own: bytes) -> LedgerEntry:
    if new.kind not in LedgerEntry.Kind.values:
        raise LedgerError("kind_unknown", f"The ledger has no kind {new.kind!r}; nothing was written.", status=500)
    salt, body = secrets.token_bytes(SALT_BYTES), canonical(new.payload)
    payload_commit = hmac.digest(salt, body, "sha256")
    entry = LedgerEntry(
        kind=new.kind,
        type=new.type,
        at=new.at or timezone.now(),
        ref=new.ref,
        source=new.source,
        event=new.event,
        key_id=key_id,
        payload_commit=payload_commit,
        ref_commit=commit(salt, new.ref),
        opening_sealed=envelope.seal(key, _place(payload_commit), salt + body),
    )
    entry.row_commit = row_commit(entry, own)
    return entry


def open_entry(entry: LedgerEntry, key_of: KeyOf = keys.data_key) -> Opening:
    """The salt and payload of an entry. Raises keys.KeyDestroyedError after erasure, TamperedError, KeyStoreError."""
    plain = unsealed(entry, key_of)
    return Opening(plain[:SALT_BYTES], entry.ref, json.loads(plain[SALT_BYTES:]))


def unsealed(entry: LedgerEntry, key_of: KeyOf = keys.data_key) -> bytes:
    """Salt and canonical payload, one behind the other; raises as `open_entry`."""
    return envelope.unseal(key_of(entry.key_id), _place(bytes(entry.payload_commit)), bytes(entry.opening_sealed))


def opens(entry: LedgerEntry, opening: Opening) -> bool:
    """Are the entry's two commitments those of this opening?"""
    return hmac.compare_digest(
        commit(opening.salt, opening.payload), bytes(entry.payload_commit)
    ) and hmac.compare_digest(commit(opening.salt, opening.ref), bytes(entry.ref_commit))


def row_key(house_key: bytes) -> bytes:
    """The key of `row_commit`, from one of the house's data keys."""
    return envelope.derive(house_key, "ledger/row")


def row_commit(entry: LedgerEntry, key: bytes) -> bytes:
    """Binds the columns under the house's key, which outlives every person's, and before there is a leaf.

    Without it, an entry could be pointed at an erased person's key, and its payload would count as erased.
    """
    columns = [
        bytes(entry.payload_commit).hex(),
        bytes(entry.ref_commit).hex(),
        entry.kind,
        entry.type,
        iso(entry.at),
        entry.key_id,
        entry.ref,
        entry.source,
        entry.event_id,
    ]
    return hmac.digest(key, canonical(columns), "sha256")


def event_payload(event: Event) -> dict[str, Any]:
    """What an entry of kind consent commits to."""
    return {
        "id": event.pk,
        "consent": event.consent_id,
        "at": iso(event.at),
        "type": event.type,
        "state": event.state,
        "code": event.code,
        "data": event.data,
    }


def append_event(event: Event, key_id: str) -> LedgerEntry:
    """The entry of one consent event, under the person's key."""
    return append(
        LedgerEntry.Kind.CONSENT,
        event.type,
        event_payload(event),
        key_id=key_id,
        ref=event.consent_id,
        event=event,
        source=f"event:{event.pk}",
        at=event.at,
    )


def attestation_payload(attestation: Attestation) -> dict[str, Any]:
    """What the entry of an account's declaration commits to; the statement counts by its sealed bytes."""
    return {
        "id": attestation.pk,
        "at": iso(attestation.at),
        "organisation": attestation.organisation_id,
        "kind": attestation.kind,
        "basis": attestation.basis,
        "target_sha256": attestation.target_sha256,
        "statement_sha256": hashlib.sha256(bytes(attestation.statement_sealed or b"")).hexdigest(),
        "locale": attestation.locale,
        "text_sha256": attestation.text_sha256,
        "text_version": attestation.text_version,
        "ticks": attestation.ticks,
        "made_by": attestation.made_by,
        "key": attestation.key_id,
    }


def append_attestation(attestation: Attestation) -> LedgerEntry:
    """The entry of a declaration, under the house's key: the declaration is the account's, not a person's."""
    return append(
        LedgerEntry.Kind.CONSENT,
        "attested",
        attestation_payload(attestation),
        ref=attestation.pk,
        source=f"attestation:{attestation.pk}",
        at=attestation.at,
    )


def audit_payload(record: AuditRecord) -> dict[str, Any]:
    """What an entry of kind audit commits to. Raises keys.KeyDestroyedError once the reason is erased."""
    return {
        "id": record.pk,
        "at": iso(record.at),
        "actor": record.actor_id,
        "action": record.action,
        "subject": record.subject_ref,
        "reason": record.reason,
    }


def audit(actor_id: str, action: str, subject_ref: str, reason: str, *, key_id: str = "") -> AuditRecord:
    """Record that somebody of the house did or looked at something: a row to read, and its entry.

    Ids only in `actor_id`, `action` and `subject_ref`. The reason is the actor's own words and lies sealed, under
    `key_id` of the person it is about, or the house's own. Opens a transaction if there is none.
    """
    with transaction.atomic():
        record = AuditRecord(
            id=audit_id(),
            at=timezone.now(),
            actor_id=actor_id,
            action=action,
            subject_ref=subject_ref,
            key_id=key_id or house.house_key(),
        )
        if reason:
            record.reason_sealed = record.seal("reason", reason)
        record.save(force_insert=True)
        append(
            LedgerEntry.Kind.AUDIT,
            action,
            audit_payload(record),
            key_id=record.key_id,
            ref=subject_ref,
            source=f"audit:{record.pk}",
            at=record.at,
        )
    return record


def iso(moment: datetime) -> str:
    """A moment to the microsecond, in UTC, always of one shape."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _place(payload_commit: bytes) -> bytes:
    return b"consent_ledgerentry|opening|" + payload_commit
