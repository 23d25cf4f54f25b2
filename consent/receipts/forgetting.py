"""What a person's erasure means for their receipts: both copies and the link go; the hash stays, for what names it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator

from consent.erasure import Line, Scope, register_eraser
from consent.receipts.models import Receipt

WHAT = "receipts, with their links"


def register() -> None:
    """Called at start-up."""
    register_eraser("receipts", forget_person)


def forget_person(scope: Scope, look_only: bool) -> Iterator[Line]:
    """See `consent.erasure.register_eraser`. What the person keeps of their receipt stays theirs, and verifies."""
    rows = Receipt.objects.filter(consent__in=scope.consent_ids, jws_sealed__isnull=False)
    if look_only:
        yield Line(WHAT, rows.count())
        return
    count = 0
    for row in rows:
        nobody = hashlib.sha256(secrets.token_bytes(32)).hexdigest()
        count += Receipt.objects.filter(pk=row.pk).update(jws_sealed=None, house_jws_sealed=None, token_sha256=nobody)
    yield Line(WHAT, count)
