"""The states of a consent and the one function that changes them: compare-and-set, event and effects in one go."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from consent import ledger
from consent.errors import ConsentError
from consent.key_errors import KeyDestroyedError
from consent.levels import reaches
from consent.models import Consent, Event
from consent.scope import scope_digest

State = Consent.State
Effect = Callable[[Consent, str, str], None]
Companions = Callable[[str], Iterable[str]]

# DESIGN.md section 4. Withdrawing and revoking also end a permission that is used up or has run out, because results
# made under it may still be held here.
LEGAL: dict[str, frozenset[str]] = {
    State.REQUESTED: frozenset({State.VIEWED, State.REFUSED, State.LAPSED}),
    State.VIEWED: frozenset({State.GIVEN, State.REFUSED, State.LAPSED}),
    State.GIVEN: frozenset({State.EXPIRED, State.EXHAUSTED, State.WITHDRAWN, State.REVOKED, State.SUPERSEDED}),
    State.EXPIRED: frozenset({State.WITHDRAWN, State.REVOKED}),
    State.EXHAUSTED: frozenset({State.WITHDRAWN, State.REVOKED}),
    State.SUPERSEDED: frozenset({State.WITHDRAWN, State.REVOKED}),
    State.WITHDRAWN: frozenset(),
    State.REVOKED: frozenset(),
    State.REFUSED: frozenset(),
    State.LAPSED: frozenset(),
}

_effects: list[Effect] = []
_companions: dict[Effect, Companions] = {}


def register_effect(effect: Effect, *, locks: Companions | None = None) -> None:
    """`effect(consent, old, new)` is called inside the transaction of every change of state; if it raises, the change
    is undone. Registering the same function twice registers it once.

    `locks(consent_id)` names further consents that the effect will lock: they are locked first, all in one order.
    """
    if effect not in _effects:
        _effects.append(effect)
    if locks is not None:
        _companions[effect] = locks


def lock(consent_id: str) -> Consent:
    """The record as it is now, held until the end of the transaction. Raises ConsentError `not_found`."""
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("A consent is locked inside a transaction only.")
    return _locked(consent_id, [])


def hold(consent_ids: Iterable[str]) -> list[str]:
    """Nobody changes these consents until the end of the caller's transaction; the ids in the order of locking."""
    rows = Consent.objects.select_for_update(no_key=True).filter(pk__in=set(consent_ids)).order_by("pk")
    return list(rows.values_list("pk", flat=True))


def lock_for_change(consent_id: str) -> Consent:
    """As `lock`, together with the consents whose jobs a change of this one may move, all in order of their ids.

    So two people of one job who answer in the same instant do not wait for each other.
    """
    return _locked(consent_id, companions_of(consent_id))


def companions_of(consent_id: str) -> list[str]:
    """The consents that the effects of a change of this one will lock."""
    known = [_companions[effect] for effect in _effects if effect in _companions]
    return [each for companions in known for each in companions(consent_id)]


def _locked(consent_id: str, companions: Iterable[str]) -> Consent:
    # Without "no key", whoever writes a row that points at the consent would wait, each in an order of its own.
    rows = Consent.objects.select_for_update(no_key=True).filter(pk__in={consent_id, *companions}).order_by("pk")
    found = {consent.pk: consent for consent in rows}
    if consent_id not in found:
        raise ConsentError("not_found", "There is no such consent. Nothing was changed.", status=404)
    return found[consent_id]


def move(
    consent: Consent,
    new: str,
    *,
    code: str = "",
    data: dict[str, Any] | None = None,
    **changes: Any,
) -> None:
    """Change the state of a locked record, with its event and all effects; `changes` are further columns.

    Raises ConsentError `consent_state_illegal` for a change that section 4 of DESIGN.md does not know,
    `assurance_required` for a yes below the level asked, and `consent_state_changed` if somebody else was faster.
    """
    old = consent.state
    if new not in LEGAL[old]:
        raise ConsentError(
            "consent_state_illegal",
            f"A consent that is {old} cannot become {new}. Nothing was changed; look at the record again.",
            status=409,
        )
    reached = str(changes.get("assurance", consent.assurance))
    if new == State.GIVEN and not reaches(reached, consent.assurance_asked):
        # The one door to `given`: no way around the check, whoever calls.
        raise ConsentError(
            "assurance_required",
            f"This permission needs the level {consent.assurance_asked}; {reached} was reached. Nothing was agreed; "
            "the check has to pass first.",
            status=409,
        )
    now = timezone.now()
    values: dict[str, Any] = {"state": new, "changed_at": now, **changes}
    if new not in (State.VIEWED, State.GIVEN):
        values["ended_at"] = now
    if not Consent.objects.filter(pk=consent.pk, state=old).update(**values):
        raise ConsentError(
            "consent_state_changed", "The record changed meanwhile. Nothing was done; look at it again.", status=409
        )
    for column, value in values.items():
        setattr(consent, column, value)
    if new == State.GIVEN:  # what was granted, so that a row edited later differs from its event
        data = {**(data or {}), "scope": scope_digest(consent, answered=True)}
    record(consent, new, code=code, data=data)
    for effect in _effects:
        effect(consent, old, new)


def record(
    consent: Consent, type: str, *, code: str = "", data: dict[str, Any] | None = None, at: datetime | None = None
) -> Event:
    """Append one event, and its entry in the ledger, in the caller's transaction. `data` holds no personal data."""
    with transaction.atomic():
        event = Event.objects.create(
            consent=consent, at=at or timezone.now(), type=type, state=consent.state, code=code, data=data or {}
        )
        try:
            ledger.append_event(event, consent.key_id)
        except KeyDestroyedError:  # of a person who was erased: under the house's key, so that the log stays whole
            ledger.append_event(event, "")
    return event
