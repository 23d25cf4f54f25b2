"""The rows that entries speak of: how to say again today what was committed to, and which rows must have an entry.

An entry's `source` is `kind of row:its id`. Other rooms register theirs at start-up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from consent import ledger
from consent.envelope import EnvelopeError
from consent.keys import KeyStoreError
from consent.ledger.canonical import canonical
from consent.ledger.entries import attestation_payload, audit_payload, event_payload
from consent.ledger.errors import LedgerError
from consent.ledger.models import AuditRecord, LedgerEntry
from consent.models import Attestation, Event

FORGOTTEN = "forgotten"


@dataclass(frozen=True)
class Source:
    """One kind of row. `payloads` yields (id, payload) of those of the given rows that are there; `ids` every row.

    `forgettable` names the members that may change once the log says that the row, or a part of it, was forgotten.
    """

    prefix: str
    payloads: Callable[[Iterable[str]], Iterator[tuple[str, dict[str, Any] | None]]]
    ids: Callable[[], Iterator[str]]
    forgettable: tuple[str, ...] = ()


_registered: dict[str, Source] = {}


def register_source(source: Source) -> None:
    """From now on `ledger verify` compares these rows with their entries, both ways."""
    _registered[source.prefix] = source


def sources() -> list[Source]:
    """The rows of this room, and what others registered."""
    own = (
        Source("event", _event_payloads, _ids_of(Event)),
        Source("attestation", _attestation_payloads, _ids_of(Attestation)),
        Source("audit", _audit_payloads, _ids_of(AuditRecord)),
    )
    return [*own, *_registered.values()]


def forget(wanted: Iterable[str]) -> None:
    """Say in the log that these rows, or their forgettable parts, are deleted; call it in the transaction that does."""
    new = [ledger.NewEntry(LedgerEntry.Kind.AUDIT, FORGOTTEN, {"source": source}) for source in wanted]
    if new:
        ledger.append_many(new)


def differs(source: str, body: bytes, payload: dict[str, Any] | None, *, forgotten: bool) -> bool:
    """Does a row say something else today than the canonical payload that was committed to?"""
    if payload is None:
        return not forgotten
    try:
        if canonical(payload) == body:
            return False
        committed = json.loads(body)
        prefix = source.partition(":")[0]
        free = next(each.forgettable for each in sources() if each.prefix == prefix) if forgotten else ()
        return {k: v for k, v in committed.items() if k not in free} != {
            k: v for k, v in json.loads(canonical(payload)).items() if k not in free
        }
    except (LedgerError, ValueError, AttributeError, StopIteration):
        return True


def forgotten_of(payload: bytes) -> str:
    """The source that a forgetting entry names."""
    return str(json.loads(payload).get("source", ""))


def current_payloads(wanted: Sequence[str]) -> dict[str, dict[str, Any] | None]:
    """What the rows behind these sources say now; a source without a row is missing, None is one nobody can read."""
    found: dict[str, dict[str, Any] | None] = {}
    for source in sources():
        prefix = f"{source.prefix}:"
        ids = [each.removeprefix(prefix) for each in wanted if each.startswith(prefix)]
        if ids:
            found.update({prefix + str(pk): payload for pk, payload in source.payloads(ids)})
    return found


def unentered(chunk: int = 1000) -> Iterator[str]:
    """Sources of rows that have no entry."""
    for source in sources():
        waiting: list[str] = []
        for pk in source.ids():
            waiting.append(f"{source.prefix}:{pk}")
            if len(waiting) == chunk:
                yield from _without_entry(waiting)
                waiting = []
        yield from _without_entry(waiting)


def _without_entry(wanted: list[str]) -> list[str]:
    known = set(LedgerEntry.objects.filter(source__in=wanted).values_list("source", flat=True))
    return [each for each in wanted if each not in known]


def _event_payloads(ids: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for event in Event.objects.filter(pk__in=[int(each) for each in ids if each.isdecimal()]):
        yield str(event.pk), event_payload(event)


def _attestation_payloads(ids: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for attestation in Attestation.objects.filter(pk__in=list(ids)):
        yield attestation.pk, attestation_payload(attestation)


def _audit_payloads(ids: Iterable[str]) -> Iterator[tuple[str, dict[str, Any] | None]]:
    for record in AuditRecord.objects.filter(pk__in=list(ids)):
        try:
            yield record.pk, audit_payload(record)
        except (KeyStoreError, EnvelopeError):
            yield record.pk, None


def _ids_of(model: Any) -> Callable[[], Iterator[str]]:
    def ids() -> Iterator[str]:
        yield from model.objects.order_by("pk").values_list("pk", flat=True).iterator()

    return ids
