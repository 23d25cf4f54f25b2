"""How sure a yes must be: the ladder of assurance, and the least level per use and profile. Pure; the one place.

L1 is the person's own link with ticks and a name. L2 adds a live selfie that is compared with the pictures in question.
L3 (a spoken random phrase) and L4 (a document) are declared and refused as not installed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from consent.errors import ConsentError

LEVELS = ("L1", "L2", "L3", "L4")
INSTALLED = frozenset({"L1", "L2"})
# What each level adds, and the state of the part that would check it.
PARTS = {
    "L1": ("link_and_ticks", "installed"),
    "L2": ("live_selfie", "installed"),
    "L3": ("spoken_phrase", "not_installed"),
    "L4": ("document", "not_installed"),
}
PUBLIC = frozenset({"social"})
COMMERCIAL = frozenset({"advertising", "film"})


@dataclass(frozen=True)
class Least:
    """The lowest level that will do, and whether a person of the house must look at the check as well."""

    level: str
    review: bool = False


def least(purposes: Iterable[str], profile: str) -> Least:
    """What these purposes need under this profile; a profile or purpose nobody knows needs the most."""
    if profile == "evaluation":
        return Least("L1")
    return Least("L2", review=any(purpose != "personal" for purpose in purposes))


def reaches(level: str, asked: str) -> bool:
    """Is `level` at least `asked`? Never for a level that is not on the ladder."""
    return level in LEVELS and asked in LEVELS and LEVELS.index(level) >= LEVELS.index(asked)


def level_to_ask(wish: str | None, purposes: Iterable[str], profile: str) -> str:
    """The level to ask for: what policy needs, or the higher one that the account wishes.

    Raises ConsentError: `assurance_unknown`, `assurance_not_installed` (L3, L4), `assurance_too_low`.
    """
    needed = least(purposes, profile).level
    if not wish:
        return needed
    if wish not in LEVELS:
        raise _refused("assurance_unknown", f"There is no level of assurance {wish!r}. Choose one of L1 to L4.")
    if wish not in INSTALLED:
        part = PARTS[wish][0].replace("_", " ")
        raise _refused("assurance_not_installed", f"The level {wish} ({part}) is not installed here. Ask for L2.")
    if not reaches(wish, needed):
        raise _refused(
            "assurance_too_low",
            f"This use needs the level {needed}; {wish} is less. Ask for {needed}, or leave it out.",
        )
    return wish


def _refused(code: str, message: str) -> ConsentError:
    return ConsentError(code, f"{message} Nobody was asked.", fields={"assurance": code})
