"""Rows from before there was a log get their entries, once, by an operator who has looked at them."""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction

from consent import ledger
from consent.ledger import sources
from consent.ledger.entries import append_event
from consent.models import Event

OPERATOR = "house:operator"
CHUNK = 500


def waiting() -> list[str]:
    """The sources of rows without an entry."""
    return list(sources.unentered())


def adopt(show: Callable[[str, float], None] = lambda words, fraction: None) -> int:
    """Enter them in the order in which they are stored, and an audit record of the act; returns how many.

    It may be stopped and started again.
    """
    found = waiting()
    for start in range(0, len(found), CHUNK):
        chunk = found[start : start + CHUNK]
        with transaction.atomic():
            _enter(chunk)
            ledger.audit(OPERATOR, "ledger_adopted", "", f"{len(chunk)} rows from before the log, first {chunk[0]}")
        show(f"row {start + len(chunk):,} of {len(found):,}", (start + len(chunk)) / len(found))
    return len(found)


def _enter(chunk: list[str]) -> None:
    now = sources.current_payloads(chunk)
    events = Event.objects.select_related("consent").in_bulk(
        [int(source.removeprefix("event:")) for source in chunk if source.startswith("event:")]
    )
    for source in chunk:
        prefix, _, pk = source.partition(":")
        payload = now.get(source)
        if prefix == "event":
            event = events[int(pk)]
            append_event(event, event.consent.key_id)
        elif payload is not None:
            kind = {"screening": "screening", "review": "screening", "audit": "audit"}.get(prefix, "consent")
            ledger.append(kind, "adopted", payload, ref=pk, source=source)
