"""Answers kept for partners who ask twice: those that speak of a person who is being erased."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.fernet import InvalidToken

from consent.erasure import Line, Scope
from webapp.api import idempotency
from webapp.api.models import IdempotentRequest


def forget_person(scope: Scope, look_only: bool) -> Iterator[Line]:
    """See `consent.erasure.register_eraser`. They live for a day and are few, so each is opened and looked at."""
    count = 0
    for row in IdempotentRequest.objects.filter(response_sealed__isnull=False).iterator():
        try:
            text = idempotency.answer_of(row)
        except InvalidToken:
            text = ""  # nobody can read it any more, so nobody can tell; it goes
        if text and not any(each in text or each in row.path for each in scope.consent_ids):
            continue
        count += 1
        if not look_only:
            row.delete()
    yield Line("answers kept for partners", count)
