"""What a person's erasure means for their portal: links, sessions, wishes and notes go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from consent.erasure import Line, Scope, register_eraser
from consent.portal import access as portal_access
from consent.portal.models import Note, PortalLink, PortalSession, Restriction, Wishes


def register() -> None:
    """Called at start-up."""
    register_eraser("portal", forget_person)


def forget_person(scope: Scope, look_only: bool) -> Iterator[Line]:
    """See `consent.erasure.register_eraser`."""
    rows: tuple[tuple[str, Any], ...] = (
        ("notes to the operator, with their answers", Note.objects.filter(subject=scope.subject_id)),
        ("links to the portal", PortalLink.objects.filter(subject=scope.subject_id)),
        ("sessions of the portal", PortalSession.objects.filter(subject=scope.subject_id)),
        ("holds on single permissions", Restriction.objects.filter(consent__in=scope.consent_ids)),
        ("wishes for everything", Wishes.objects.filter(subject=scope.subject_id)),
    )
    for what, found in rows:
        yield Line(what, found.count() if look_only else found.delete()[0])
    if scope.contact:
        asks = portal_access.asks_of(scope.contact)
        yield Line("counts of tries to be let in", asks.count() if look_only else asks.delete()[0])
