"""What the manifest of an output is made from: opaque ids, the inputs' own credentials, and nothing else.

A request that holds anything readable is refused when it is made; see `manifest` for why.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from watermark.credentials import Credentials

PRODUCT_VERSION = "0.1.0"
FORMATS = ("image/jpeg", "image/png", "image/webp", "image/avif", "video/mp4", "video/quicktime")

_OPAQUE = re.compile(r"[A-Za-z0-9_.:-]{1,120}")
_RECORD = re.compile(r"(cns|att)_[0-9A-Za-z]{1,60}")
_TITLE = re.compile(r"[A-Za-z0-9 -]{0,80}")  # no dot, no slash: never a file name
_URL = re.compile(r"https?://[A-Za-z0-9.\-:\[\]]+(/[A-Za-z0-9._~/-]*)?")
_MIME = re.compile(r"(image|video|audio)/[a-z0-9.+-]{1,60}")

Role = Literal["face_donor", "target_person"]


class ManifestError(Exception):
    """A manifest could not be made. `code`: manifest_invalid, manifest_format, manifest_destination, manifest_source,
    manifest_signing, manifest_verification."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class IngredientFile:
    """An input of the job: its media type, what the media child found of Content Credentials in it, and its file.

    `path` is only needed for an input whose manifest is kept whole.
    """

    mime: str
    credentials: Credentials = field(default_factory=lambda: Credentials("none"))
    path: Path | None = None

    @property
    def kept_whole(self) -> bool:
        """Whether the input's own manifest travels on: it declares AI, it holds, and it shows and names nobody."""
        found = self.credentials
        sound = found.state in ("valid", "trusted") and found.bytes_match
        return self.path is not None and sound and found.declares_ai and not found.personal


@dataclass(frozen=True)
class ConsentRef:
    """One permission behind the output: an opaque record id (cns_…, or att_… for a rights attestation).

    `ledger_index` is its place in the ledger, where it has one.
    """

    record: str
    role: Role
    status: str = "given"
    ledger_index: int | None = None

    def to_dict(self) -> dict[str, str | int]:
        """As the assertion says it."""
        said: dict[str, str | int] = {"record": self.record, "role": self.role, "status": self.status}
        return said if self.ledger_index is None else {**said, "ledger_index": self.ledger_index}


@dataclass(frozen=True, kw_only=True)
class ManifestRequest:
    """Everything the manifest of one output will say.

    `mark_id` are the 8 bytes read back from the pixels. `when` is the moment of the edit, aware. `claim_version` is the
    version of Imprimatur written as the claim generator. `not_screened` names the kinds of screening that did not run.
    `screening_ref` and `status_url` are opaque: an id, and the permanent page that says whether permission holds.
    `model_set` is the id of the model files that made the edit, `models` names what swapped and what came after it.
    """

    mime: str
    target: IngredientFile
    sources: tuple[IngredientFile, ...]
    mark_id: bytes
    consent_refs: tuple[ConsentRef, ...]
    policy_version: str
    livemode: bool
    status_url: str
    screening_ref: str = ""
    title: str = ""
    claim_version: str = PRODUCT_VERSION
    when: datetime = field(default_factory=lambda: datetime.now(UTC))
    profile: str = ""
    not_screened: tuple[str, ...] = ()
    label_text: str = ""
    model_set: str = ""
    models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ManifestError manifest_format or manifest_invalid: nothing that is not opaque gets this far."""
        if self.mime not in FORMATS:
            raise ManifestError(
                "manifest_format",
                f"{clip(self.mime)} cannot carry our manifest. Nothing was written. "
                f"Write the output as one of {', '.join(FORMATS)}.",
            )
        checks: list[tuple[str, bool]] = [
            ("mark_id must be 8 bytes", len(self.mark_id) == 8),
            ("at least one source photo and one permission are needed", bool(self.sources and self.consent_refs)),
            ("a ledger index is not negative", all((ref.ledger_index or 0) >= 0 for ref in self.consent_refs)),
            ("when must name its time zone", self.when.tzinfo is not None),
            ("the face donor's consent is missing", any(ref.role == "face_donor" for ref in self.consent_refs)),
            ("status_url must be a plain http(s) address", bool(_URL.fullmatch(self.status_url))),
            ("the title may hold only letters, digits and spaces", bool(_TITLE.fullmatch(self.title))),
            ("an input has no media type", all(_MIME.fullmatch(f.mime) for f in (self.target, *self.sources))),
        ]
        checks += [
            (f"{clip(ref.record)} is not a record id", bool(_RECORD.fullmatch(ref.record))) for ref in self.consent_refs
        ]
        opaque = [ref.status for ref in self.consent_refs] + [ref.role for ref in self.consent_refs]
        opaque += [self.policy_version, self.claim_version, *self.not_screened]
        opaque += [text for text in (self.screening_ref, self.profile, self.model_set, *self.models) if text]
        checks += [(f"{clip(text)!r} is not an opaque id", bool(_OPAQUE.fullmatch(text))) for text in opaque]
        for reason, good in checks:
            if not good:
                raise ManifestError(
                    "manifest_invalid",
                    f"This manifest cannot be made: {reason}. Nothing was written. Correct the request.",
                )


def clip(text: object) -> str:
    """At most 80 characters of something that goes into a message."""
    return str(text)[:80]
