"""The closed reader of Content Credentials, for files nobody vouches for.

It opens no socket (no remote manifest, no OCSP, no did:web), keeps no state between calls and makes its native objects
per call, so it works after a fork. Every text of a foreign manifest is cut to length and freed of control and direction
characters; it still must be escaped where it is shown.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import c2pa

from watermark.credentials import (
    CONSENT_LABEL,
    MARK_ALGORITHM,
    MISMATCHES,
    UNTRUSTED,
    Action,
    Credentials,
    Ingredient,
    State,
)

_REMOTE = re.compile(r"must fetch remote manifests from url (\S{1,2000})")
_TRUSTED = "signingCredential.trusted"
_MAX_RAW = 1 << 20
# What a manifest may hold and still shows and names nobody (hashes and ingredients stand beside the assertions). Titles
# are among it: the tool that made the file wrote them, and no manifest comes without.
_IMPERSONAL = frozenset(
    {"c2pa.actions", "c2pa.actions.v2", "c2pa.soft-binding", "c2pa.training-mining", "cawg.training-mining"}
    | {CONSENT_LABEL}
)
_MANIFEST_PARTS = frozenset(
    {"claim_generator", "claim_generator_info", "title", "format", "instance_id", "ingredients", "assertions"}
    | {"signature_info", "label", "claim_version", "redactions"}
)
_INGREDIENT_PARTS = frozenset(
    {"title", "format", "instance_id", "document_id", "relationship", "label", "active_manifest", "manifest_data"}
    | {"validation_status", "validation_results", "digital_source_type", "hash"}
)
_MAX_NODES = 64
_MAX_DEPTH = 6
_MAX_ITEMS = 64


def closed_settings(anchors_pem: str) -> dict[str, Any]:
    """Settings of the SDK under which nothing is fetched: no remote manifest, no OCSP, no did:web, no host at all."""
    trust: dict[str, Any] = {
        # emailProtection, documentSigning, C2PA claim signing
        "trust_config": "1.3.6.1.5.5.7.3.4\n1.3.6.1.5.5.7.3.36\n1.3.6.1.4.1.62558.2.1"
    }
    if anchors_pem.strip():
        trust["trust_anchors"] = anchors_pem
    return {
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
        "core": {
            "allowed_network_hosts": [],
            "decode_identity_assertions": False,
            "backing_store_memory_threshold_in_mb": 16,
        },
        "trust": trust,
    }


def read(
    source: Path | bytes | BinaryIO,
    mime: str,
    *,
    anchors_pem: str,
    trust_list_pem: str = "",
    tsa_anchors_pem: str = "",
    store: bytes | None = None,
    named_by_file: bool = False,
) -> Credentials:
    """Read and check the Content Credentials of a file; never raises for what the file holds.

    `anchors_pem` are our own roots: only they make `is_ours`. `trust_list_pem` adds the roots of others, whose
    signatures then count as trusted. `store` is a manifest store from our records, to be checked against a file that
    lost its own; with `named_by_file` it comes from the address the file names, and counts as the file's own.
    `tsa_anchors_pem` are the roots of time-stamp services, believed for times only. Raises OSError when the file cannot
    be read, c2pa.C2paError for anchors that are not PEM.
    """
    recovered = store is not None and not named_by_file

    def look(anchors: str, *, ours: bool) -> Credentials:
        return _read(source, mime, anchors, store, ours=ours, recovered=recovered)

    found = look(f"{anchors_pem}\n{tsa_anchors_pem}", ours=True)
    others = _without(tsa_anchors_pem, anchors_pem)
    if found.signature_trusted and others and look(others, ours=False).signature_trusted:
        # The SDK knows one list for signers and time stamps. Whoever is trusted through a time stamp's root alone, as
        # anybody with a certificate of the same public authority is, stays a stranger.
        own = look(anchors_pem, ours=True)
        found = found if own.signature_trusted else own
    if trust_list_pem.strip() and found.state in ("valid", "invalid") and not found.signature_trusted:
        found = look(f"{anchors_pem}\n{trust_list_pem}", ours=False)
    return found


def read_untrusted(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Entry for the media child: path, mime, anchors_pem, trust_list_pem and tsa_anchors_pem as in `read`.

    `store_path`: the manifest store that was fetched from the address the file names.
    """
    store = str(payload.get("store_path") or "")
    return read(
        Path(str(payload["path"])),
        str(payload["mime"]),
        anchors_pem=str(payload.get("anchors_pem", "")),
        trust_list_pem=str(payload.get("trust_list_pem", "")),
        tsa_anchors_pem=str(payload.get("tsa_anchors_pem", "")),
        store=Path(store).read_bytes() if store else None,
        named_by_file=bool(store),
    ).to_dict()


