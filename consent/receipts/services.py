"""Receipts: issued once the person's yes stands in a signed checkpoint of the log, kept sealed, mailed, published keys.

A receipt carries everything a check needs (`receipt_check`), so that it can be verified years later without this house.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import secrets
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from joserfc import jws

from consent import keys, ledger
from consent.ledger import house
from consent.ledger.entries import open_entry
from consent.mail import link as page_link
from consent.models import Consent
from consent.receipts import keys as receipt_keys
from consent.receipts.body import receipt_body
from consent.receipts.check import (
    ALGORITHM,
    TYPE,
    CheckedReceipt,
    ReceiptError,
    body_of,
    receipt_in,
    verify_receipt,
)
from consent.receipts.models import Receipt, receipt_id
from consent.subjects import is_email
from webapp.outbox.services import enqueue

__all__ = [
    "CheckedReceipt",
    "ReceiptError",
    "body_of",
    "house_receipt_of",
    "issue_due",
    "jwks",
    "receipt_in",
    "receipt_of",
    "receipt_row",
    "verify_receipt",
    "withdraw_link",
]

logger = logging.getLogger(__name__)

MAIL_TOPIC = "consent_receipt_mail"


def receipt_of(consent: Consent) -> str | None:
    """The person's receipt as a compact JWS; None until their yes stands in a checkpoint of the log.

    It holds their link: for their own eyes. Raises keys.KeyDestroyedError after erasure.
    """
    row = receipt_row(consent)
    return row.jws if row else None


def house_receipt_of(consent: Consent) -> str | None:
    """The same without the link (its hash stands there): what the operator may hand on as evidence."""
    row = receipt_row(consent)
    return row.house_jws if row else None


def receipt_row(consent: Consent) -> Receipt | None:
    """The receipt as issued, if it was."""
    return Receipt.objects.filter(consent_id=consent.pk).first()


def withdraw_link(body: dict[str, Any]) -> str:
    """Where a receipt's holder withdraws; "" in the house's copy."""
    return str(body["dpv:hasRecordOfActivity"]["dpv:hasConsentControl"].get("schema:url", ""))


def jwks() -> dict[str, Any]:
    """The public keys of receipts and of the log's checkpoints (RFC 7517), those of old ones included."""
    log = [
        {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": base64.urlsafe_b64encode(each.public).rstrip(b"=").decode(),
            "kid": f"{each.name}+{each.key_id.hex()}",  # as in the first two parts of its C2SP form
            "use": "sig",
            "alg": ALGORITHM,
        }
        for each in house.verifiers()
    ]
    return {"keys": [*receipt_keys.public_jwks(), *log]}


def issue_due(limit: int = 50, *, within: timedelta | None = None) -> int:
    """Issue the receipts whose time has come; returns how many. Run at any time, by anybody.

    `within`: only of permissions given so recently, which an index finds; what asks each second asks so.
    Newest first, so that one that cannot be issued (a key store away, a damaged row) keeps nobody else waiting.
    """
    due = Consent.objects.filter(
        receipt__isnull=True,
        subject__erased_at__isnull=True,
        events__type="given",
        events__ledger_entry__seq__isnull=False,
    ).order_by("-given_at")
    if within is not None:
        due = due.filter(given_at__gt=timezone.now() - within)
    done = 0
    for consent in due[:limit]:
        try:
            done += issue(consent) is not None
        except keys.KeyDestroyedError:
            continue  # erased meanwhile
        except Exception as error:
            logger.warning("No receipt for %s yet: %s", consent.pk, type(error).__name__)
    return done


def issue(consent: Consent) -> Receipt | None:
    """The receipt of a permission, made now unless it was before; None while the log does not cover the yes.

    Raises keys.KeyStoreError, ledger.LedgerError.
    """
    if (made := receipt_row(consent)) is not None:
        return made
    event = consent.events.filter(type="given").select_related("ledger_entry").first()
    entry = getattr(event, "ledger_entry", None)
    proof = ledger.proof(entry) if entry is not None else None
    if entry is None or proof is None:
        return None
    opening = open_entry(entry)
    log = {
        "index": proof.index,
        "size": proof.size,
        "leaf": proof.leaf.decode(),
        "path": [step.hex() for step in proof.path],
        "checkpoint": proof.checkpoint,
        "salt": base64.urlsafe_b64encode(opening.salt).rstrip(b"=").decode(),
        "payload": opening.payload,
    }
    row = Receipt(id=receipt_id(), consent=consent, key_id=consent.key_id, ledger_index=proof.index)
    row.issued_at = timezone.now()
    token = secrets.token_urlsafe(32)
    row.token_sha256 = hashlib.sha256(token.encode()).hexdigest()
    row.kid, key = receipt_keys.signing_key()
    link = f"{page_link(token)}/withdraw"
    copies = {
        "person": {"schema:url": link},
        "house": {"imp:urlSha256": hashlib.sha256(link.encode()).hexdigest()},
    }
    signed = {copy: _sign(_claims(consent, row, copy, where, log), row.kid, key) for copy, where in copies.items()}
    row.jws_sealed = row.seal("jws", signed["person"])
    row.house_jws_sealed = row.seal("house_jws", signed["house"])
    row.sha256 = hashlib.sha256(signed["person"].encode()).hexdigest()
    try:
        with transaction.atomic():
            row.save(force_insert=True)
            if is_email(consent.subject.contact):
                enqueue(MAIL_TOPIC, {"consent": consent.pk})
    except IntegrityError:
        return receipt_row(consent)  # another process was faster; its link is the one that counts
    return row


def _claims(consent: Consent, row: Receipt, copy: str, link: dict[str, str], log: dict[str, Any]) -> dict[str, Any]:
    body = receipt_body(consent, receipt=row.pk, at=row.issued_at, copy=copy, link=link)
    return {
        "iss": settings.PUBLIC_URL,
        "iat": int(row.issued_at.timestamp()),
        "jti": row.pk,
        **body,
        "imp:log": log,
    }


def _sign(claims: dict[str, Any], kid: str, key: Any) -> str:
    header = {"alg": ALGORITHM, "typ": TYPE, "kid": kid}
    payload = json.dumps(claims, ensure_ascii=False, separators=(",", ":")).encode()
    return jws.serialize_compact(header, payload, key, registry=_REGISTRY)


_REGISTRY = jws.JWSRegistry(algorithms=[ALGORITHM])
