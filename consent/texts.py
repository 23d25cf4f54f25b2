"""The versioned texts under `notices/`: what people agree to or declare, in their language, with a hash.

The hash is taken over the exact text as shown, filled in, boxes included, so that a record proves the words.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.conf import settings

from consent import territories
from consent.levels import reaches

if TYPE_CHECKING:
    from consent.models import Consent

FOLDER = Path(__file__).parent / "notices"
LOCALES = ("en", "zh-hans")
# The version shown to people from now on; older files stay, for the records that point at them.
CURRENT = {"consent": "2", "declaration": "1", "target_rights": "1", "face_list": "1"}
PURPOSE_BOX = "purpose:"
POLITICAL_BOX = "political"  # the one tick that nobody needs


@dataclass(frozen=True)
class Section:
    """One paragraph under its heading; `more` are those a page may fold away."""

    heading: str
    text: str
    more: bool = False


@dataclass(frozen=True)
class NoticeText:
    """A text as shown. `boxes` are (name, label) in order; `sha256` is over `text` in UTF-8."""

    id: str
    version: str
    locale: str
    title: str
    sections: tuple[Section, ...]
    boxes: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """The whole text in one string, boxes included."""
        parts = [self.title]
        parts += [f"{section.heading}\n{section.text}" for section in self.sections]
        parts.append("\n".join(f"[ ] {label}" for _, label in self.boxes))
        return "\n\n".join(parts) + "\n"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def known_locale(locale: str) -> str:
    """The language of the house nearest to a language tag: Chinese of any kind, else English."""
    return "zh-hans" if locale.strip().lower().replace("_", "-").split("-")[0] == "zh" else "en"


def words(locale: str) -> dict[str, Any]:
    """The words of the pages in a language."""
    return tomllib.loads((FOLDER / f"words.{known_locale(locale)}.toml").read_text(encoding="utf-8"))


def camera_words(locale: str) -> dict[str, Any]:
    """The words of the camera page and of what follows it, in a language."""
    return tomllib.loads((FOLDER / f"camera.{known_locale(locale)}.toml").read_text(encoding="utf-8"))


def fill(text: str, **values: str) -> str:
    """`text` with its $words filled in; a word without a value is an error of ours and raises KeyError."""
    return Template(text).substitute(values)


def long_date(moment: datetime, locale: str) -> str:
    """A date as people write it, for example "18 February 2027" (UTC)."""
    known = words(locale)
    month = known["months"][moment.month - 1]
    return fill(known["date"], day=str(moment.day), month=month, year=str(moment.year))


def consent_text(consent: Consent, locale: str) -> NoticeText:
    """What the person is shown for this request, in this language; equal facts give an equal hash.

    Raises keys.KeyDestroyedError if the person's data was erased.
    """
    locale = known_locale(locale)
    raw = _load("consent", locale)
    values = {
        "asker": consent.requested_by_name,
        "organisation": consent.organisation_name,
        "target": fill(raw["target"][_how_many(len(consent.targets))], count=str(len(consent.targets))),
        "max_outputs": str(consent.max_outputs),
        "until": long_date(consent.valid_until, locale),
        "house": urlsplit(settings.PUBLIC_URL).netloc,
        "operator": settings.DEFAULT_FROM_EMAIL,
        "input_hours": str(settings.INPUT_RETENTION_HOURS),
        "output_days": str(settings.OUTPUT_RETENTION_DAYS),
        "selfie_days": str(settings.CHALLENGE_RETENTION_DAYS),
    }
    boxes = [(PURPOSE_BOX + purpose, raw["boxes"]["purpose"][purpose]) for purpose in consent.purposes]
    boxes += [
        ("person", raw["boxes"]["person"][consent.role]),
        ("adult", raw["boxes"]["adult"]),
        ("face_processing", raw["boxes"]["face_processing"]),
    ]
    scope = _scope_values(consent, locale)
    if "political" in scope:
        boxes.append((POLITICAL_BOX, raw["boxes"]["political"]))
    if reaches(consent.assurance_asked, "L2"):  # before this tick no camera opens
        boxes.append(("selfie_match", raw["boxes"]["selfie_match"][consent.role]))
    sections = [
        section
        for section in raw["sections"]
        if section.get("role", consent.role) == consent.role
        and section.get("when", "always") in scope
        and reaches(consent.assurance_asked, section.get("level", "L1"))
    ]
    values |= scope
    return NoticeText(
        id=f"consent/{consent.role}/{locale}",
        version=raw["version"],
        locale=locale,
        title=raw["title"][consent.role],
        sections=_sections(sections, values),
        boxes=tuple(boxes),
    )


def _how_many(targets: int) -> str:
    return ("any", "shown")[targets] if targets < 2 else "several"


def _scope_values(consent: Consent, locale: str) -> dict[str, str]:
    """The parts of the scope that this request has, by the `when` of the sections that speak of them."""
    found = {
        "always": "",
        "not_political" if consent.no_political else "political": "",
        "territories": territories.listed(consent.territories, locale),
        "partners": ("、" if locale == "zh-hans" else ", ").join(consent.partners),
        "intended_use": consent.intended_use,
        "employee": "",
        "max_seconds": _seconds(consent.max_seconds),
        "max_total_seconds": _seconds(consent.max_total_seconds),
    }
    there = {"always", "political", "not_political"} | {name for name, value in found.items() if value}
    if consent.relationship == "employee":
        there.add("employee")
    return {name: value for name, value in found.items() if name in there}


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def declaration_text(locale: str) -> NoticeText:
    """What an account declares with every job; every box must be ticked."""
    return _plain("declaration", locale)


def target_rights_text(locale: str) -> NoticeText:
    """What an account attests when the replaced person was not asked; every box must be ticked."""
    return _plain("target_rights", locale)


def face_list_text(locale: str) -> NoticeText:
    """What a person agrees to who has a descriptor of their face put on the list "never my face"."""
    return _plain("face_list", locale)


def rights_bases(locale: str) -> list[tuple[str, str]]:
    """The grounds a target-rights attestation may name: (code, label)."""
    return list(_load("target_rights", known_locale(locale))["bases"].items())


def _plain(kind: str, locale: str) -> NoticeText:
    locale = known_locale(locale)
    raw = _load(kind, locale)
    return NoticeText(
        id=f"{kind}/{locale}",
        version=raw["version"],
        locale=locale,
        title=raw["title"],
        sections=_sections(raw["sections"], {}),
        boxes=tuple(raw["boxes"].items()),
    )


def _load(kind: str, locale: str) -> dict[str, Any]:
    path = FOLDER / f"{kind}-{CURRENT[kind]}.{locale}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _sections(raw: list[dict[str, Any]], values: Mapping[str, str]) -> tuple[Section, ...]:
    return tuple(Section(each["heading"], fill(each["text"], **values), each.get("more", False)) for each in raw)
