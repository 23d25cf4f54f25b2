"""What may stand for a person's name: letters of any script, and nothing that hides or turns text."""

from __future__ import annotations

import unicodedata

JOINERS = "\u200c\u200d"  # ZWNJ and ZWJ are part of the spelling in Persian and Indic names
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # controls, bidi marks, surrogates, private and unassigned


def is_name(text: str, *, least: int = 1, longest: int = 120) -> bool:
    """Is `text` `least` to `longest` characters long, shown as it is, with at least one letter in it?"""
    return (
        least <= len(text.strip()) <= longest
        and any(character.isalpha() for character in text)
        and all(character in JOINERS or unicodedata.category(character) not in HIDDEN for character in text)
        and "\ufffd" not in text
    )
