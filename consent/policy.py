"""Does this permission cover this use? Pure and total: an answer for every input, never an exception.

Rules are asked in a fixed order and the answer names the first that fails. A scope can only narrow: whatever a
narrower consent covers, a wider one covers too (a property test holds that down).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

PURPOSES = ("personal", "social", "advertising", "film")
ROLES = ("face_donor", "target_person")


@dataclass(frozen=True)
class ConsentFacts:
    """What the person granted, and what became of it. Times are aware; hashes are SHA-256 in hexadecimal.

    A scope of None is without limit (any target, everywhere, any length); an empty set allows nothing of the kind.
    """

    state: str
    organisation_id: str
    role: str
    purposes: frozenset[str]
    photo_sha256s: frozenset[str]  # of the donor's photos; empty for a target person
    targets: frozenset[tuple[str, int]] | None  # (SHA-256, face); None: any target (a donor's consent only)
    valid_from: datetime | None
    valid_until: datetime
    max_outputs: int
    uses: int  # reserved and counted
    max_seconds: float | None = None  # of one output
    max_total_seconds: float | None = None  # of all outputs together
    seconds_used: float = 0.0  # reserved and counted
    partners: frozenset[str] = frozenset()  # who may get outputs besides the organisation that asked
    territories: frozenset[str] | None = None  # ISO 3166-1 alpha-2
    no_sexual: bool = True
    no_political: bool = True
    livemode: bool = False
    restricted: bool = False  # the person put it on hold, alone or with everything else about them


@dataclass(frozen=True)
class UseFacts:
    """What is about to be made, or published.

    `seconds` is None for a photo. `reserved`: this very use was reserved before and is now being published. `partner`
    is who gets the output besides the organisation itself, "" for nobody; `territories` None is everywhere.
    """

    role: str
    purpose: str
    photo_sha256s: frozenset[str]
    target_sha256: str
    target_face: int
    organisation_id: str
    seconds: float | None
    at: datetime
    partner: str = ""
    territories: frozenset[str] | None = None
    sexual: bool = False
    political: bool = False
    reserved: bool = False
    livemode: bool = False


@dataclass(frozen=True)
class Decision:
    """`ok`, or the `rule` that failed (a stable code) and a message for the account."""

    ok: bool
    rule: str = ""
    message: str = ""


COVERED = Decision(True)

MESSAGES = {
    "consent_not_given": "The person has not agreed. Wait for their answer; nothing was made.",
    "consent_refused": "The person said no. Nothing was made; choose another person's pictures.",
    "consent_lapsed": "The person did not answer in time. Nothing was made; ask them again.",
    "consent_withdrawn": "The person withdrew their permission. Nothing may be made or published with it any more.",
    "consent_revoked": "The operator revoked this permission. Nothing may be made or published with it any more.",
    "consent_superseded": "The person gave a newer permission in place of this one. Use that one.",
    "consent_expired": "The permission has ended. Nothing was made; ask the person again.",
    "consent_exhausted": "The permission allows no further result. Nothing was made; ask the person again.",
    "consent_restricted": "The person put their permission on hold. Nothing is made or published until they lift that.",
    "consent_test_mode": "This permission was asked for in test mode. A live job needs one asked for in live mode.",
    "consent_other_organisation": "There is no such consent in your organisation.",
    "consent_wrong_role": "The person agreed in another role. Ask them again for the role they have in this job.",
    "consent_not_yet_valid": "The permission is not valid yet. Nothing was made; wait until it begins.",
    "consent_wrong_purpose": "The person did not agree to this purpose. Choose one they agreed to, or ask them again.",
    "consent_other_photo": "The person did not agree to this photo. Use one they confirmed, or ask them again.",
    "consent_other_target": "The person agreed to another picture or another face in it. Use that one, or ask again.",
    "consent_other_partner": "The person did not agree that this partner gets the result. Name one they agreed to.",
    "consent_other_territory": "The person did not agree to all these countries. Name fewer, or ask the person again.",
    "consent_no_sexual": "The person did not agree to anything sexual. Nothing was made.",
    "consent_no_political": "The person did not agree to anything political. Nothing was made.",
    "consent_too_long": "The result would be longer than the person agreed to. Shorten it, or ask them again.",
    "consent_seconds_used_up": "The permission allows no more seconds of video than were made. Ask the person again.",
    "consent_unreadable": "The permission or the request cannot be read. Nothing was made; ask the person again.",
}

_ENDED = {"refused", "lapsed", "withdrawn", "revoked", "superseded", "expired"}


def covers(consent: ConsentFacts, use: UseFacts) -> Decision:
    """The decision, with the first rule that fails."""
    try:
        for rule in _failing(consent, use):
            return Decision(False, rule, MESSAGES[rule])
    except (TypeError, ValueError, AttributeError, ArithmeticError):
        return Decision(False, "consent_unreadable", MESSAGES["consent_unreadable"])  # not what the types promise
    return COVERED


def _failing(consent: ConsentFacts, use: UseFacts) -> Iterator[str]:
    """The rules that fail, in order. Comparisons are written so that a NaN fails them."""
    if consent.organisation_id != use.organisation_id or not consent.organisation_id:
        yield "consent_other_organisation"  # first: a foreign consent must not even tell its state
    if consent.state in _ENDED:
        yield f"consent_{consent.state}"
    # Used up by its own reservation is covered; used up by others is not.
    elif consent.state == "exhausted":
        if not use.reserved:
            yield "consent_exhausted"
    elif consent.state != "given":
        yield "consent_not_given"
    if consent.restricted:
        yield "consent_restricted"
    if use.livemode and not consent.livemode:
        yield "consent_test_mode"
    if consent.role != use.role or consent.role not in ROLES:
        yield "consent_wrong_role"
    if consent.valid_from is None or _utc(use.at) < _utc(consent.valid_from):
        yield "consent_not_yet_valid"
    if not _utc(use.at) < _utc(consent.valid_until):
        yield "consent_expired"
    if use.purpose not in consent.purposes or use.purpose not in PURPOSES:
        yield "consent_wrong_purpose"
    if consent.role == "face_donor" and not (use.photo_sha256s and use.photo_sha256s <= consent.photo_sha256s):
        yield "consent_other_photo"
    if not _names_target(consent, use):
        yield "consent_other_target"
    if use.partner and use.partner not in consent.partners:
        yield "consent_other_partner"
    if not _within(consent.territories, use.territories):
        yield "consent_other_territory"
    if use.sexual and consent.no_sexual:
        yield "consent_no_sexual"
    if use.political and consent.no_political:
        yield "consent_no_political"
    if consent.max_seconds is not None and use.seconds is not None and not use.seconds <= consent.max_seconds:
        yield "consent_too_long"
    if not use.reserved and not consent.uses < consent.max_outputs:
        yield "consent_exhausted"
    if not use.reserved and not _seconds_left(consent, use):
        yield "consent_seconds_used_up"


def _names_target(consent: ConsentFacts, use: UseFacts) -> bool:
    if consent.targets is None:
        return consent.role == "face_donor"
    return (use.target_sha256, use.target_face) in consent.targets


def _within(allowed: frozenset[str] | None, wanted: frozenset[str] | None) -> bool:
    """Is every wanted country allowed? Everywhere is within everywhere only, and nowhere is no place to publish."""
    if allowed is None:
        return wanted is None or bool(wanted)
    return wanted is not None and bool(wanted) and wanted <= allowed


def _seconds_left(consent: ConsentFacts, use: UseFacts) -> bool:
    """Is there room for the seconds of this use? What is used up already is asked first: a sum could overflow."""
    if consent.max_total_seconds is None or use.seconds is None:
        return True
    if not 0 <= consent.seconds_used <= consent.max_total_seconds or not use.seconds >= 0:
        return False
    return use.seconds <= consent.max_total_seconds - consent.seconds_used


def _utc(moment: datetime) -> datetime:
    """Times are aware; one that is not is read as UTC, so that no input can raise."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
