"""Does an evidence pack hold together? Pure: a ZIP and public keys in, findings out."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from consent.receipts.check import ReceiptError, check_entry, verifiers_of, verify_receipt

LARGEST = 64 << 20  # bytes of all files of a pack together, unpacked


class EvidenceError(Exception):
    """The pack is not what it says; `code`: pack_unreadable, pack_event, pack_record, pack_receipt, pack_keys."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class CheckedPack:
    """A pack in which everything fits."""

    consent_id: str
    events: int
    waiting: int
    receipt: bool
    own_keys: bool


def check_pack(data: bytes, jwks: Mapping[str, Any] | None = None, *, now: datetime | None = None) -> CheckedPack:
    """Check every event against the log, the words against their hash, and the receipt. Raises EvidenceError.

    `jwks` are keys from elsewhere; without them the pack's own are used, which proves that it fits together only.
    """
    files = _files(data)
    try:
        record, proofs = json.loads(files["record.json"]), json.loads(files["proofs.json"])
        keys = jwks if jwks is not None else json.loads(files["jwks.json"])
        consent_id, events = str(record["consent"]), {event["id"]: event for event in record["events"]}
        verifiers = verifiers_of(keys)
        if not verifiers:
            raise EvidenceError("pack_keys", "There is no key of a log among the keys. Get the issuer's jwks.json.")
        proven = set()
        for proof in proofs["proofs"]:
            _check_event(proof, events, consent_id, verifiers)
            proven.add(proof["event"])
        waiting = set(proofs["not_yet_in_the_log"])
        if proven | waiting != set(events) or proven & waiting:
            raise EvidenceError("pack_event", "The events and the proofs are not the same ones. Do not rely on it.")
        _check_words(record, events)
        if "receipt.jwt" in files:
            _check_receipt(files["receipt.jwt"].decode(), keys, record, now)
        elif any(event["type"] == "given" and event["id"] in proven for event in events.values()) and record["receipt"]:
            raise EvidenceError("pack_receipt", "The receipt is missing from the pack. Do not rely on it.")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise EvidenceError(
            "pack_unreadable", f"A part of the pack is missing or malformed ({type(error).__name__}). Get it again."
        ) from error
    return CheckedPack(consent_id, len(proven), len(waiting), "receipt.jwt" in files, jwks is None)


def _check_event(proof: dict[str, Any], events: dict[int, Any], consent_id: str, verifiers: Any) -> None:
    event, payload = events[proof["event"]], proof["payload"]
    try:
        leaf, _ = check_entry(proof, verifiers, ref=consent_id)
    except ReceiptError as error:
        raise EvidenceError("pack_event", f"Event {proof['event']}: {error.detail}. Do not rely on it.") from error
    same = all(payload[name] == event[name] for name in ("id", "type", "state", "code", "data"))
    moments = {datetime.fromisoformat(text) for text in (payload["at"], event["at"], leaf["time"])}
    if not same or len(moments) != 1 or payload["consent"] != consent_id or leaf["type"] != event["type"]:
        raise EvidenceError("pack_event", f"Event {proof['event']} differs from its entry in the log.")


def _check_words(record: dict[str, Any], events: dict[int, Any]) -> None:
    """The text has the hash that the person's yes committed to, and the granted scope is the committed one."""
    given = next((event for event in events.values() if event["type"] == "given"), None)
    if given is None:
        return
    notice = record["notice"]
    if hashlib.sha256(notice["text"].encode()).hexdigest() != notice["sha256"]:
        raise EvidenceError("pack_record", "The text is not the one whose hash stands beside it. Do not rely on it.")
    scope, data = record["scope"], given["data"]
    if (
        notice["sha256"] != data["notice_sha256"]
        or scope["imp:purposes"] != data["purposes"]
        or scope["imp:photos"] != data["photos"]
        or datetime.fromisoformat(scope["imp:validUntil"]) != datetime.fromisoformat(data["valid_until"])
        or record["state"] != list(events.values())[-1]["state"]
    ):
        raise EvidenceError("pack_record", "The record differs from what was committed to. Do not rely on it.")


def _check_receipt(text: str, keys: Mapping[str, Any], record: dict[str, Any], now: datetime | None) -> None:
    try:
        checked = verify_receipt(text, keys, now=now)
    except ReceiptError as error:
        raise EvidenceError("pack_receipt", f"The receipt is not real ({error.code}). {error.message}") from error
    if checked.consent_id != record["consent"]:
        raise EvidenceError("pack_receipt", "The receipt is about another record. Do not rely on it.")


def _files(data: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if len(infos) > 100 or sum(info.file_size for info in infos) > LARGEST:
                raise EvidenceError("pack_unreadable", "This is larger than a pack can be. Nothing was checked.")
            if len({info.filename for info in infos}) != len(infos):
                raise EvidenceError("pack_unreadable", "The pack has one file twice. Nothing was checked.")
            return {info.filename: archive.read(info) for info in infos}
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise EvidenceError("pack_unreadable", "This is not an evidence pack (ZIP). Nothing was checked.") from error
