"""Is this receipt real? Pure: a text and public keys in, an answer out; no database, no network, no settings.

A receipt is real if a receipt key signed exactly these bytes, the log's entry that it opens is the very event it speaks
of, that entry stands in the tree the checkpoint signs, a key of the log signed the checkpoint, and its dates can be.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import OKPKey

from consent.ledger.canonical import canonical, commit
from consent.ledger.errors import LedgerError
from consent.ledger.notes import Checkpoint, Verifier, open_checkpoint
from consent.ledger.tree import leaf_hash, verify_inclusion

TYPE = "consent-receipt+jwt"
ALGORITHM = "EdDSA"
LONGEST = 256 << 10  # bytes of a receipt as text
LONGEST_FILE = 8 << 20  # of a PDF that has one attached
SKEW = timedelta(minutes=5)
ATTACHED_AS = "receipt.jwt"

_JWS = re.compile(r"[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{86}")
_IN_BYTES = re.compile(rb"eyJ[A-Za-z0-9_-]{16,2000}\.eyJ[A-Za-z0-9_-]{16,262144}\.[A-Za-z0-9_-]{86}")

MESSAGES = {
    "unreadable": "No receipt was found in this file. Use receipt.jwt, receipt.json, or the PDF as it was made.",
    "changed": "The signature does not fit: this was changed, cut or made up. Ask the person for their own file.",
    "unknown_key": "It was signed with a key that is not among the given ones. Get the issuer's jwks.json again.",
    "log_wrong": "The signature fits, but the proof from the log does not. Do not rely on it; tell the operator.",
    "dates_wrong": "The signature fits, but its dates cannot be. Do not rely on it; tell the operator.",
}


class ReceiptError(Exception):
    """What was given is not a real receipt; `code` is a key of MESSAGES. Nothing was changed by asking."""

    def __init__(self, code: str, detail: str = "") -> None:
        self.code = code
        self.message = MESSAGES[code]
        self.detail = detail
        super().__init__(f"{self.message} ({detail})" if detail else self.message)


@dataclass(frozen=True)
class CheckedReceipt:
    """A real receipt: what was signed, where it stands in the log, and what was found on the way."""

    body: dict[str, Any]
    kid: str
    index: int
    size: int
    origin: str
    steps: tuple[str, ...] = field(default=())

    @property
    def receipt_id(self) -> str:
        return str(self.body["dct:identifier"])

    @property
    def record(self) -> dict[str, Any]:
        """The consent record in it."""
        record: dict[str, Any] = self.body["dpv:hasRecordOfActivity"]
        return record

    @property
    def consent_id(self) -> str:
        return str(self.record["dct:identifier"])

    @property
    def issuer(self) -> str:
        return str(self.body["iss"])


def receipt_in(data: bytes) -> str:
    """The compact JWS in a file: the text itself, our JSON, or a PDF it is attached to. Raises ReceiptError.

    Of a JSON file the readable part must say what was signed, or a reader would trust words that nobody signed.
    """
    if len(data) > LONGEST_FILE:
        raise ReceiptError("unreadable", "too large")
    if data.lstrip()[:5] == b"%PDF-":
        found = set(_IN_BYTES.findall(data))
        if len(found) != 1:
            raise ReceiptError("unreadable", "the PDF has no receipt attached, or several")
        return str(found.pop(), "ascii")
    if len(data) > LONGEST:
        raise ReceiptError("unreadable", "too large")
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise ReceiptError("unreadable") from None
    if text.startswith("{"):
        return _from_json(text)
    text = "".join(text.split())  # a mail program may have broken the lines
    if not _JWS.fullmatch(text):
        raise ReceiptError("unreadable")
    return text


def verify_receipt(text: str, jwks: Mapping[str, Any], *, now: datetime | None = None) -> CheckedReceipt:
    """Verify a compact JWS against public keys (RFC 7517; those with `use` "sig": the receipts' and the log's).

    Raises ReceiptError: unreadable, unknown_key, changed, log_wrong, dates_wrong.
    """
    now = now or datetime.now(UTC)
    if len(text) > LONGEST or not _JWS.fullmatch(text):
        raise ReceiptError("unreadable")
    header = _object(_decoded(text.split(".", maxsplit=1)[0]))
    if set(header) != {"alg", "kid", "typ"} or header["alg"] != ALGORITHM or header["typ"] != TYPE:
        raise ReceiptError("changed", "its header is not that of a receipt")
    key = _key(jwks, header["kid"])
    body = _object(_signed(text, key))
    try:
        _check_shape(body)
        index, size, origin = _check_log(body, verifiers_of(jwks))
        _check_dates(body, now)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        # Signed by us, and yet not of our shape: from a newer house, or a fault of ours.
        raise ReceiptError("log_wrong", f"a part of it is missing or malformed: {type(error).__name__}") from error
    return CheckedReceipt(
        body,
        header["kid"],
        index,
        size,
        origin,
        (
            f"The signature of key {header['kid']} is right.",
            "The entry of the log that it opens says the same: which record, when, what was agreed.",
            f"That entry stands in the log {origin} as number {index} of {size}.",
            "The log's key signed that state of the log.",
            "Its dates are in order.",
        ),
    )


def body_of(text: str) -> dict[str, Any]:
    """What a receipt says, unverified: for receipts that lie sealed in this house. Raises ReceiptError."""
    parts = text.split(".")
    return _object(_decoded(parts[1])) if len(parts) == 3 else _object(b"")


def _signed(text: str, key: OKPKey) -> bytes:
    """The signed payload, if the signature is right and every part is written in its one canonical form."""
    try:
        found = jws.deserialize_compact(text, key, registry=_REGISTRY)
    except (JoseError, ValueError, TypeError) as error:
        raise ReceiptError("changed") from error
    for part in text.split("."):
        # The last character of base64 has spare bits: without this, a changed text could decode to what was signed.
        if base64.urlsafe_b64encode(_decoded(part)).rstrip(b"=").decode() != part:
            raise ReceiptError("changed")
    return bytes(found.payload)


def check_entry(
    opened: Mapping[str, Any], verifiers: Sequence[Verifier], *, ref: str
) -> tuple[dict[str, Any], Checkpoint]:
    """(leaf, checkpoint) of an opened entry (index, size, leaf, path, salt, payload, checkpoint) of kind consent.

    Everything from what it commits to (the payload, and `ref`) up to the checkpoint's signature has to fit. Raises
    ReceiptError log_wrong; KeyError, TypeError, ValueError for what is malformed.
    """
    leaf_text, salt = opened["leaf"].encode(), _decoded(opened["salt"])
    leaf, index = _object(leaf_text), opened["index"]
    try:
        checkpoint = open_checkpoint(opened["checkpoint"], verifiers)
        sound = canonical(leaf) == leaf_text
        commits = [commit(salt, opened["payload"]).hex(), commit(salt, ref).hex()]
    except LedgerError as error:
        raise ReceiptError("log_wrong", "the checkpoint is not signed by a key of the log") from error
    if type(index) is not int or opened["size"] != checkpoint.size or leaf["seq"] != index:
        raise ReceiptError("log_wrong", "it names another place in the log than the entry does")
    path = [bytes.fromhex(step) for step in opened["path"]]
    if not verify_inclusion(leaf_hash(leaf_text), index, checkpoint.size, path, checkpoint.root):
        raise ReceiptError("log_wrong", "the entry is not in that state of the log")
    if not sound or leaf["kind"] != "consent":
        raise ReceiptError("log_wrong", "the entry of the log is of another kind")
    if commits != [leaf["payload_commit"], leaf["ref_commit"]]:
        raise ReceiptError("log_wrong", "the entry of the log commits to something else")
    return leaf, checkpoint


def _check_log(body: dict[str, Any], verifiers: Sequence[Verifier]) -> tuple[int, int, str]:
    """(index, size, origin) of the entry, if it is the very event the receipt speaks of."""
    log, record = body["imp:log"], body["dpv:hasRecordOfActivity"]
    leaf, checkpoint = check_entry(log, verifiers, ref=record["dct:identifier"])
    if leaf["type"] != "given" or not _same_event(record, log["payload"]):
        raise ReceiptError("log_wrong", "the event in the log is not the one it speaks of")
    return log["index"], checkpoint.size, checkpoint.origin


def _same_event(record: Mapping[str, Any], payload: Mapping[str, Any]) -> bool:
    """Does the committed event say what the receipt says was agreed?"""
    data, scope = payload["data"], record["dpv:hasProcess"]["imp:scope"]
    return bool(
        payload["consent"] == record["dct:identifier"]
        and payload["type"] == payload["state"] == "given"
        and data["purposes"] == scope["imp:purposes"]
        and data["photos"] == scope["imp:photos"]
        and data["notice_sha256"] == record["dpv:hasNotice"]["imp:sha256"]
        and data["assurance"] == record["imp:assurance"]
        and _moment(data["valid_until"]) == _moment(scope["imp:validUntil"])
    )


def _check_shape(body: dict[str, Any]) -> None:
    """The few things that whoever shows a receipt relies on. Raises KeyError, TypeError."""
    record, scope = body["dpv:hasRecordOfActivity"], body["dpv:hasRecordOfActivity"]["dpv:hasProcess"]["imp:scope"]
    texts = [body["iss"], body["dct:identifier"], record["dct:identifier"], record["imp:assurance"], scope["imp:role"]]
    texts += [record["dpv:hasNotice"]["imp:sha256"], *scope["imp:purposes"], *scope["imp:photos"]]
    if not all(isinstance(text, str) for text in texts) or type(scope["imp:maxOutputs"]) is not int:
        raise TypeError
    if body["@type"] != "dpv:ConsentReceipt" or body["jti"] != body["dct:identifier"]:
        raise ValueError


def _check_dates(body: dict[str, Any], now: datetime) -> None:
    scope = body["dpv:hasRecordOfActivity"]["dpv:hasProcess"]["imp:scope"]
    issued, start, end = (
        _moment(text) for text in (body["dct:created"], scope["imp:validFrom"], scope["imp:validUntil"])
    )
    given = _moment(_object(body["imp:log"]["leaf"].encode())["time"])
    if body["iat"] != int(issued.timestamp()):
        raise ReceiptError("dates_wrong", "it names two times at which it was made")
    if issued > now + SKEW:
        raise ReceiptError("dates_wrong", "it was made in the future")
    if not start < end or start > issued + SKEW or abs(given - start) > SKEW:
        raise ReceiptError("dates_wrong", "it was made before the permission was given, or that ended before it began")


def _key(jwks: Mapping[str, Any], kid: Any) -> OKPKey:
    for each in _jwks(jwks):
        if each.get("kid") == kid and each.get("kty") == "OKP" and each.get("crv") == "Ed25519":
            try:
                key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": each["x"]})
            except (JoseError, ValueError, KeyError, TypeError):
                continue
            # A receipt key is named by its own thumbprint, so a set cannot pass one key off as another.
            if key.thumbprint() == kid:
                return key
    raise ReceiptError("unknown_key")


def verifiers_of(jwks: Mapping[str, Any]) -> list[Verifier]:
    """The keys of the log: named `origin+key id`, as in its notes."""
    found = []
    for each in _jwks(jwks):
        name, _, key_id = str(each.get("kid", "")).rpartition("+")
        if name and each.get("kty") == "OKP" and each.get("crv") == "Ed25519":
            verifier = Verifier(name, _decoded(str(each.get("x", ""))))
            if verifier.key_id.hex() == key_id:
                found.append(verifier)
    return found


def _jwks(jwks: Mapping[str, Any]) -> list[dict[str, Any]]:
    keys = jwks.get("keys") if isinstance(jwks, Mapping) else None
    return [each for each in keys if isinstance(each, dict)] if isinstance(keys, list) else []


def _from_json(text: str) -> str:
    whole = _object(text.encode())
    found = whole.get("jws")
    if not isinstance(found, str) or not _JWS.fullmatch(found):
        raise ReceiptError("unreadable")
    if "receipt" in whole and whole["receipt"] != body_of(found):
        raise ReceiptError("changed", "its readable part does not say what was signed")
    return found


def _object(data: bytes) -> dict[str, Any]:
    """Strict JSON: an object, no name twice, no NaN."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name twice")
        return found

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        found = json.loads(data, object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise ReceiptError("changed", "a part of it is not JSON") from None
    if not isinstance(found, dict):
        raise ReceiptError("changed", "a part of it is not an object")
    return found


def _decoded(text: str) -> bytes:
    """base64url without padding (RFC 7515 section 2)."""
    try:
        return base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise ReceiptError("changed", "a part of it is not base64url") from None


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("a time without its zone")
    return found


# RFC 9864 gives Ed25519 a name of its own; the readers of today know it as EdDSA, and the key says which curve it is.
warnings.filterwarnings("ignore", "EdDSA is deprecated", SecurityWarning)
_REGISTRY = jws.JWSRegistry(algorithms=[ALGORITHM])
