"""From a soft binding, or from a copy that carries one, to the manifests we hold: the C2PA resolution look-up.

A manifest counts only if algorithm and value are those of its own soft binding (C2PA 2.2 section 18.10.5.1). What was
found by a mark is returned only where the content was compared and fits: a mark alone can be carried over. What merely
looks alike, by its fingerprint, is returned with the lower score it has; our manifests bind no fingerprint, so whoever
asks has to look. Permission plays no part: a manifest stays true when permission ends, and its status page says so.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from pathlib import Path

from watermark.credentials import MARK_ALGORITHM
from watermark.jumbf import active_manifest
from webapp.jobs.models import Output
from webapp.verify import services
from webapp.verify.errors import QueryError
from webapp.verify.records import PublishedOutputs
from worker.media.errors import MediaError

FINGERPRINT_ALGORITHM = "io.imprimatur.fingerprint.1"
ALGORITHMS = (MARK_ALGORITHM, FINGERPRINT_ALGORITHM)
UNRELATED_BITS = 128  # of 256, in which the fingerprints of two unrelated pictures differ
MARK_BYTES = 8
LONGEST_VALUE = 4096
# urn:c2pa:UUID, then perhaps the claim generator's name and a version (C2PA 2.2 section 8.1)
_LABEL = re.compile(
    r"urn:(c2pa|uuid):[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(:[\x21-\x39\x3b-\x7e]{0,64}){0,3}", re.IGNORECASE
)
_SECOND = re.compile(rb"[A-Za-z0-9+/_-]{11}=?")


@dataclass(frozen=True)
class Match:
    """A manifest that was found; `score` 0..100."""

    manifest_id: str
    score: int


def decode_binding(alg: str, value: str) -> bytes:
    """The mark id that a soft binding names. Raises QueryError.

    `value` is base64 of the 8 bytes. In the manifest the value is that base64 as text, so base64 of this text is taken
    as well; so is the URL-safe alphabet, and a plus sign that became a space on its way through an address.
    """
    if alg != MARK_ALGORITHM:
        raise QueryError(
            "algorithm_unsupported",
            "This service does not know the soft binding algorithm. See services/supportedAlgorithms.",
        )
    decoded = _base64(value.replace(" ", "+"))
    if decoded is not None and len(decoded) != MARK_BYTES and _SECOND.fullmatch(decoded):
        decoded = _base64(decoded.decode("ascii"))
    if decoded is None or len(decoded) != MARK_BYTES:
        raise QueryError("value_invalid", f"The value must be {MARK_BYTES} bytes in base64.")
    return decoded


def by_binding(mark_id: bytes, limit: int) -> list[Match]:
    """The manifests bound by this mark id; an id is unique, so at most one."""
    labels = Output.objects.filter(mark_id=mark_id).values_list("manifest_label", flat=True)
    return [Match(label, 100) for label in labels[:limit]]


def by_content(path: Path, limit: int, *, alg: str = "", hint: bytes | None = None) -> list[Match]:
    """The manifests of what the file at `path` shows, best first.

    `alg` narrows the search to one algorithm. `hint` is a mark id the asker has from elsewhere: its manifest counts
    where the content fits. Raises MediaError for what is no readable photo or video.
    """
    if alg not in ("", *ALGORITHMS):
        return []
    examined = services.examine(path, hint=hint)
    found = examined.verdict()
    if found.code == "unreadable":
        raise MediaError("not_media", found.sentence)
    matches: dict[str, int] = {}
    if found.output is not None:
        share = examined.evidence.content.share if examined.evidence.content else None
        matches[found.output.manifest_label] = 100 if share is None else round(100 * share)
    hinted = examined.hinted
    record = PublishedOutputs().by_id(hinted.output_id) if hinted and hinted.matches else None
    if record is not None and hinted is not None:
        matches.setdefault(record.manifest_label, round(100 * (hinted.share or 0.0)))
    if alg != MARK_ALGORITHM:
        for each in examined.evidence.possible:
            matches.setdefault(each.manifest_label, round(100 * (1 - each.pdq_distance / UNRELATED_BITS)))
    ranked = sorted(matches.items(), key=lambda one: -one[1])
    return [Match(label, score) for label, score in ranked[:limit]]


@dataclass(frozen=True)
class Stored:
    """A manifest from our records, and the output it belongs to."""

    content: bytes
    output_id: str


def manifest(label: str, *, active_only: bool) -> Stored:
    """The manifest store with this active manifest, or that manifest alone. Raises QueryError."""
    if len(label) > 200 or not _LABEL.fullmatch(label):
        raise QueryError("manifest_id_invalid", "This is not the id of a C2PA manifest (urn:c2pa:…).")
    row = Output.objects.filter(manifest_label=label).values("pk", "manifest_store").first()
    if row is None:
        raise QueryError("not_found", "No manifest with this id is kept here.", status=404)
    store = bytes(row["manifest_store"])
    return Stored(active_manifest(store) if active_only else store, row["pk"])


def _base64(text: str) -> bytes | None:
    if len(text) > LONGEST_VALUE:
        return None
    try:
        padded = text.replace("-", "+").replace("_", "/").rstrip("=")
        return base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
