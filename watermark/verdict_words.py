"""What a verdict says to a person: one headline and one explanation per code and reason, in plain English.

C2PA's own words for a credential that fails are kept. No text says "authentic", "verified" or "real" of a picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from watermark.credentials import Credentials

SEVERITY = {
    "ours_intact": "neutral",
    "ours_withdrawn": "warning",
    "ours_changed": "warning",
    "ours_recovered": "warning",
    "disagree": "error",
    "other_trusted": "neutral",
    "other_unknown": "neutral",
    "other_invalid": "error",
    "nothing_found": "neutral",
    "unreadable": "neutral",
}
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


@dataclass(frozen=True)
class Words:
    """What the texts depend on."""

    code: str
    reason: str
    credentials: Credentials | None = None
    false_alarm_log10: float = 0.0
    published_at: datetime | None = None
    permission_changed_at: datetime | None = None
    test: bool = False
    attested: bool = False
    not_screened: tuple[str, ...] = ()
    stamped: bool = True
    unreadable: str = ""
    possible: bool = False


@dataclass(frozen=True)
class Said:
    """The two texts."""

    headline: str
    sentence: str


SCREENED_KINDS = {
    "nsfw": "nudity",
    "age": "age",
    "face_forgery": "forged faces",
    "ai_image": "generated pictures",
    "lists": "blocked pictures and people",
}
"""The words for what the gate can be asked about; an unknown kind is shown as it is called."""


def words(about: Words) -> Said:
    """The texts for one verdict; raises KeyError for a code or reason that has none (a test walks through all)."""
    headline, parts = _texts(about)
    if about.code.startswith("ours_"):
        if about.test:
            parts.append("It is a test output, made outside live mode.")
        if about.not_screened:
            kinds = (SCREENED_KINDS.get(kind, kind.replace("_", " ")) for kind in about.not_screened)
            parts.append(f"Its inputs were not screened for: {', '.join(kinds)}.")
        if not about.stamped:
            parts.append("It carries no trusted time stamp: the date is our own word.")
    elif about.credentials and about.credentials.declares_ai and about.code in ("other_trusted", "other_unknown"):
        parts.append("The credential says that AI was used.")
    if about.possible and not about.code.startswith("ours_"):
        parts.append(
            "It looks like something that was made here with AI. That is no proof: pictures of one scene look alike."
        )
    return Said(headline, " ".join(parts))


def _texts(about: Words) -> tuple[str, list[str]]:
    match about.code:
        case "ours_intact":
            return _intact(about)
        case "ours_withdrawn":
            return _withdrawn(about)
        case "ours_changed":
            return (
                f"Edited with AI here{_on(about.published_at)}, and changed after signing.",
                [
                    "The file is no longer the one we signed.",
                    f"Our hidden mark is present{_odds(about)}, and the content matches our record.",
                    _permission(about, "for what we published"),
                ],
            )
        case "ours_recovered":
            return _recovered(about)
        case "disagree":
            return _DISAGREE[about.reason][0], [_DISAGREE[about.reason][1], "Do not rely on either."]
        case "other_trusted":
            return (
                f"Content Credentials issued by {_issuer(about)}.",
                ["They were not issued here. The signer is on a list of trusted issuers and the file is as signed."],
            )
        case "other_unknown" if about.reason == "remote_only":
            return (
                "This file points to Content Credentials that are kept elsewhere.",
                ["An address named in a file is fetched only if you ask for it, so nothing can be said about them."],
            )
        case "other_unknown":
            return (
                "Signed, but we do not know the signer.",
                [f"The signature names {_issuer(about)}. Anybody can make such a name up. The file is as signed."],
            )
        case "other_invalid":
            return "Content Credential unavailable or invalid.", [_INVALID[about.reason]]
        case "nothing_found":
            return (
                "No marks found. This does not mean it is real.",
                ["Neither a Content Credential nor our hidden mark was found. Both can be missing or removed."],
            )
        case _:
            return "This file could not be read.", [about.unreadable]


_DISAGREE = {
    "other_id": (
        "The label does not belong to this picture.",
        "The Content Credential and the hidden mark name two different outputs of ours.",
    ),
    "content_mismatch": (
        "The label does not belong to this picture.",
        "A hidden mark of ours was found, but what we published with that mark looks different.",
    ),
    "not_our_signature": (
        "The label does not belong to this picture.",
        "Its Content Credential names an output of ours, but it is not the one that we signed for that output.",
    ),
    "mark_missing": (
        "The label does not belong to this picture.",
        "It carries a Content Credential of ours that was made for other bytes, and our hidden mark is not in it.",
    ),
    "not_compared": (
        "Our hidden mark is present, but we cannot confirm that it belongs to this picture.",
        "A mark can be copied onto another picture, and our record no longer holds anything to compare with.",
    ),
    "too_plain": (
        "Our hidden mark is present, but we cannot confirm that it belongs to this picture.",
        "A mark can be copied onto another picture, and this one shows too little to compare with our record.",
    ),
    "no_record": (
        "It carries a mark of ours, but we have no record of it.",
        "Without a record nobody can say who gave permission, or whether it is still in force.",
    ),
}
_INVALID = {
    "": "The file was changed after it was signed, or the credential was damaged or moved. It was not issued here.",
    "broken": "The file holds a Content Credential that cannot be read.",
}


def _intact(about: Words) -> tuple[str, list[str]]:
    headline = f"Edited with AI here{_on(about.published_at)}. {_permission(about)}"
    parts = ["The file is exactly as we published it."]
    if about.reason == "mark_not_read":
        parts.append("Our hidden mark was not read, which this answer does not need.")
    return headline, parts


def _withdrawn(about: Words) -> tuple[str, list[str]]:
    moment = _on(about.permission_changed_at)
    if about.reason == "taken_down":
        return f"This was taken down{moment}. Please do not share.", [
            f"It was made here with AI{_on(about.published_at)}."
        ]
    if about.reason == "revoked":
        return (
            f"The operator ended the permission{moment}. Please do not share.",
            [f"It was made here with AI{_on(about.published_at)}, with a permission that is no longer in force."],
        )
    return (
        f"Permission was withdrawn{moment}. Please do not share.",
        [f"It was made here with AI{_on(about.published_at)}, with a permission that is no longer in force."],
    )


def _recovered(about: Words) -> tuple[str, list[str]]:
    if about.reason == "certificate_expired":
        lead = "Its Content Credential can no longer be checked, but our hidden mark is present."
    else:
        lead = "Label data was removed, but our hidden mark is present."
    return lead, [
        f"Edited with AI here{_on(about.published_at)}.",
        f"The mark was read{_odds(about)}, and the content matches our record.",
        _permission(about),
    ]


def _permission(about: Words, what: str = "") -> str:
    tail = f" {what}" if what else ""
    if about.attested:
        return (
            f"The person whose face was put in gave permission{tail}; for the person it replaces, the account stated "
            "that it holds the rights."
        )
    return f"The people shown gave permission{tail}."


def _issuer(about: Words) -> str:
    name = about.credentials.issuer or about.credentials.common_name if about.credentials else ""
    return name or "an issuer without a name"


def _on(moment: datetime | None) -> str:
    if moment is None:
        return ""
    day = moment.astimezone(UTC)
    return f" on {day.day} {MONTHS[day.month - 1]} {day.year}"


def _odds(about: Words) -> str:
    """How unlikely a reading by chance is, as a person reads it."""
    power = math.floor(-about.false_alarm_log10)
    if power < 2:
        return ""
    names = (
        (12, "a million million"),
        (9, "a thousand million"),
        (6, "a million"),
        (3, "a thousand"),
        (2, "a hundred"),
    )
    return f" (by chance: less than once in {next(name for least, name in names if power >= least)})"
