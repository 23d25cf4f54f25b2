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
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

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
from watermark.manifest_request import IngredientFile, ManifestError, ManifestRequest, clip
from watermark.native_signing import STAMP_REFUSED, Ask, NativeSigningError, sign_native
from watermark.timestamps import TimeStampError, TimeStampService, unusable

__all__ = ["SignedManifest", "build_manifest", "read", "read_untrusted", "sign_file"]

SPEC_VERSION = "2.4.0"
EDITED_SOURCE_TYPE = f"{DIGITAL_SOURCE_TYPE}compositeWithTrainedAlgorithmicMedia"

# Without the version: a label such as "c2pa.actions.v2" has no effect here, the assertion would stay unattributed.
_CREATED = ["c2pa.actions", "c2pa.soft-binding", "c2pa.ingredient", "cawg.training-mining", CONSENT_LABEL]
_HARMLESS = frozenset({UNTRUSTED})


@dataclass(frozen=True)
class SignedManifest:
    """The result: the manifest's label (its id for ever), the store's bytes for our records, and what we read back."""

    label: str
    store: bytes
    credentials: Credentials


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
