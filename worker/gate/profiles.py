"""How strict a deployment is about what could not be screened (DESIGN.md decision 14)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Answer = Literal["proceed", "review"]


class ProfileError(ValueError):
    """No profile, or an unknown one: the gate stays shut."""

    code = "profile_missing"


@dataclass(frozen=True)
class Profile:
    """`unscreened`: what happens to an input of which some kind was not screened.

    `forgery_with_l2`: the same for face forgery alone, when every depicted person has an L2 consent.
    """

    name: str
    unscreened: Answer
    forgery_with_l2: Answer


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("evaluation", unscreened="proceed", forgery_with_l2="proceed"),
        Profile("standard", unscreened="review", forgery_with_l2="proceed"),
        Profile("strict", unscreened="review", forgery_with_l2="review"),
    )
}


def named(name: str) -> Profile:
    """The profile of that name. Raises ProfileError: without one nothing is let through."""
    try:
        return PROFILES[name]
    except KeyError:
        raise ProfileError(
            f"{name!r} is no gate profile, so nothing is let through. "
            f"Set IMPRIMATUR_PROFILE to one of {', '.join(PROFILES)}."
        ) from None
