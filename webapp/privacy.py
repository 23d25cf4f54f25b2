"""What every column of the house holds, about whom, why, and how long: the record of processing is printed from it.

A leaf: it imports nothing of ours. Each app names its models in a module `privacy` of its own, in a mapping `RECORDS`;
a test fails when a field of any installed model has no category, or a category no field. Categories follow the Data
Privacy Vocabulary (W3C DPV 2, extension PD); GDPR articles are those of Regulation (EU) 2016/679.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from django.apps import apps

SEALED = "_sealed"


class Category(StrEnum):
    """What kind of data a column holds. `dpv` is its term; of the last five there is none, they name nobody."""

    IDENTIFIER = "opaque identifier"  # random, meaningless outside this house; in it, it leads to a person
    CONTACT = "contact"
    NAME = "name"
    FACE_IMAGE = "face image"
    BIOMETRIC = "biometric template"
    BEHAVIOUR = "answer or action of a person"
    NETWORK = "keyed hash of address or browser"
    CREDENTIAL = "password or key, hashed"
    TEXT = "free text that may name people"
    LANGUAGE = "language"
    EVIDENCE = "evidence of a decision"
    CONTENT = "measure or fingerprint of content"
    SECRET = "wrapped key"  # noqa: S105 - a category, not one
    TECHNICAL = "technical"
    ORGANISATION = "organisation"

    @property
    def dpv(self) -> str:
        """The vocabulary's term, "" where the column is not personal data."""
        return _DPV.get(self, "")

    @property
    def personal(self) -> bool:
        """Is it about a person (GDPR 4(1)), be it only together with other columns?"""
        return self in _DPV


_DPV = {
    Category.IDENTIFIER: "pd:UID",
    Category.CONTACT: "pd:Contact",
    Category.NAME: "pd:Name",
    Category.FACE_IMAGE: "pd:Picture",
    Category.BIOMETRIC: "pd:FacialPrint",
    Category.BEHAVIOUR: "pd:Behavioral",
    Category.NETWORK: "pd:DeviceBased",
    Category.CREDENTIAL: "pd:Authenticating",
    Category.TEXT: "pd:Communication",
    Category.LANGUAGE: "pd:Language",
    Category.EVIDENCE: "dpv:ConsentRecord",
}
SPECIAL = frozenset({Category.FACE_IMAGE, Category.BIOMETRIC})
"""Of these, GDPR 9(2)(a) asks for explicit consent as soon as somebody is told by them."""


@dataclass(frozen=True)
class Purpose:
    """Why something is kept: in plain words, with the legal ground (GDPR) and the people it is about."""

    name: str
    words: str
    basis: str
    about: str
    recipients: str = "nobody outside this house"


CONSENT = Purpose(
    "consent",
    "Ask a depicted person, record the answer, prove and end a permission",
    "GDPR 6(1)(a), 9(2)(a) explicit consent; proof: 7(1), 17(3)(e)",
    "depicted people",
    "the organisation that asked: that and what was answered",
)
REPLACEMENT = Purpose(
    "replacement",
    "Replace a face in a picture or video with everybody's permission",
    "GDPR 6(1)(a), 9(2)(a) explicit consent of the people shown; 6(1)(b) towards the account",
    "depicted people, accounts",
    "the organisation that ordered it: the result",
)
SCREENING = Purpose(
    "screening",
    "Keep forbidden and harmful content out, and record why",
    "GDPR 6(1)(f) legitimate interest: prevent abuse",
    "depicted people, accounts",
)
VERIFICATION = Purpose(
    "verification",
    "Tell anybody whether a picture was made here and whether permission still holds",
    "GDPR 6(1)(c) with EU AI Act 50(2), 6(1)(f)",
    "depicted people, by a random number only",
    "whoever holds a copy: its origin and state of permission, no names",
)
ACCOUNT = Purpose(
    "account", "Let people and partners in who have an account", "GDPR 6(1)(b) contract", "accounts, partners"
)
OPERATION = Purpose(
    "operation", "Deliver messages, repeat nothing twice, run the service", "GDPR 6(1)(f)", "accounts, depicted people"
)
PROTECTION_OF_FACES = Purpose(
    "face_list",
    "Stop uploads with the face of a person who wishes that it is never used here",
    "GDPR 9(2)(a) explicit consent, by a tick of its own; for a protected person the ground that a moderator recorded",
    "depicted people who put themselves on the list, and protected persons",
)
PROTECTION = Purpose(
    "protection", "Keep everything encrypted, and forget for good what is to be forgotten", "GDPR 32, 17", "everybody"
)


