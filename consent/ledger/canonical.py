"""One byte string for one JSON value (RFC 8785), and the commitments made of it. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

import rfc8785

from consent.ledger.errors import LedgerError

SALT_BYTES = 32


def canonical(value: Any) -> bytes:
    """The RFC 8785 form of a JSON value. Raises LedgerError payload_invalid for what JSON cannot say exactly."""
    try:
        # As it comes back from a database column: tuples are lists, keys are text.
        return rfc8785.dumps(json.loads(json.dumps(value)))
    except (TypeError, ValueError, RecursionError) as error:
        raise LedgerError(
            "payload_invalid",
            f"This cannot be committed to ({error}); nothing was written. Commit to texts, whole numbers and lists.",
            status=500,
        ) from error


def commit(salt: bytes, value: Any) -> bytes:
    """HMAC-SHA256 of a JSON value's canonical form under a secret salt: binds, and tells nothing without the salt."""
    return hmac.digest(salt, canonical(value), "sha256")


def leaf_of(
    *, seq: int, time: str, kind: str, type: str, ref_commit: bytes, payload_commit: bytes, row_commit: bytes
) -> bytes:
    """The bytes of a leaf: what anybody may read. Ids and payload appear as commitments only."""
    leaf: Mapping[str, Any] = {
        "v": 1,
        "seq": seq,
        "time": time,
        "kind": kind,
        "type": type,
        "ref_commit": ref_commit.hex(),
        "payload_commit": payload_commit.hex(),
        "row_commit": row_commit.hex(),
    }
    return canonical(leaf)


def link(previous: bytes, leaf: bytes) -> bytes:
    """The next value of the chain: SHA-256(previous || leaf); the first link's previous are 32 zero bytes."""
    return hashlib.sha256(previous + leaf).digest()


CHAIN_START = bytes(32)
