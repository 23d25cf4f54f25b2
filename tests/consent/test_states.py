"""Every change of state: the legal ones, the illegal ones, the event and the effects."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from consent import services, transitions
from consent.errors import ConsentError
from consent.models import Consent, Event, Use
from consent.transitions import LEGAL

pytestmark = pytest.mark.django_db

STATES = [state.value for state in Consent.State]
# The table of DESIGN.md section 4, written out once more, so that a changed table is seen.
ALLOWED = {
    ("requested", "viewed"),
    ("requested", "refused"),
    ("requested", "lapsed"),
    ("viewed", "given"),
    ("viewed", "refused"),
    ("viewed", "lapsed"),
    ("given", "expired"),
    ("given", "exhausted"),
    ("given", "withdrawn"),
    ("given", "revoked"),
    ("given", "superseded"),
    ("expired", "withdrawn"),
    ("expired", "revoked"),
    ("exhausted", "withdrawn"),
    ("exhausted", "revoked"),
    ("superseded", "withdrawn"),
    ("superseded", "revoked"),
}


def _row(state: str, house) -> Consent:
    consent, _ = house.ask(contact="")
    Consent.objects.filter(pk=consent.pk).update(state=state)
    consent.refresh_from_db()
    return consent


@pytest.mark.parametrize(("old", "new"), itertools.product(STATES, STATES))
def test_only_the_changes_of_the_table_happen(house, effects, old: str, new: str) -> None:
    consent = _row(old, house)
    events = Event.objects.count()
    with transaction.atomic():
        if (old, new) in ALLOWED:
            transitions.move(transitions.lock(consent.pk), new)
        else:
            with pytest.raises(ConsentError) as refused:
                transitions.move(transitions.lock(consent.pk), new)
            assert refused.value.code == "consent_state_illegal"
    consent.refresh_from_db()
    happened = (old, new) in ALLOWED
    assert consent.state == (new if happened else old)
    assert Event.objects.count() == events + happened
    assert effects == ([(consent.pk, old, new)] if happened else [])
    if happened:
        last = Event.objects.last()
        assert (last.type, last.state, last.consent_id) == (new, new, consent.pk)


def test_the_table_has_no_other_states() -> None:
    assert set(LEGAL) == set(STATES)
    assert {(old, new) for old, news in LEGAL.items() for new in news} == ALLOWED


@pytest.mark.parametrize("state", STATES)
def test_the_services_reach_every_state(house, state: str) -> None:
    assert house.in_state(state).state == state


@pytest.mark.parametrize("state", [state for state in STATES if state not in {"requested", "viewed"}])
def test_an_answered_question_is_not_answered_again(house, state: str) -> None:
    consent = house.in_state(state)
    with pytest.raises(ConsentError) as error:
        house.answer(consent)
    assert error.value.code == "consent_not_open"
    with pytest.raises(ConsentError) as error:
        services.refuse_consent(consent, block=True)
    assert error.value.code == "consent_not_open"
    consent.refresh_from_db()
    assert consent.state == state


@pytest.mark.parametrize("state", ["requested", "viewed", "refused", "lapsed", "revoked"])
def test_only_a_given_permission_can_be_withdrawn(house, state: str) -> None:
    consent = house.in_state(state)
    with pytest.raises(ConsentError):
        services.withdraw_consent(consent)
    consent.refresh_from_db()
    assert consent.state == state


@pytest.mark.parametrize("state", ["given", "expired", "exhausted", "superseded"])
def test_a_permission_is_withdrawn_once_and_for_all(house, effects, state: str) -> None:
    consent = house.in_state(state)
    effects.clear()
    services.withdraw_consent(consent)
    assert consent.state == "withdrawn"
    assert consent.ended_at is not None
    services.withdraw_consent(consent)
    assert effects == [(consent.pk, state, "withdrawn")]
    assert consent.events.filter(type="withdrawn").count() == 1


def test_an_effect_that_fails_undoes_the_change(house, effects) -> None:
    consent = house.given()

    def fail(consent: Consent, old: str, new: str) -> None:
        raise RuntimeError("the jobs could not be stopped")

    services.register_effect(fail)
    events = Event.objects.count()
    with pytest.raises(RuntimeError):
        services.withdraw_consent(consent)
    consent.refresh_from_db()
    assert consent.state == "given"
    assert Event.objects.count() == events


def test_an_effect_registered_twice_is_called_once(house, effects) -> None:
    seen: list[str] = []

    def note(consent: Consent, old: str, new: str) -> None:
        seen.append(new)

    services.register_effect(note)
    services.register_effect(note)
    services.refuse_consent(house.ask()[0])
    assert seen == ["viewed", "refused"]


def test_a_stale_copy_cannot_bring_a_permission_back(house) -> None:
    consent = house.given()
    stale = Consent.objects.get(pk=consent.pk)
    services.withdraw_consent(consent)
    with transaction.atomic(), pytest.raises(ConsentError) as error:
        transitions.move(stale, "expired")
    assert error.value.code == "consent_state_changed"
    consent.refresh_from_db()
    assert consent.state == "withdrawn"


def test_time_ends_requests_and_permissions_but_nothing_else(house) -> None:
    open_request, _ = house.ask(contact="")
    given = house.given(contact="", days=30)
    refused = house.in_state("refused")
    now = timezone.now()
    assert services.expire_due(now) == 0
    assert services.expire_due(now + timedelta(days=8)) == 1
    assert services.expire_due(now + timedelta(days=8)) == 0
    assert services.expire_due(now + timedelta(days=31)) == 1
    states = services.state_of([open_request.id, given.id, refused.id, "cns_none"])
    assert states == {open_request.id: "lapsed", given.id: "expired", refused.id: "refused"}


def test_a_permission_asked_for_in_place_of_an_older_one_takes_its_place_when_given(house, effects) -> None:
    older = house.given()
    newer, _ = house.ask(replaces=older.id)
    older.refresh_from_db()
    assert older.state == "given"
    effects.clear()
    house.answer(newer)
    older.refresh_from_db()
    assert (older.state, newer.state, newer.supersedes_id) == ("superseded", "given", older.pk)
    assert (older.pk, "given", "superseded") in effects


def test_a_permission_in_use_is_not_superseded(house) -> None:
    older = house.given()
    assert services.reserve_use(older.id, job_id="job_1", use=house.use()).ok
    house.given(replaces=older.id)
    older.refresh_from_db()
    assert older.state == "given"
    assert older.uses.get().state == Use.State.RESERVED


def test_a_second_permission_for_the_same_pictures_leaves_the_first_in_force(house) -> None:
    older = house.given()
    house.given()
    older.refresh_from_db()
    assert older.state == "given"


@pytest.mark.parametrize(
    "other",
    [
        {"organisation_id": "org_dan"},
        {"contact": "other@example.org"},
        {"role": "target_person", "photos": [], "contact": "ada@example.org"},
    ],
)
def test_only_a_permission_of_the_same_person_to_the_same_organisation_is_replaced(house, other) -> None:
    older = house.given()
    with pytest.raises(ConsentError) as error:
        house.ask(**{"replaces": older.id, **other})
    assert error.value.fields == {"replaces": "not_found"}


def test_a_lock_is_refused_outside_a_transaction(house, monkeypatch) -> None:
    class Outside:
        in_atomic_block = False

    monkeypatch.setattr(transitions.transaction, "get_connection", Outside)
    with pytest.raises(RuntimeError):
        transitions.lock("cns_any")
