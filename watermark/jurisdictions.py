"""What the law of a place demands of the visible label and of the metadata, as rules that only ever add up.

A house names its jurisdictions, a job may name more. The label then fulfils all of them: the largest letters, every
demanded language, the demanded corner, and the whole length as soon as one asks for it. What an account prefers is
followed where the rules leave it open, never below them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Place = Literal["top-right", "top-left", "bottom-right", "bottom-left"]
Extent = Literal["throughout", "start"]

DEFAULT_PLACE: Place = "top-right"
START_SECONDS = 4.0  # of a label at the start only: twice the least that GB 45438 allows, to be read at leisure
# "AI modified": in the taxonomy of the EU Code of Practice a replaced face is modified, not generated. In Chinese the
# elements that GB 45438-2025 asks for: AI, and 合成 (synthesised).
WORDS = {
    "en": "AI MODIFIED",
    "de": "MIT KI VERÄNDERT",
    "fr": "MODIFIÉ PAR IA",
    "es": "MODIFICADO CON IA",
    "it": "MODIFICATO CON IA",
    "pt": "MODIFICADO COM IA",
    "nl": "BEWERKT MET AI",
    "zh": "AI合成",
}


@dataclass(frozen=True)
class Rule:
    """One jurisdiction. `letter_share` of the frame's short side; `place` None leaves the corner open; `language` must
    be there; `start_suffices`: a video need not be labelled to its end; `aigc`: China's metadata label."""

    letter_share: float = 0.05
    place: Place | None = None
    language: str | None = None
    start_suffices: bool = False
    aigc: bool = False


RULES = {
    "default": Rule(),
    # AI Act art. 50(4) and Code of Practice: at first exposure and again after breaks, so for the whole length.
    "eu": Rule(place="top-right"),
    # Business and Professions Code 22757.3: a manifest disclosure that is clear, conspicuous and hard to remove.
    "us-ca": Rule(),
    # GB 45438-2025: letters of 5 % of the shortest side, 2 s at the start of a video, and the metadata label.
    "cn": Rule(language="zh", start_suffices=True, aigc=True),
}


@dataclass(frozen=True)
class Notice:
    """The label of one output. `seconds` is how long a video shows it; None: to its end."""

    lines: tuple[str, ...]
    place: Place
    letter_share: float
    seconds: float | None
    aigc: bool


def notice(
    jurisdictions: Iterable[str],
    *,
    house_language: str = "en",
    language: str = "",
    place: Place = DEFAULT_PLACE,
    extent: Extent = "throughout",
) -> Notice:
    """The label that fulfils all `jurisdictions` (names of RULES, at least one) and, where they allow it, the wishes.

    `language` of the account is added to the demanded ones; without it, the house's stands where a rule names none.
    """
    rules = [RULES[name] for name in dict.fromkeys(jurisdictions)]
    demanded = [rule.language for rule in rules if rule.language]
    open_ones = len(demanded) < len(rules)
    spoken = [language or house_language] if language or open_ones else []
    fixed = [rule.place for rule in rules if rule.place]
    short = extent == "start" and all(rule.start_suffices for rule in rules)
    return Notice(
        lines=tuple(dict.fromkeys(WORDS[each] for each in (*spoken, *demanded))),
        place=fixed[0] if fixed else place,
        letter_share=max(rule.letter_share for rule in rules),
        seconds=START_SECONDS if short else None,
        aigc=any(rule.aigc for rule in rules),
    )


def forbids(jurisdictions: Iterable[str], *, place: Place, extent: Extent) -> str:
    """Why these wishes cannot be followed, in words for the account; "" when they can."""
    for name in dict.fromkeys(jurisdictions):
        rule = RULES[name]
        if rule.place and place != rule.place:
            return f"the rules of {name!r} put the label {rule.place}"
        if extent == "start" and not rule.start_suffices:
            return f"the rules of {name!r} keep the label for the whole length"
    return ""
