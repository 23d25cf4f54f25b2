"""The rules about what is seen in a picture: nudity, age, forged faces, generated pictures. Pure; `policy` asks them.

Sections 7 and 8 of the gate's reference. A learned detector alone sends to review, never refuses; an estimate of age
is a challenge band, no verdict on anybody's age.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from worker.gate.profiles import Profile
from worker.gate.signals import ASSETS, Signal
from worker.limits import AGE_CHALLENGE, AGE_REJECT, NSFW_REJECT, NSFW_REVIEW, NSFW_VOTES

KINDS: Final = ("nsfw", "age", "face_forgery", "ai_image")
HARD_STOP: Final = "protected_stop"
"""Refused without a preview for anybody: the reference's hard stop, for the operator's legal process only."""

# What a broken tool's code may be in a reason; any other is told as "error", so that reasons stay a closed set.
CODES: Final = frozenset(
    {
        "engine_failed",
        "engine_unavailable",
        "model_hash_mismatch",
        "model_missing",
        "no_pictures",
        "not_finite",
        "out_of_range",
        "pack_licence_missing",
        "pack_licence_not_accepted",
        "pack_malformed",
        "pack_missing",
        "pack_not_loaded",
        "provider_unavailable",
        "record_unreadable",
        "service_answer",
        "service_key",
        "service_limited",
        "service_not_asked",
        "service_unfit",
        "service_unreachable",
        "timeout",
    }
)


_BROKEN: Final = "A part of the screening did not work."


class Rule(NamedTuple):
    """As `policy.Finding`, which is made of it."""

    verdict: Literal["accept", "review", "reject"]
    code: str
    message: str


def findings(by_kind: Mapping[str, Signal], profile: Profile) -> list[Rule]:
    """What the measured and the broken signals of these kinds lead to; those that are absent are the caller's."""
    found = _stop(by_kind)
    for kind in KINDS:
        signal = by_kind.get(kind)
        if signal is None or signal.tool == ASSETS:
            continue
        if signal.status == "error":
            found.append(Rule("review", f"{kind}_{error_code(signal)}", _BROKEN))
        elif signal.status == "not_applicable":
            found += _gap(kind, profile)
        elif signal.status == "measured":
            try:
                found += {"nsfw": _nsfw, "age": _age}.get(kind, _detected)(signal, profile)
            except (KeyError, TypeError):  # a record that holds no numbers answers nothing
                found.append(Rule("review", f"{kind}_error", _BROKEN))
    return found + _conflict(by_kind)


def error_code(signal: Signal) -> str:
    """Why a tool broke, out of `CODES`, else "error"."""
    code = signal.value.get("code")
    return code if code in CODES else "error"


def _stop(by_kind: Mapping[str, Signal]) -> list[Rule]:
    nude, old = by_kind.get("nsfw"), by_kind.get("age")
    if nude is None or old is None or {nude.status, old.status} != {"measured"}:
        return []
    try:
        scored, share = _nudity(nude)
        youngest = old.value["youngest"]
        doubtful = not (scored < NSFW_REVIEW and share <= 0)
        if youngest is None or youngest >= AGE_CHALLENGE or not doubtful:
            return []
    except (KeyError, TypeError):  # told as an error of its kind
        return []
    # Says as little as can be: whoever tries this is to learn nothing from it.
    message = "This file cannot be used here. Nothing was made, and nobody is shown it. Write to the operator."
    return [Rule("reject", HARD_STOP, message)]


def _conflict(by_kind: Mapping[str, Signal]) -> list[Rule]:
    """A camera's name in the file and a detector that decides against it: one of the two is wrong (section 8).

    A camera's name alone is weak, so it never outweighs a detector; beside one it tells the reviewer what to look at.
    """
    origin = by_kind.get("provenance")
    detected = [by_kind[kind] for kind in ("face_forgery", "ai_image") if kind in by_kind]
    try:
        if origin is None or origin.status != "measured":
            return []
        camera = any(each["claim"] == "camera" for each in origin.value["declarations"])
        high = any(one.status == "measured" and one.tool != ASSETS and _over(one) for one in detected)
    except (KeyError, TypeError):  # told as an error of its kind
        return []
    if not (camera and high):
        return []
    message = "What the file says of its making and what it looks like do not agree; a person looks at it."
    return [Rule("review", "signals_in_conflict", message)]


def _over(signal: Signal) -> bool:
    # Written so that a number which is none counts as over.
    return not signal.value["p"] < signal.value["review"]


def _nsfw(signal: Signal, profile: Profile) -> list[Rule]:
    scored, share = _nudity(signal)
    # Written so that a number which is none is refused, not let through.
    if scored < NSFW_REVIEW and share <= 0:
        return []
    if scored < NSFW_REJECT and share <= NSFW_VOTES:
        return [Rule("review", "nsfw_unsure", "The picture may show nudity; a person looks at it.")]
    message = "The picture shows nudity, which is not used here. Nothing was made. Use another one."
    return [Rule("reject", "nsfw", message)]


def _nudity(signal: Signal) -> tuple[float, float]:
    """The built-in model's highest score (0 where only packs looked) and the share of pictures that packs agree on."""
    highest, votes = signal.value["highest"], signal.value.get("votes")
    if votes is None:
        return highest, 0.0
    return (0.0 if highest is None else highest), votes["share"]


def _age(signal: Signal, profile: Profile) -> list[Rule]:
    youngest = signal.value["youngest"]
    found = []
    if youngest is not None and not youngest >= AGE_REJECT:
        message = "A person in it looks too young to be used here. Nothing was made. Use another file."
        found.append(Rule("reject", "age_too_young", message))
    elif youngest is not None and not youngest >= AGE_CHALLENGE:
        found.append(Rule("review", "age_challenge", "A person in it looks young; somebody looks at it."))
    if signal.value["not_applicable"]:
        found += _gap("age", profile)
    return found


def _detected(signal: Signal, profile: Profile) -> list[Rule]:
    value = signal.value
    if not _over(signal):
        return []
    # At or above the second threshold two people look, and first; the code says so.
    degree = "suspected" if value["p"] < value["high"] else "likely"
    message = "The picture looks as if it had been changed or generated; a person looks at it."
    return [Rule("review", f"{signal.kind}_{degree}", message)]


def _gap(kind: str, profile: Profile) -> list[Rule]:
    if profile.unscreened == "proceed":
        return []
    return [Rule("review", f"{kind}_not_applicable", "A part of the screening could not be done on this picture.")]
