"""What the Content Credentials (C2PA manifest) of a file say, as plain data that can cross a process border."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

MARK_ALGORITHM = "io.imprimatur.watermark.1"
CONSENT_LABEL = "io.imprimatur.consent"
GENERATOR = "Imprimatur"
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
# IPTC's words for "a trained model made at least a part of it".
AI_SOURCE_TYPES = frozenset({"trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "compositeSynthetic"})
MISMATCHES = frozenset({"assertion.dataHash.mismatch", "assertion.bmffHash.mismatch"})
UNTRUSTED = "signingCredential.untrusted"
EXPIRED = "signingCredential.expired"

State = Literal["none", "remote_only", "broken", "invalid", "valid", "trusted"]
_STATES = ("none", "remote_only", "broken", "invalid", "valid", "trusted")


@dataclass(frozen=True)
class Action:
    """One recorded step. `when` is what the manifest claims, ISO 8601 text."""

    action: str
    when: str = ""
    description: str = ""
    agent: str = ""
    digital_source_type: str = ""


@dataclass(frozen=True)
class Ingredient:
    """One input of a file, with the state of its own credential ("none" when it has no manifest)."""

    title: str
    format: str
    relationship: str
    state: State
    issuer: str = ""
    label: str = ""
    digital_source_types: tuple[str, ...] = ()
    ingredients: tuple[Ingredient, ...] = ()


@dataclass(frozen=True)
class Credentials:
    """What the Content Credentials of one file say, and how far they can be believed.

    `state` is the reader's verdict about the file as a whole. `bytes_match` says whether the hash over the media bytes
    holds; `signature_valid` and `signature_trusted` speak of the claim signature alone, so "our manifest, other bytes"
    is state invalid, bytes_match False, signature_trusted True. With `store` given (`recovered`), a hash mismatch is
    what must come, and state speaks of the rest. `is_ours` demands the signature trusted under our own anchors and our
    consent assertion, which everybody with a certificate of the same authority can have; only `claim_sha256`, known for
    such manifests alone, tells whether it is the very manifest of a record. `time_source` says who vouches for
    `signed_at`: a time-stamp authority or only the claim. `personal` names what any manifest in the store holds besides
    actions, hashes and bindings: pictures, people, places, or what is unknown and may be one of them.
    """

    state: State
    label: str = ""
    issuer: str = ""
    common_name: str = ""
    generator: str = ""
    signed_at: str = ""
    time_source: Literal["", "tsa", "claimed"] = ""
    mark_ids: tuple[bytes, ...] = ()
    is_ours: bool = False
    claim_sha256: str = ""
    bytes_match: bool = False
    signature_valid: bool = False
    signature_trusted: bool = False
    recovered: bool = False
    failures: tuple[str, ...] = ()
    actions: tuple[Action, ...] = ()
    ingredients: tuple[Ingredient, ...] = ()
    digital_source_types: tuple[str, ...] = ()
    personal: tuple[str, ...] = ()
    remote_url: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def declares_ai(self) -> bool:
        """True when this manifest, or that of an ingredient, names one of IPTC's AI source types."""
        return bool(self.ai_source_type)

    @property
    def ai_source_type(self) -> str:
        """The first of IPTC's AI source types that is named, as its full address; "" for none."""
        for kind in (*self.digital_source_types, *_ingredient_types(self.ingredients)):
            name = kind.rsplit("/", 1)[-1]
            if name in AI_SOURCE_TYPES:
                return f"{DIGITAL_SOURCE_TYPE}{name}"
        return ""

    def to_dict(self, *, raw: bool = True) -> dict[str, Any]:
        """JSON-able; mark ids as hexadecimal text. `from_dict` reads it back."""
        values = asdict(self)
        values["mark_ids"] = [mark.hex() for mark in self.mark_ids]
        values["raw"] = self.raw if raw else {}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read back what another process sent. Raises ValueError for anything that is not credentials."""
        try:
            fields = dict(values)
            if fields["state"] not in _STATES:
                raise ValueError("unknown state")
            fields["mark_ids"] = tuple(bytes.fromhex(mark) for mark in fields.get("mark_ids", ()))
            fields["actions"] = tuple(Action(**action) for action in fields.get("actions", ()))
            fields["ingredients"] = tuple(_ingredient_from_dict(node) for node in fields.get("ingredients", ()))
            for name in ("failures", "digital_source_types", "personal"):
                fields[name] = tuple(str(item) for item in fields.get(name, ()))
            return cls(**fields)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"not credentials: {error}") from error


def _ingredient_types(nodes: tuple[Ingredient, ...]) -> Iterator[str]:
    for node in nodes:
        yield from node.digital_source_types
        yield from _ingredient_types(node.ingredients)


def _ingredient_from_dict(values: Mapping[str, Any]) -> Ingredient:
    fields = dict(values)
    if fields["state"] not in _STATES:
        raise ValueError("unknown state")
    fields["digital_source_types"] = tuple(fields.get("digital_source_types", ()))
    fields["ingredients"] = tuple(_ingredient_from_dict(node) for node in fields.get("ingredients", ()))
    return Ingredient(**fields)
