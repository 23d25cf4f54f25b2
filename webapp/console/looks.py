"""Before an operator sees a face or a record they give a reason; it is in the audit log before anything is shown.

A look lasts 15 minutes in the session that gave the reason, for that one record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest
from django.utils import timezone

from consent import ledger
from webapp.accounts.models import User

LASTS = 15 * 60  # seconds
LONGEST = 500
SESSION_KEY = "looks"
MOST = 50  # looks kept in a session; the oldest go first
# Why a record is looked at: (code, words). The code stands in the log, with the operator's own words after it.
REASONS = (
    ("subject_request", "The person shown asked us"),
    ("complaint", "A complaint or a takedown request"),
    ("authority", "A court or an authority asks"),
    ("moderation", "To decide a review"),
    ("abuse", "Suspected fraud or abuse"),
    ("support", "The account needs help"),
    ("other", "Something else (say what)"),
)
_NEEDS_WORDS = {"other"}


def asking(problem: tuple[str, str] = ("", "")) -> dict[str, Any]:
    """What a list's page needs to ask for reasons; `problem` is a record and what is wrong with the reason for it."""
    return {"reasons": REASONS, "problem_of": problem[0], "problem": problem[1]}


class ReasonMissingError(Exception):
    """Nothing is shown without a reason; nothing was logged."""

    code = "reason_required"
    message = "Choose a reason; for “something else”, say what. Nothing was shown."


def reason_of(request: HttpRequest) -> str:
    """The reason in a form: its code, and the operator's words. Raises ReasonMissingError."""
    code = request.POST.get("why", "")
    text = " ".join(request.POST.get("reason", "").replace("\x00", "").split())[:LONGEST]
    if code not in dict(REASONS) or (code in _NEEDS_WORDS and not text):
        raise ReasonMissingError
    return f"{code}: {text}" if text else code


def open_look(
    request: HttpRequest, user: User, record: str, *, action: str, about: Sequence[str], reason: str, key_id: str = ""
) -> None:
    """Log the look at each thing it is `about`, then allow it. `record` is what the page asks `may_look` for."""
    for ref in about:
        ledger.audit(str(user.pk), action, ref, reason, key_id=key_id)
    now = timezone.now().timestamp()
    looks = {name: until for name, until in request.session.get(SESSION_KEY, {}).items() if until > now}
    looks.pop(record, None)
    looks[record] = now + LASTS
    request.session[SESSION_KEY] = dict(list(looks.items())[-MOST:])


def may_look(request: HttpRequest, record: str) -> bool:
    """Was a reason given for this record in this session, in the last 15 minutes?"""
    until = request.session.get(SESSION_KEY, {}).get(record, 0)
    return bool(until > timezone.now().timestamp())


def minutes_left(request: HttpRequest, record: str) -> int:
    """For how long the record is still shown, rounded up."""
    until = request.session.get(SESSION_KEY, {}).get(record, 0)
    return max(0, int((until - timezone.now().timestamp() + 59) // 60))