@dataclass(frozen=True)
class Record:
    """One model: `fields` (column → category), why it is kept, and which rule of the retention schedule ends it.

    `on_erasure` says what happens to a person's rows when they are forgotten; it must be said wherever a row leads to
    one (by foreign keys). Whoever adds such a table registers an eraser (`consent.erasure.register_eraser`).
    """

    purpose: Purpose
    retention: str
    fields: Mapping[str, Category]
    on_erasure: str = ""


@dataclass(frozen=True)
class Tag:
    """One column of one model."""

    model: str
    name: str
    category: Category
    record: Record

    @property
    def sealed(self) -> bool:
        """Is it encrypted under a person's, file's or the house's own key?"""
        return self.name.endswith(SEALED)


def records() -> dict[str, Record]:
    """All models (label, as `jobs.Asset`) that some app's `privacy` module names."""
    found: dict[str, Record] = {}
    modules = ["webapp.privacy_django"]
    modules += [f"{config.name}.privacy" for config in apps.get_app_configs() if _has_privacy(config.name)]
    for name in modules:
        found |= import_module(name).RECORDS
    return found


def tags() -> Iterator[Tag]:
    """Every column that has a category."""
    for model, record in records().items():
        for name, category in record.fields.items():
            yield Tag(model, name, category, record)


def faults() -> list[str]:
    """What does not fit: columns without category, categories without column, rules that are not in the schedule."""
    from webapp.retention import RULES

    named = {(tag.model, tag.name) for tag in tags()}
    there = {(label, name) for label, names in columns().items() for name in names}
    wrong = [f"{model}.{name} has no data category" for model, name in sorted(there - named)]
    wrong += [f"{model}.{name} has a category, but no such column exists" for model, name in sorted(named - there)]
    wrong += [
        f"{model} is kept by the rule {record.retention!r}, which is not in the schedule"
        for model, record in sorted(records().items())
        if record.retention not in RULES
    ]
    wrong += [
        f"{model} leads to a person, and `on_erasure` does not say what happens to it when they are forgotten"
        for model, record in sorted(records().items())
        if model in leading_to_people() and not record.on_erasure
    ]
    return wrong


def leading_to_people() -> set[str]:
    """The models from whose rows foreign keys lead, over however many tables, to a person or to an upload."""
    found = {"consent.Subject", "jobs.Asset"}
    models = [model for model in apps.get_models(include_auto_created=True) if not model._meta.proxy]
    while True:
        more = {
            model._meta.label
            for model in models
            for each in _concrete(model)
            if each.is_relation and each.related_model._meta.label in found
        }
        if more <= found:
            return found
        found |= more


def columns() -> dict[str, list[str]]:
    """The columns of every installed model, tables between two models included."""
    return {
        model._meta.label: [each.name for each in _concrete(model)]
        for model in apps.get_models(include_auto_created=True)
        if not model._meta.proxy
    }


def _concrete(model: Any) -> list[Any]:
    return list(model._meta.concrete_fields)


def _has_privacy(app: str) -> bool:
    # Only our own apps: another library's module of that name is not meant.
    return app.split(".", maxsplit=1)[0] in {"webapp", "consent"} and find_spec(f"{app}.privacy") is not None
