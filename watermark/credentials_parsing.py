"""What the C2PA reader's JSON says, as `Credentials`: nothing in it is trusted to have the shape it should.

Every text of a foreign manifest is cut to length and freed of control and direction characters; it still must be
escaped where it is shown.
"""

from __future__ import annotations

import base64
import binascii
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, cast

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

_TRUSTED = "signingCredential.trusted"
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


def credentials_of(parsed: dict[str, Any], *, keep_raw: bool, recovered: bool, ours: bool) -> Credentials:
    """The whole of the reader's JSON. `ours`: its anchors were this house's; `recovered`: the store came from our
    records, for a file that lost its own.

    `keep_raw`: hand the JSON on as it came.
    """
    manifests = mapping(parsed.get("manifests"))
    label = str(parsed.get("active_manifest") or "")
    active = mapping(manifests.get(label))
    results = mapping(parsed.get("validation_results"))
    own = mapping(results.get("activeManifest"))
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
    signature = mapping(active.get("signature_info"))
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


def mapping(value: object) -> dict[str, Any]:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def listing(value: object) -> list[Any]:
    """`value` if it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def _label(assertion: Mapping[str, Any]) -> str:
    return str(assertion.get("label") or "").split("__", 1)[0]


def _assertions(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [item for item in listing(manifest.get("assertions")) if isinstance(item, dict)]


def _codes(results: Mapping[str, Any], kind: str) -> list[str]:
    return [clean(mapping(item).get("code"), 80) for item in listing(results.get(kind))]


def _deltas(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        str(delta.get("ingredientAssertionURI")): mapping(delta.get("validationDeltas"))
        for delta in map(mapping, listing(results.get("ingredientDeltas")))
    }


def _action_items(assertions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for assertion in assertions:
        if _label(assertion) in ("c2pa.actions", "c2pa.actions.v2"):
            items += [mapping(item) for item in listing(mapping(assertion.get("data")).get("actions"))]
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
    for data in (mapping(item.get("data")) for item in assertions):
        kinds += [mapping(each).get("digitalSourceType") for each in listing(data.get("templates"))[:_MAX_ITEMS]]
        kinds += [data.get(name) for name in ("digitalSourceType", "Iptc4xmpExt:DigitalSourceType")]
    return tuple(dict.fromkeys(clean(kind) for kind in kinds if isinstance(kind, str) and kind))[:_MAX_ITEMS]


def _personal(manifests: Mapping[str, Any]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for manifest in map(mapping, manifests.values()):
        labels = [_label(item) for item in _assertions(manifest)]
        found |= dict.fromkeys(clean(label, 80) for label in labels if not _impersonal(label))
        found |= dict.fromkeys(clean(name, 80) for name in manifest if name not in _MANIFEST_PARTS)
        for ingredient in map(mapping, listing(manifest.get("ingredients"))):
            found |= dict.fromkeys(clean(name, 80) for name in ingredient if name not in _INGREDIENT_PARTS)
    return tuple(found)[:_MAX_ITEMS]


def _mark_ids(assertions: list[dict[str, Any]]) -> tuple[bytes, ...]:
    """The ids that the soft bindings of our algorithm name (C2PA 2.2 section 18.10)."""
    found: dict[bytes, None] = {}
    for assertion in assertions:
        data = mapping(assertion.get("data"))
        if _label(assertion) != "c2pa.soft-binding" or data.get("alg") != MARK_ALGORITHM:
            continue
        for block in listing(data.get("blocks"))[:_MAX_ITEMS]:
            try:
                value = base64.b64decode(str(mapping(block).get("value")), validate=True)
            except (binascii.Error, ValueError):
                continue
            if len(value) == 8:
                found[value] = None
    return tuple(found)


def _generator(manifest: Mapping[str, Any]) -> str:
    infos = listing(manifest.get("claim_generator_info"))
    first = mapping(infos[0]) if infos else {}
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
    for item in map(mapping, listing(mapping(manifests.get(label)).get("ingredients"))):
        if budget[0] <= 0 or depth >= _MAX_DEPTH:
            break
        budget[0] -= 1
        child = str(item.get("active_manifest") or "")
        manifest = mapping(manifests.get(child))
        uri = f"self#jumbf=/c2pa/{label}/c2pa.assertions/{item.get('label')}"
        nodes.append(
            Ingredient(
                title=clean(item.get("title")),
                format=clean(item.get("format"), 80),
                relationship=clean(item.get("relationship"), 40),
                state=_ingredient_state(item, deltas.get(uri, {})) if child else "none",
                issuer=clean(mapping(manifest.get("signature_info")).get("issuer")),
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
    recorded = mapping(mapping(item.get("validation_results")).get("activeManifest"))
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