def store_entry(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Entry for the media child: "store" (a manifest store of our records, base64), anchors_pem and tsa_anchors_pem."""
    return read(
        base64.b64decode(str(payload["store"])),
        "application/c2pa",
        anchors_pem=str(payload["anchors_pem"]),
        tsa_anchors_pem=str(payload["tsa_anchors_pem"]),
    ).to_dict(raw=False)


def claim_entry(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Entry for the media child: {"store": base64} -> {"claim": `claim_of_store`}.

    A store of our own records may hold a stranger's manifest, so it is parsed where strangers' files are.
    """
    return {"claim": claim_of_store(base64.b64decode(str(payload["store"])))}


def claim_of_store(store: bytes) -> str:
    """`Credentials.claim_sha256` of a manifest store from our own records; "" when it is none.

    Both sides of the comparison are read by the same library, so a newer one does not turn our outputs into strangers.
    """
    try:
        with (
            c2pa.Context.from_dict(closed_settings("")) as context,
            c2pa.Reader("application/c2pa", io.BytesIO(store), context=context) as reader,
        ):
            return _claim_sha256(reader)
    except c2pa.C2paError:
        return ""


def _without(pem: str, known: str) -> str:
    """The certificates of `pem` that are not among those of `known`, PEM."""
    if not pem.strip():
        return ""
    from cryptography import x509  # most readings need none of it, and a media child starts for each of them
    from cryptography.hazmat.primitives.serialization import Encoding

    there = set(x509.load_pem_x509_certificates(known.encode())) if known.strip() else set()
    kept = [each for each in x509.load_pem_x509_certificates(pem.encode()) if each not in there]
    return "".join(each.public_bytes(Encoding.PEM).decode() for each in kept)


def _read(
    source: Path | bytes | BinaryIO, mime: str, anchors: str, store: bytes | None, *, ours: bool, recovered: bool
) -> Credentials:
    context = c2pa.Context.from_dict(closed_settings(anchors))
    with _opened(source) as file, context:
        try:
            reader = c2pa.Reader(mime, file, manifest_data=store, context=context)
        except c2pa.C2paError as error:
            return _unreadable(error)
        with reader:
            try:
                text = reader.json()
                parsed = json.loads(text)
                if not isinstance(parsed, dict):
                    return Credentials("broken")
                found = _credentials(parsed, keep_raw=len(text) <= _MAX_RAW, recovered=recovered, ours=ours)
                return replace(found, claim_sha256=_claim_sha256(reader)) if found.is_ours else found
            except (c2pa.C2paError, ValueError, RecursionError):
                return Credentials("broken")


def _claim_sha256(reader: c2pa.Reader) -> str:
    """SHA-256 (hex) over label, claim and serial number of the signer's certificate of the active manifest.

    The claim holds the hash of every assertion, so also that of the media bytes: nobody has it for another picture,
    and nobody but the holder of that certificate can sign it.
    """
    parsed = _mapping(json.loads(reader.json()))
    label = parsed.get("active_manifest")
    for manifest in map(_mapping, _list(_mapping(json.loads(reader.crjson())).get("manifests"))):
        claim = _mapping(manifest.get("claim.v2"))
        serial = _mapping(_mapping(manifest.get("signature")).get("certificateInfo")).get("serialNumber")
        if label and manifest.get("label") == label and claim and serial:
            return hashlib.sha256(json.dumps([label, claim, serial], sort_keys=True).encode()).hexdigest()
    return ""


@contextmanager
def _opened(source: Path | bytes | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file
    elif isinstance(source, bytes):
        yield io.BytesIO(source)
    else:
        source.seek(0)
        yield source


def _unreadable(error: c2pa.C2paError) -> Credentials:
    text = str(error)
    if isinstance(error, c2pa.C2paError.ManifestNotFound | c2pa.C2paError.NotSupported):
        return Credentials("none")
    if match := _REMOTE.search(text):
        return Credentials("remote_only", remote_url=clean(match[1], 2000))
    return Credentials("broken", failures=(clean(text.split(":", 1)[0], 80),))


def _credentials(parsed: dict[str, Any], *, keep_raw: bool, recovered: bool, ours: bool) -> Credentials:
    manifests = _mapping(parsed.get("manifests"))
    label = str(parsed.get("active_manifest") or "")
    active = _mapping(manifests.get(label))
    results = _mapping(parsed.get("validation_results"))
    own = _mapping(results.get("activeManifest"))
    success, own_failures = _codes(own, "success"), _codes(own, "failure")
    deltas = _deltas(results)
    failures = own_failures + [code for delta in deltas.values() for code in _codes(delta, "failure")]
    signature_valid = "claimSignature.validated" in success
    trusted = signature_valid and _TRUSTED in success and UNTRUSTED not in own_failures
    bytes_match = not MISMATCHES & set(own_failures) and any(
        code in ("assertion.dataHash.match", "assertion.bmffHash.match", "assertion.boxesHash.match")
        for code in success
    )
    state = {"Trusted": "trusted", "Valid": "valid"}.get(str(parsed.get("validation_state")), "invalid")
    if recovered and state == "invalid" and signature_valid and set(failures) <= MISMATCHES | {UNTRUSTED}:
        state = "trusted" if trusted else "valid"
    assertions = _assertions(active)
    actions = tuple(_action(item) for item in _action_items(assertions))
    signature = _mapping(active.get("signature_info"))
    signed_at, time_source = _signed_at(signature, actions, stamped="timeStamp.trusted" in success)
    budget = [_MAX_NODES]
    return Credentials(
        state=cast(State, state),
        label=clean(label, 200),
        issuer=clean(signature.get("issuer")),
        common_name=clean(signature.get("common_name")),
        generator=_generator(active),
        signed_at=signed_at,
        time_source=time_source,
        mark_ids=_mark_ids(assertions),
        is_ours=ours and trusted and any(_label(item) == CONSENT_LABEL for item in assertions),
        bytes_match=bytes_match,
        signature_valid=signature_valid,
        signature_trusted=trusted,
        recovered=recovered,
        failures=tuple(dict.fromkeys(failures))[:_MAX_ITEMS],
        actions=actions,
        ingredients=_ingredients(manifests, label, deltas, budget, depth=0),
        digital_source_types=_source_types(assertions),
        personal=_personal(manifests),
        raw=parsed if keep_raw else {},
    )


def clean(value: object, limit: int = 200) -> str:
    """Text of a stranger made inert: at most `limit` characters, no control, direction or private characters."""
    if not isinstance(value, str):
        return ""
    kept = "".join(char for char in value[: limit * 4] if unicodedata.category(char)[0] != "C")
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _label(assertion: Mapping[str, Any]) -> str:
    return str(assertion.get("label") or "").split("__", 1)[0]


def _assertions(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [item for item in _list(manifest.get("assertions")) if isinstance(item, dict)]


def _codes(results: Mapping[str, Any], kind: str) -> list[str]:
    return [clean(_mapping(item).get("code"), 80) for item in _list(results.get(kind))]


def _deltas(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        str(delta.get("ingredientAssertionURI")): _mapping(delta.get("validationDeltas"))
        for delta in map(_mapping, _list(results.get("ingredientDeltas")))
    }


def _action_items(assertions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for assertion in assertions:
        if _label(assertion) in ("c2pa.actions", "c2pa.actions.v2"):
            items += [_mapping(item) for item in _list(_mapping(assertion.get("data")).get("actions"))]
    return items[:_MAX_ITEMS]


def _action(item: Mapping[str, Any]) -> Action:
    agent = item.get("softwareAgent")
    if isinstance(agent, dict):
        agent = " ".join(str(agent.get(key)) for key in ("name", "version") if agent.get(key))
    return Action(
        action=clean(item.get("action"), 80),
        when=clean(item.get("when"), 40),
        description=clean(item.get("description"), 400),
        agent=clean(agent),
        digital_source_type=clean(item.get("digitalSourceType")),
    )


def _source_types(assertions: list[dict[str, Any]]) -> tuple[str, ...]:
    """Every digital source type that is named: of an action, of an action's template, of IPTC metadata."""
    kinds = [item.get("digitalSourceType") for item in _action_items(assertions)]
    for data in (_mapping(item.get("data")) for item in assertions):
        kinds += [_mapping(each).get("digitalSourceType") for each in _list(data.get("templates"))[:_MAX_ITEMS]]
        kinds += [data.get(name) for name in ("digitalSourceType", "Iptc4xmpExt:DigitalSourceType")]
    return tuple(dict.fromkeys(clean(kind) for kind in kinds if isinstance(kind, str) and kind))[:_MAX_ITEMS]


def _personal(manifests: Mapping[str, Any]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for manifest in map(_mapping, manifests.values()):
        labels = [_label(item) for item in _assertions(manifest)]
        found |= dict.fromkeys(clean(label, 80) for label in labels if not _impersonal(label))
        found |= dict.fromkeys(clean(name, 80) for name in manifest if name not in _MANIFEST_PARTS)
        for ingredient in map(_mapping, _list(manifest.get("ingredients"))):
            found |= dict.fromkeys(clean(name, 80) for name in ingredient if name not in _INGREDIENT_PARTS)
    return tuple(found)[:_MAX_ITEMS]


def _mark_ids(assertions: list[dict[str, Any]]) -> tuple[bytes, ...]:
    """The ids that the soft bindings of our algorithm name (C2PA 2.2 section 18.10)."""
    found: dict[bytes, None] = {}
    for assertion in assertions:
        data = _mapping(assertion.get("data"))
        if _label(assertion) != "c2pa.soft-binding" or data.get("alg") != MARK_ALGORITHM:
            continue
        for block in _list(data.get("blocks"))[:_MAX_ITEMS]:
            try:
                value = base64.b64decode(str(_mapping(block).get("value")), validate=True)
            except (binascii.Error, ValueError):
                continue
            if len(value) == 8:
                found[value] = None
    return tuple(found)


def _generator(manifest: Mapping[str, Any]) -> str:
    infos = _list(manifest.get("claim_generator_info"))
    first = _mapping(infos[0]) if infos else {}
    text = " ".join(str(first[key]) for key in ("name", "version") if first.get(key))
    return clean(text or manifest.get("claim_generator"))


def _signed_at(
    signature: Mapping[str, Any], actions: tuple[Action, ...], *, stamped: bool
) -> tuple[str, Literal["", "tsa", "claimed"]]:
    if stamped and (moment := _moment(signature.get("time"))):
        return moment, "tsa"
    for action in reversed(actions):
        if moment := _moment(action.when):
            return moment, "claimed"
    return "", ""


def _moment(value: object) -> str:
    try:
        return datetime.fromisoformat(clean(value, 40)).isoformat()
    except ValueError:
        return ""


def _ingredients(
    manifests: Mapping[str, Any], label: str, deltas: Mapping[str, dict[str, Any]], budget: list[int], *, depth: int
) -> tuple[Ingredient, ...]:
    """The tree below `label`, the parent first. `budget` and `depth` end a tree that was built to be endless."""
    nodes = []
    for item in map(_mapping, _list(_mapping(manifests.get(label)).get("ingredients"))):
        if budget[0] <= 0 or depth >= _MAX_DEPTH:
            break
        budget[0] -= 1
        child = str(item.get("active_manifest") or "")
        manifest = _mapping(manifests.get(child))
        uri = f"self#jumbf=/c2pa/{label}/c2pa.assertions/{item.get('label')}"
        nodes.append(
            Ingredient(
                title=clean(item.get("title")),
                format=clean(item.get("format"), 80),
                relationship=clean(item.get("relationship"), 40),
                state=_ingredient_state(item, deltas.get(uri, {})) if child else "none",
                issuer=clean(_mapping(manifest.get("signature_info")).get("issuer")),
                label=clean(child),
                digital_source_types=_source_types(_assertions(manifest)) or _declared(item),
                ingredients=_ingredients(manifests, child, deltas, budget, depth=depth + 1) if child else (),
            )
        )
    return tuple(sorted(nodes, key=lambda node: node.relationship != "parentOf"))


def _impersonal(label: str) -> bool:
    return label in _IMPERSONAL or label.startswith("c2pa.hash.")


def _declared(item: Mapping[str, Any]) -> tuple[str, ...]:
    """What an ingredient without a manifest was said to be."""
    kind = clean(item.get("digital_source_type"))
    return (kind,) if kind else ()


def _ingredient_state(item: Mapping[str, Any], delta: Mapping[str, Any]) -> State:
    recorded = _mapping(_mapping(item.get("validation_results")).get("activeManifest"))
    failures = set(_codes(recorded, "failure")) | set(_codes(delta, "failure"))
    if failures - {UNTRUSTED}:
        return "invalid"
    # What was recorded about trust is the outer signer's word; the reader's own delta comes after it and wins.
    if "claimSignature.validated" not in (*_codes(recorded, "success"), *_codes(delta, "success")):
        return "invalid"
    seen = {*_codes(delta, "success"), *_codes(delta, "failure")}
    if not seen & {_TRUSTED, UNTRUSTED}:
        seen = {*_codes(recorded, "success"), *failures}
    return "trusted" if _TRUSTED in seen and UNTRUSTED not in seen else "valid"
