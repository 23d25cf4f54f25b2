"""`covers` is pure, total, names the first rule that fails, and never covers more for a narrower scope."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consent.policy import MESSAGES, PURPOSES, ROLES, ConsentFacts, UseFacts, covers

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
FACTS = ConsentFacts(
    state="given",
    organisation_id="org_a",
    role="face_donor",
    purposes=frozenset({"personal", "social"}),
    photo_sha256s=frozenset({"p1", "p2"}),
    targets=frozenset({("t1", 0)}),
    valid_from=NOW - timedelta(days=1),
    valid_until=NOW + timedelta(days=1),
    max_outputs=2,
    uses=0,
    max_seconds=10.0,
    livemode=True,
)
USE = UseFacts(
    role="face_donor",
    purpose="personal",
    photo_sha256s=frozenset({"p1"}),
    target_sha256="t1",
    target_face=0,
    organisation_id="org_a",
    seconds=10.0,
    at=NOW,
    livemode=True,
)

STATES = [
    "requested", "viewed", "given", "refused", "lapsed", "expired", "exhausted", "withdrawn", "revoked", "superseded",
]  # fmt: skip

CASES = [
    ({}, {}, ""),
    ({"state": "requested"}, {}, "consent_not_given"),
    ({"state": "viewed"}, {}, "consent_not_given"),
    ({"state": "something new"}, {}, "consent_not_given"),
    ({"state": "refused"}, {}, "consent_refused"),
    ({"state": "lapsed"}, {}, "consent_lapsed"),
    ({"state": "withdrawn"}, {}, "consent_withdrawn"),
    ({"state": "withdrawn"}, {"reserved": True}, "consent_withdrawn"),
    ({"state": "revoked"}, {"reserved": True}, "consent_revoked"),
    ({"state": "superseded"}, {}, "consent_superseded"),
    ({"state": "expired"}, {"reserved": True}, "consent_expired"),
    ({"state": "exhausted"}, {}, "consent_exhausted"),
    ({"state": "exhausted", "uses": 2}, {"reserved": True}, ""),
    ({"livemode": False}, {}, "consent_test_mode"),
    ({"livemode": True}, {"livemode": False}, ""),
    ({}, {"organisation_id": "org_b"}, "consent_other_organisation"),
    ({"state": "withdrawn"}, {"organisation_id": "org_b"}, "consent_other_organisation"),
    ({}, {"role": "target_person"}, "consent_wrong_role"),
    ({"valid_from": None}, {}, "consent_not_yet_valid"),
    ({}, {"at": NOW - timedelta(days=2)}, "consent_not_yet_valid"),
    ({}, {"at": NOW + timedelta(days=1)}, "consent_expired"),
    ({}, {"at": NOW + timedelta(days=1), "reserved": True}, "consent_expired"),
    ({}, {"at": NOW.replace(tzinfo=None)}, ""),
    ({}, {"purpose": "film"}, "consent_wrong_purpose"),
    ({"purposes": frozenset({"training"})}, {"purpose": "training"}, "consent_wrong_purpose"),
    ({}, {"photo_sha256s": frozenset()}, "consent_other_photo"),
    ({}, {"photo_sha256s": frozenset({"p1", "p3"})}, "consent_other_photo"),
    ({}, {"photo_sha256s": frozenset({"p1", "p2"})}, ""),
    ({}, {"target_sha256": "t2"}, "consent_other_target"),
    ({}, {"target_face": 1}, "consent_other_target"),
    ({"targets": None}, {"target_sha256": "t9", "target_face": 7}, ""),
    ({"targets": frozenset()}, {}, "consent_other_target"),
    ({"targets": frozenset({("t1", 0), ("t2", 3)})}, {"target_sha256": "t2", "target_face": 3}, ""),
    ({"targets": frozenset({("t1", 0), ("t2", 3)})}, {"target_sha256": "t2", "target_face": 0}, "consent_other_target"),
    ({}, {"partner": "Dan"}, "consent_other_partner"),
    ({"partners": frozenset({"Dan"})}, {"partner": "Dan"}, ""),
    ({"partners": frozenset({"Dan"})}, {}, ""),
    ({}, {"territories": frozenset({"DE"})}, ""),
    ({}, {"territories": frozenset()}, "consent_other_territory"),
    ({"territories": frozenset({"DE", "FR"})}, {"territories": frozenset({"DE"})}, ""),
    ({"territories": frozenset({"DE"})}, {"territories": frozenset({"DE", "FR"})}, "consent_other_territory"),
    ({"territories": frozenset({"DE"})}, {}, "consent_other_territory"),
    ({"territories": frozenset()}, {"territories": frozenset()}, "consent_other_territory"),
    ({"no_political": False}, {"political": True}, ""),
    ({"max_total_seconds": 20.0, "seconds_used": 10.0}, {}, ""),
    ({"max_total_seconds": 20.0, "seconds_used": 10.1}, {}, "consent_seconds_used_up"),
    ({"max_total_seconds": 20.0, "seconds_used": 20.0}, {"seconds": None}, ""),
    ({"max_total_seconds": 20.0, "seconds_used": 20.0}, {"reserved": True}, ""),
    ({"max_total_seconds": 20.0, "seconds_used": float("nan")}, {}, "consent_seconds_used_up"),
    ({"max_total_seconds": float("nan")}, {}, "consent_seconds_used_up"),
    ({"max_total_seconds": 20.0, "max_seconds": None}, {"seconds": -1.0}, "consent_seconds_used_up"),
    ({"valid_until": None}, {}, "consent_unreadable"),
    ({"purposes": None}, {}, "consent_unreadable"),
    ({"max_seconds": None, "max_total_seconds": 0.5}, {"seconds": 10**400}, "consent_seconds_used_up"),
    ({}, {"sexual": True}, "consent_no_sexual"),
    ({}, {"political": True}, "consent_no_political"),
    ({}, {"seconds": 10.1}, "consent_too_long"),
    ({}, {"seconds": float("nan")}, "consent_too_long"),
    ({}, {"seconds": None}, ""),
    ({"max_seconds": None}, {"seconds": 1e9}, ""),
    ({"uses": 2}, {}, "consent_exhausted"),
    ({"uses": 2}, {"reserved": True}, ""),
]


@pytest.mark.parametrize(("consent", "use", "rule"), CASES)
def test_the_first_rule_that_fails_is_named(consent: dict, use: dict, rule: str) -> None:
    decision = covers(replace(FACTS, **consent), replace(USE, **use))
    assert (decision.ok, decision.rule) == (not rule, rule)
    assert decision.message == MESSAGES.get(rule, "")


def test_a_target_person_needs_their_target_and_no_photos() -> None:
    facts = replace(FACTS, role="target_person", photo_sha256s=frozenset())
    use = replace(USE, role="target_person")
    assert covers(facts, use).ok
    assert covers(replace(facts, targets=None), use).rule == "consent_other_target"


moments = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))
naive = st.datetimes()  # also the first and the last moment there is
hashes = st.frozensets(st.sampled_from(["p1", "p2", "p3"]))
seconds = st.none() | st.floats(allow_nan=True) | st.integers(-(10**400), 10**400)
few = st.integers(-1, 4)
numbers = few | st.integers(-(10**30), 10**30)
places = st.none() | st.frozensets(st.sampled_from(["DE", "FR", "CN", ""]))
names = st.sampled_from(["", "Dan", "Eve"])
pairs = st.frozensets(st.tuples(st.sampled_from(["t1", "t2", ""]), few), max_size=3)
consents = st.builds(
    ConsentFacts,
    state=st.sampled_from(["given", "given", "given", *STATES]) | st.text(max_size=5),
    organisation_id=st.sampled_from(["org_a", "org_b", ""]),
    role=st.sampled_from([*ROLES, ""]),
    purposes=st.frozensets(st.sampled_from([*PURPOSES, "training"])),
    photo_sha256s=hashes,
    targets=st.none() | pairs,
    valid_from=st.none() | moments | naive,
    valid_until=moments | naive,
    max_outputs=numbers,
    uses=numbers,
    max_seconds=seconds,
    max_total_seconds=seconds,
    seconds_used=seconds.filter(lambda value: value is not None),
    partners=st.frozensets(names),
    territories=places,
    no_sexual=st.booleans(),
    no_political=st.booleans(),
    livemode=st.booleans(),
)
uses = st.builds(
    UseFacts,
    role=st.sampled_from([*ROLES, ""]),
    purpose=st.sampled_from([*PURPOSES, "training", ""]),
    photo_sha256s=hashes,
    target_sha256=st.sampled_from(["t1", "t2"]),
    target_face=few,
    organisation_id=st.sampled_from(["org_a", "org_b", ""]),
    seconds=seconds,
    at=moments | naive,
    partner=names,
    territories=places,
    sexual=st.booleans(),
    political=st.booleans(),
    reserved=st.booleans(),
    livemode=st.booleans(),
)


def aware(moment: datetime) -> datetime:
    """As `covers` reads a time without a zone."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@given(consents, uses)
