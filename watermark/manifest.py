"""The manifest of an output: built, signed, read back before it gets its name.

C2PA 2.4 claim, signed once per file. What goes in is published for good, so only opaque ids go in: no name, no file
name, no thumbnail, no metadata of an input (DESIGN.md decision 10). `build_manifest` is the whole of it, but for the
manifests of inputs that are kept.

An input's own manifest is kept whole as an ingredient when it declares the use of AI (EU Code of Practice 1.2: such
marks must not be lost), holds for the input's bytes, and shows and names nobody. Otherwise only its hash is kept, with
the AI source type it declared written on the ingredient. What decided this, with c2pa-python 0.38.1: a store cannot be
freed of a thumbnail or of an author's name and stay whole. Left out, the claim's hash of it fails; taken out by the
specification's own redaction, our library says Trusted, but both independent implementations that the tests know call
the output invalid (assertion.missing, assertion.action.redactionMismatch). And what is published cannot be taken back.

Nothing here parses media or a stranger's manifest: that is `native_signing`, which the house runs in a media child.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from watermark.credentials import (
    CONSENT_LABEL,
    DIGITAL_SOURCE_TYPE,
    EXPIRED,
    GENERATOR,
    MARK_ALGORITHM,
    UNTRUSTED,
    Credentials,
)
from watermark.credentials_reader import read, read_untrusted
from watermark.key_signers import Signer, SignerError, signer_failed
from watermark.native_signing import STAMP_REFUSED, Ask, NativeSigningError, sign_native
from watermark.timestamps import TimeStampError, TimeStampService, unusable

__all__ = [
    "FORMATS",
    "ConsentRef",
    "Credentials",
    "IngredientFile",
    "ManifestError",
    "ManifestRequest",
    "SignedManifest",
    "build_manifest",
    "read",
    "read_untrusted",
    "sign_file",
]

PRODUCT_VERSION = "0.1.0"
SPEC_VERSION = "2.4.0"
EDITED_SOURCE_TYPE = f"{DIGITAL_SOURCE_TYPE}compositeWithTrainedAlgorithmicMedia"
FORMATS = ("image/jpeg", "image/png", "image/webp", "image/avif", "video/mp4", "video/quicktime")

_OPAQUE = re.compile(r"[A-Za-z0-9_.:-]{1,120}")
_RECORD = re.compile(r"(cns|att)_[0-9A-Za-z]{1,60}")
_TITLE = re.compile(r"[A-Za-z0-9 -]{0,80}")  # no dot, no slash: never a file name
_URL = re.compile(r"https?://[A-Za-z0-9.\-:\[\]]+(/[A-Za-z0-9._~/-]*)?")
_MIME = re.compile(r"(image|video|audio)/[a-z0-9.+-]{1,60}")
# Without the version: a label such as "c2pa.actions.v2" has no effect here, the assertion would stay unattributed.
_CREATED = ["c2pa.actions", "c2pa.soft-binding", "c2pa.ingredient", "cawg.training-mining", CONSENT_LABEL]
_HARMLESS = frozenset({UNTRUSTED})


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


@dataclass(frozen=True)
class SignedManifest:
    """The result: the manifest's label (its id for ever), the store's bytes for our records, and what we read back."""

    label: str
    store: bytes
    credentials: Credentials


def clip(text: object) -> str:
    """At most 80 characters of something that goes into a message."""
    return str(text)[:80]


def build_manifest(request: ManifestRequest) -> dict[str, Any]:
    """The manifest definition for the SDK."""
    when = request.when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    agent = {"name": GENERATOR, "version": request.claim_version}
    kind = "photo" if request.mime.startswith("image/") else "video"
    description = f"The face of a consenting person was placed into this {kind} with an AI model."
    if request.label_text:
        description += " A visible notice was added."
    if request.target.credentials.declares_ai:
        description += " The input said of itself that AI had a part in making it."
    actions: list[dict[str, Any]] = [
        {"action": "c2pa.opened", "when": when, "parameters": {"ingredientIds": ["target"]}},
        *(
            {"action": "c2pa.placed", "when": when, "parameters": {"ingredientIds": [label]}}
            for label in _source_labels(request)
        ),
        {
            "action": "c2pa.edited",
            "when": when,
            "digitalSourceType": EDITED_SOURCE_TYPE,
            "softwareAgent": agent,
            "description": description,
        },
        {"action": "c2pa.watermarked.bound", "when": when, "softwareAgent": agent},
    ]
    if request.target.mime != request.mime:
        actions.append({"action": "c2pa.transcoded", "when": when, "softwareAgent": agent})
    return {
        "claim_version": 2,
        "title": request.title or f"AI-edited {kind}",
        "format": request.mime,
        "claim_generator_info": [{**agent, "specVersion": SPEC_VERSION}],
        "ingredients": [_ingredient(label, file) for label, file in _inputs(request).items() if not file.kept_whole],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"allActionsIncluded": True, "actions": actions}},
            {"label": "c2pa.soft-binding", "data": _soft_binding(request.mark_id)},
            {"label": "cawg.training-mining", "data": _training_mining()},
            {"label": CONSENT_LABEL, "data": _consent(request)},
        ],
    }


Native = Callable[[Mapping[str, Any], Ask], Mapping[str, Any]]
"""Somewhere to run `native_signing.sign_native`: in this process, or in a limited child that asks back."""


def sign_file(
    src: Path,
    dst: Path,
    request: ManifestRequest,
    signer: Signer,
    *,
    anchors_pem: str = "",
    tsa: TimeStampService | None = None,
    tsa_anchors_pem: str = "",
    native: Native = sign_native,
) -> SignedManifest:
    """Sign `src` into `dst` and read the result back before it gets that name.

    The signed file grows under a temporary name beside `dst`; whatever fails, nothing is left there. With `anchors_pem`
    the finished file must be trusted under it, without it must be valid but for the unknown signer. With `tsa` the
    signature is time-stamped, or not made. Where keys are, `native` is a media child (see `native_signing`). Memory of
    the native part: about the size of the file for MP4, see the SDK's hash over mdat. Raises ManifestError,
    SignerError, TimeStampError, OSError, and what `native` raises.
    """
    _check_places(src, dst)
    temporary = dst.with_name(f".{dst.name}.{secrets.token_hex(6)}.signing")
    order = {
        "path": str(src),
        "out": str(temporary),
        "mime": request.mime,
        "definition": build_manifest(request),
        "created": _CREATED,
        "alg": signer.alg,
        "chain_pem": signer.chain_pem,
        "time_stamp": tsa is not None,
        "anchors_pem": anchors_pem,
        "tsa_anchors_pem": tsa_anchors_pem,
        "ingredients": [
            {"path": str(file.path), "mime": file.mime, "json": _ingredient(label, file)}
            for label, file in _inputs(request).items()
            if file.kept_whole
        ],
    }
    try:
        found = _sign(order, signer, tsa, native)
        credentials = Credentials.from_dict(found["credentials"])
        _check_signed(credentials, request, trusted=bool(anchors_pem.strip()))
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        try:
            os.link(temporary, dst)  # unlike a rename, never replaces what appeared there meanwhile
        except FileExistsError:
            raise _taken() from None
    finally:
        temporary.unlink(missing_ok=True)
    return SignedManifest(credentials.label, base64.b64decode(found["store"]), credentials)


def _sign(order: Mapping[str, Any], signer: Signer, tsa: TimeStampService | None, native: Native) -> Mapping[str, Any]:
    failure: list[BaseException] = []
    answered: list[str] = []

    def ask(what: str, request: bytes) -> bytes:
        # The SDK turns what is raised here into "internal error"; keep the cause to tell a key outage from a bad key.
        try:
            if what in answered:
                raise ValueError(f"a second {what} was asked for")
            answered.append(what)
            if what == "signature":
                return signer.sign(request)
            if what == "time_stamp" and tsa:
                return tsa.ask(request)
            raise ValueError(f"{clip(what)} was asked for")
        except BaseException as error:
            failure.append(error)
            raise

    try:
        return native(order, ask)
    except NativeSigningError as error:
        cause = failure[0] if failure else None
        if isinstance(cause, SignerError | TimeStampError):
            raise cause from cause.__cause__
        if cause is not None and answered == ["signature"]:
            raise signer_failed(cause) from cause
        if error.code == STAMP_REFUSED:
            raise unusable(error.message) from error
        raise ManifestError(
            "manifest_signing",
            f"The output could not be signed: {clip(cause or error)}. Nothing was published and no file was left "
            "behind. Check the file's format and the signing certificate (`manage.py certs check`).",
        ) from error


def _check_places(src: Path, dst: Path) -> None:
    if not src.is_file() or src.stat().st_size == 0:
        raise ManifestError(
            "manifest_source",
            "The file to sign is missing or empty. Nothing was written. Make the output again.",
        )
    # The SDK empties a file that is signed onto itself.
    if dst.exists() or dst.is_symlink():
        raise _taken()


def _taken() -> ManifestError:
    return ManifestError(
        "manifest_destination",
        "There is a file at the destination already. It was not touched. Sign to a new name.",
    )


def _check_signed(credentials: Credentials, request: ManifestRequest, *, trusted: bool) -> None:
    failures = set(credentials.failures) - (frozenset() if trusted else _HARMLESS)
    state = credentials.state in (("trusted",) if trusted else ("trusted", "valid"))
    if state and not failures and credentials.bytes_match and credentials.mark_ids == (request.mark_id,):
        return
    hint = " The signing certificate has expired." if EXPIRED in failures else ""
    raise ManifestError(
        "manifest_verification",
        f"The signed file did not pass its own check (state {credentials.state}, {clip(sorted(failures))}).{hint} "
        "It was removed, nothing was published. Run `manage.py certs check`, then start the job again.",
    )


def _inputs(request: ManifestRequest) -> dict[str, IngredientFile]:
    return {"target": request.target, **dict(zip(_source_labels(request), request.sources, strict=True))}


def _source_labels(request: ManifestRequest) -> list[str]:
    return [f"source-{number}" for number in range(1, len(request.sources) + 1)]


def _ingredient(label: str, file: IngredientFile) -> dict[str, Any]:
    # An ingredient given without its file keeps nothing of it: neither its own instance id, metadata nor manifest,
    # which may hold names, places and pictures that nobody could take back.
    said = {
        "title": "target" if label == "target" else "source photo",
        "format": file.mime,
        "relationship": "parentOf" if label == "target" else "componentOf",
        "label": label,
        "instance_id": f"xmp:iid:{uuid.uuid4()}",
    }
    if file.credentials.declares_ai and not file.kept_whole:  # never beside a manifest (C2PA 2.4, ingredient.v3)
        said["digital_source_type"] = file.credentials.ai_source_type
    return said


def _soft_binding(mark_id: bytes) -> dict[str, Any]:
    """C2PA 2.2 section 18.10; the value as base64 text, which all verifiers read. An empty scope is the whole file."""
    value = base64.b64encode(mark_id).decode()
    return {"alg": MARK_ALGORITHM, "name": "Imprimatur mark", "blocks": [{"scope": {}, "value": value}], "pad": ""}


def _training_mining() -> dict[str, Any]:
    uses = ("cawg.ai_inference", "cawg.ai_training", "cawg.ai_generative_training", "cawg.data_mining")
    return {"entries": {use: {"use": "notAllowed"} for use in uses}}


def _consent(request: ManifestRequest) -> dict[str, Any]:
    """Our own assertion: opaque ids and states as they were at publication; `status_url` says what holds now.

    `input_manifests` names every manifest found in an input, whether it declared AI, and whether it is kept whole.
    `made_with` stands here because the conformance programme knows no such parameter of an action.
    """
    data: dict[str, Any] = {
        "records": [ref.to_dict() for ref in request.consent_refs],
        "policy_version": request.policy_version,
        "screening": {"record": request.screening_ref, "not_screened": list(request.not_screened)},
        "profile": request.profile,
        "livemode": request.livemode,
        "status_url": request.status_url,
    }
    referred = [
        {
            "ingredient": label,
            # The label of a manifest is a random id: whoever has the input can compare, nobody else learns anything.
            "manifest_sha256": hashlib.sha256(file.credentials.label.encode()).hexdigest(),
            "declares_ai": file.credentials.declares_ai,
            "kept_whole": file.kept_whole,
        }
        for label, file in _inputs(request).items()
        if file.credentials.label
    ]
    if request.model_set:
        data["made_with"] = {"model_set": request.model_set, "models": [name for name in request.models if name]}
    if referred:
        data["input_manifests"] = referred
    return data
