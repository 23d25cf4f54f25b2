"""The house's Ed25519 keys for receipts: drawn at the first use, rotated by command, published for ever.

The seed is a data key of the key store, so it is wrapped by the master key and is the same on every machine of the
house. Rotation destroys the old seed and keeps the public key: nothing is signed with it again, and old receipts still
verify.
"""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from django.db import transaction
from django.utils import timezone
from joserfc.jwk import OKPKey

from consent import envelope, keys
from consent.receipts.models import ReceiptKey

OWNER = "house:receipts"


def signing_key() -> tuple[str, OKPKey]:
    """(kid, private key) of today, made at the first use. Raises keys.KeyStoreError."""
    current = ReceiptKey.objects.filter(retired_at__isnull=True).order_by("created_at", "kid").last()
    if current is None:
        current = _draw()
    return current.kid, OKPKey.import_key(_private(current.key_id))


def rotate() -> str:
    """Sign with a new key from now on; returns its kid. Earlier public keys stay published."""
    before = list(ReceiptKey.objects.filter(retired_at__isnull=True))
    new = _draw()
    with transaction.atomic():
        ReceiptKey.objects.filter(pk__in=[key.pk for key in before]).update(retired_at=timezone.now())
    for key in before:
        keys.destroy_key(key.key_id)
    return new.kid


def public_jwks() -> list[dict[str, Any]]:
    """Every public key that ever signed a receipt, as JWKs (RFC 7517, RFC 8037), oldest first."""
    return [_jwk(key) for key in ReceiptKey.objects.order_by("created_at", "kid")]


def _draw() -> ReceiptKey:
    key_id = keys.create_key(OWNER)
    public = _private(key_id).public_key()
    return ReceiptKey.objects.create(
        kid=OKPKey.import_key(public).thumbprint(), public=public.public_bytes_raw(), key_id=key_id
    )


def _private(key_id: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(envelope.derive(keys.data_key(key_id), "receipt signing"))


def _jwk(key: ReceiptKey) -> dict[str, Any]:
    public = OKPKey.import_key(Ed25519PublicKey.from_public_bytes(bytes(key.public)))
    return {**public.as_dict(private=False), "kid": key.kid, "use": "sig", "alg": "EdDSA"}
