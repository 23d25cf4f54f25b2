"""Signatures as Standard Webhooks has them: `v1` with a shared secret, `v1a` with an Ed25519 key.

https://www.standardwebhooks.com: what is signed is `id.timestamp.body`; the header holds one signature per key,
separated by blanks, so that a receiver finds the one it knows during a rotation.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SECRET_HEAD = "whsec_"  # noqa: S105 - the prefix of every secret, not one
PUBLIC_HEAD = "whpk_"
SECRET_BYTES = 32


def new_secret() -> str:
    """A fresh shared secret: `whsec_` and 32 random bytes in base64."""
    return SECRET_HEAD + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def new_seed() -> str:
    """The seed of a fresh Ed25519 key, in base64."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def public_key(seed: str) -> str:
    """The public key of a seed: `whpk_` and its 32 bytes in base64."""
    return PUBLIC_HEAD + base64.b64encode(_key(seed).public_key().public_bytes_raw()).decode()


def sign(message_id: str, timestamp: int, body: bytes, *, shared: Sequence[str], seed: str) -> str:
    """The value of the header `webhook-signature`: a `v1` per shared secret, then a `v1a`."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    found = [
        "v1," + base64.b64encode(hmac.new(_raw(secret), signed, hashlib.sha256).digest()).decode() for secret in shared
    ]
    found.append("v1a," + base64.b64encode(_key(seed).sign(signed)).decode())
    return " ".join(found)


def _raw(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(SECRET_HEAD))


def _key(seed: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(seed))