@settings(max_examples=500, deadline=None)
def test_there_is_an_answer_for_everything(consent: ConsentFacts, use: UseFacts) -> None:
    decision = covers(consent, use)
    assert decision.ok is (decision.rule == "")
    assert decision.ok or decision.message == MESSAGES[decision.rule]
    if decision.ok:
        assert consent.state in {"given", "exhausted"}
        assert consent.state == "given" or use.reserved
        assert consent.valid_from is not None
        assert aware(consent.valid_from) <= aware(use.at) < aware(consent.valid_until)
        assert consent.targets is None or (use.target_sha256, use.target_face) in consent.targets
        assert not use.partner or use.partner in consent.partners
        assert consent.territories is None or (use.territories or {"nowhere named"}) <= consent.territories
        assert use.photo_sha256s <= consent.photo_sha256s or consent.role == "target_person"
        assert not (use.sexual and consent.no_sexual)


@st.composite
def covered(draw: st.DrawFn) -> tuple[ConsentFacts, UseFacts]:
    """A pair near the covered one, so that the law below is not vacuous."""
    part = draw(st.frozensets(st.sampled_from(["p1", "p2"]), min_size=1))
    consent = replace(
        FACTS,
        purposes=draw(st.frozensets(st.sampled_from(PURPOSES), min_size=1)),
        photo_sha256s=part,
        max_outputs=draw(st.integers(1, 3)),
        max_seconds=draw(st.none() | st.floats(0, 20)),
        uses=draw(st.integers(0, 2)),
        no_sexual=draw(st.booleans()),
        no_political=draw(st.booleans()),
        targets=draw(st.none() | st.sets(st.sampled_from([("t1", 0), ("t2", 0)]), min_size=1).map(frozenset)),
        max_total_seconds=draw(st.none() | st.floats(0, 40)),
        seconds_used=draw(st.floats(0, 20)),
        partners=draw(st.frozensets(st.sampled_from(["Dan", "Eve"]))),
        territories=draw(st.none() | st.frozensets(st.sampled_from(["DE", "FR"]))),
    )
    use = replace(
        USE,
        purpose=draw(st.sampled_from(PURPOSES)),
        photo_sha256s=draw(st.frozensets(st.sampled_from(["p1", "p2"]), min_size=1)),
        seconds=draw(st.none() | st.floats(0, 20)),
        sexual=draw(st.booleans()),
        political=draw(st.booleans()),
        reserved=draw(st.booleans()),
        partner=draw(names),
        territories=draw(st.none() | st.frozensets(st.sampled_from(["DE", "FR"]))),
        target_sha256=draw(st.sampled_from(["t1", "t2"])),
    )
    return consent, use


