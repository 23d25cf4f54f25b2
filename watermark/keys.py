"""Keys of the invisible mark: who holds one can read, and could forge, the marks written with it."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from watermark.mark_errors import MarkError

KEY_BYTES = 32
_PURPOSE = b"imprimatur invisible mark v1"


@dataclass(frozen=True)
class MarkKey:
    """One mark key: `name` is public and stored with records, `key` is 32 secret bytes (kept out of `repr`)."""

    name: str
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES:
            raise MarkError(
                "key",
                f"A mark key has {KEY_BYTES} bytes, this one {len(self.key)}. Nothing was marked. "
                "Derive it with derive_mark_key.",
            )


def derive_mark_key(master: bytes, *, deployment: str, year: int) -> MarkKey:
    """Derive the mark key of one deployment and year (HKDF-SHA256, RFC 5869; the purpose is bound into `info`).

    `master` is the deployment's master secret (at least 16 bytes). A new year gives an unrelated key, so a leaked one
    stops at its year.
    """
    if len(master) < 16:
        raise MarkError(
            "key", "The master secret is shorter than 16 bytes. Nothing was marked. Set a longer master secret."
        )
    name = f"{deployment}/{year}"
    # The length prefix keeps ("a", "b/2026") and ("a/b", 2026) apart.
    info = b"|".join((_PURPOSE, str(len(deployment)).encode(), deployment.encode(), str(year).encode()))
    return MarkKey(name, HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(master))


def keyed_words(key: bytes, purpose: str, count: int) -> NDArray[np.uint64]:
    """Draw `count` keyed pseudo-random uint64: SHAKE-256 over HMAC-SHA256(key, purpose).

    A hash stream and not a numpy generator, because a mark must still be readable with next year's numpy.
    """
    seed = hmac.new(key, _PURPOSE + b"|" + purpose.encode(), hashlib.sha256).digest()
    return np.frombuffer(hashlib.shake_256(seed).digest(8 * count), "<u8").astype(np.uint64)


def keyed_phases(key: bytes, purpose: str, count: int) -> NDArray[np.float64]:
    """Draw `count` keyed phases, uniform in [0, 2 pi) radians."""
    return (keyed_words(key, purpose, count) >> np.uint64(11)).astype(np.float64) * (2 * np.pi / 2.0**53)


def keyed_permutation(key: bytes, purpose: str, count: int) -> NDArray[np.int64]:
    """Draw a keyed permutation of range(count)."""
    return np.argsort(keyed_words(key, purpose, count), kind="stable")
