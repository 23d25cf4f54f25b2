"""What the gate's reason codes mean outside of it: data, in one place.

The codes are those of `worker.gate.policy` and of the rules it asks. What the uploader is told is decided here as well:
who tries out what gets past the gate learns nothing from the answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

# A detector whose calibrated probability reached its second threshold: looked at first, and by two people.
PRIORITY_ENDINGS: Final = ("_high", "_likely")

DETECTED_KINDS: Final = ("face_forgery", "ai_image")

# Told to the uploader as one and the same thing, like every code of a detector.
COARSE: Final = ("listed_face", "listed_picture", "stay_down", "stay_down_unsure", "watched_picture", "protected_stop")
COARSE_CODE: Final = "refused_by_screening"
COARSE_MESSAGE: Final = "This file may not be used here. Nothing was made; write to the operator if you object."

# No person may let these through: a result whose permission ended, and the hard stop that protects children.
NEVER_RELEASED: Final = ("stay_down", "protected_stop")

# Nobody's judgement: there is nothing in the file that this service could work with.
UNWORKABLE: Final = ("picture_too_small", "no_face", "not_markable")


def is_priority(reasons: Iterable[str]) -> bool:
    """Must two people look, and first?"""
    return any(code.endswith(PRIORITY_ENDINGS) for code in reasons)


def is_coarse(reasons: Iterable[str]) -> bool:
    """Would the fine codes help whoever tries to get past the gate?"""
    return any(code in COARSE or code.startswith(tuple(f"{kind}_" for kind in DETECTED_KINDS)) for code in reasons)


def passed(policy_version: str) -> str:
    """All that is ever said for a file: that it was let through, by which rules. Never that it is genuine."""
    return f"passed input screening, policy v{policy_version}"


def told(reasons: tuple[str, ...], message: str) -> tuple[str, str]:
    """(code, message) of a refusal as the account reads it; the evidence keeps all codes."""
    return (COARSE_CODE, COARSE_MESSAGE) if is_coarse(reasons) else (reasons[0], message)
