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
    target_sha256="t1",
    target_face=0,
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
    ({"target_sha256": None, "target_face": None}, {"target_sha256": "t9", "target_face": 7}, ""),
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
    assert covers(replace(facts, target_sha256=None, target_face=None), use).rule == "consent_other_target"


moments = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))
hashes = st.frozensets(st.sampled_from(["p1", "p2", "p3"]))
seconds = st.none() | st.floats(allow_nan=True)
few = st.integers(-1, 4)
consents = st.builds(
    ConsentFacts,
    state=st.sampled_from(["given", "given", "given", *STATES]) | st.text(max_size=5),
    organisation_id=st.sampled_from(["org_a", "org_b", ""]),
    role=st.sampled_from([*ROLES, ""]),
    purposes=st.frozensets(st.sampled_from([*PURPOSES, "training"])),
    photo_sha256s=hashes,
    target_sha256=st.none() | st.sampled_from(["t1", "t2"]),
    target_face=st.none() | few,
    valid_from=st.none() | moments,
    valid_until=moments,
    max_outputs=few,
    uses=few,
    max_seconds=seconds,
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
    at=moments,
    sexual=st.booleans(),
    political=st.booleans(),
    reserved=st.booleans(),
    livemode=st.booleans(),
)


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
        assert consent.valid_from <= use.at < consent.valid_until
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
        target_sha256=draw(st.none() | st.just("t1")),
    )
    use = replace(
        USE,
        purpose=draw(st.sampled_from(PURPOSES)),
        photo_sha256s=draw(st.frozensets(st.sampled_from(["p1", "p2"]), min_size=1)),
        seconds=draw(st.none() | st.floats(0, 20)),
        sexual=draw(st.booleans()),
        political=draw(st.booleans()),
        reserved=draw(st.booleans()),
    )
    return consent, use


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
        target_sha256=wide.target_sha256 or data.draw(st.sampled_from([None, "t1", "t2"])),
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