def narrower(wide: frozenset | None, other: frozenset | None) -> frozenset | None:
    """A part of `wide`; None is all there is."""
    return other if wide is None else wide if other is None else wide & other


@given(covered(), st.data())
@settings(max_examples=500, deadline=None)
def test_a_narrower_scope_never_covers_more(pair: tuple[ConsentFacts, UseFacts], data: st.DataObject) -> None:
    wide, use = pair
    narrow = replace(
        wide,
        purposes=wide.purposes & data.draw(st.frozensets(st.sampled_from(PURPOSES))),
        photo_sha256s=wide.photo_sha256s & data.draw(hashes),
        max_outputs=data.draw(st.integers(0, wide.max_outputs)),
        max_seconds=data.draw(st.floats(0, wide.max_seconds if wide.max_seconds is not None else 100.0)),
        uses=wide.uses + data.draw(st.integers(0, 2)),
        no_sexual=wide.no_sexual or data.draw(st.booleans()),
        no_political=wide.no_political or data.draw(st.booleans()),
        max_total_seconds=data.draw(st.floats(0, wide.max_total_seconds if wide.max_total_seconds is not None else 99)),
        seconds_used=wide.seconds_used + data.draw(st.floats(0, 5)),
        partners=wide.partners & data.draw(st.frozensets(names)),
        territories=narrower(wide.territories, data.draw(places)),
        targets=narrower(wide.targets, data.draw(st.none() | pairs)),
        valid_until=wide.valid_until - timedelta(hours=data.draw(st.integers(0, 48))),
        state=data.draw(st.sampled_from([wide.state, *STATES])),
        livemode=wide.livemode and data.draw(st.booleans()),
    )
    if covers(narrow, use).ok:
        assert covers(wide, use).ok


@given(consents.filter(lambda consent: consent.state not in {"given", "exhausted"}), uses)
@settings(max_examples=300, deadline=None)
def test_nothing_but_a_given_permission_covers_anything(consent: ConsentFacts, use: UseFacts) -> None:
    assert not covers(consent, use).ok
