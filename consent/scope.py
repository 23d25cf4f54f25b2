"""What a permission allows, as one digest, written into the events that fix it: a row edited later differs from it.

A version names its columns for ever. Whoever adds a column that widens or narrows a permission adds a version with it;
events of earlier versions are still checked by theirs.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from consent.ledger.canonical import canonical
from consent.models import Consent

VERSION = 1

# Fixed by the question.
ASKED: dict[int, tuple[str, ...]] = {
    1: (
        "organisation_id",
        "subject_id",
        "key_id",
        "role",
        "livemode",
        "supersedes_id",
        "purposes",
        "photos",
        "targets",
        "max_outputs",
        "max_seconds",
        "max_total_seconds",
        "partners",
        "territories",
        "relationship",
        "intended_use_sealed",
        "no_sexual",
        "no_political",
        "valid_until",
        "assurance_asked",
    )
}
# Fixed by the answer as well; sealed columns count by their bytes, which a change of the master key leaves as they are.
ANSWERED: dict[int, tuple[str, ...]] = {
    1: (
        *ASKED[1],
        "assurance",
        "valid_from",
        "given_at",
        "notice_id",
        "notice_version",
        "notice_sha256",
        "notice_text_sealed",
        "typed_name_sealed",
        "ticks",
    )
}


def scope_digest(consent: Consent, *, answered: bool, version: int = VERSION) -> dict[str, Any]:
    """`{"v", "answered", "sha256"}` of the columns as they are in memory now."""
    columns = (ANSWERED if answered else ASKED)[version]
    values = {name: _plain(getattr(consent, name)) for name in columns}
    return {"v": version, "answered": answered, "sha256": hashlib.sha256(canonical(values)).hexdigest()}


def scope_matches(consent: Consent, digest: dict[str, Any]) -> bool:
    """Are the columns still those that were digested? An unknown version counts as no."""
    try:
        return scope_digest(consent, answered=bool(digest["answered"]), version=digest["v"]) == digest
    except (KeyError, TypeError):
        return False


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, bytes | memoryview):
        return hashlib.sha256(bytes(value)).hexdigest()
    return value
