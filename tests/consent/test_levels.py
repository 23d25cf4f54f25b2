"""The ladder of assurance: one rule for the least level, and nothing that is not installed."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consent import levels
from consent.errors import ConsentError
from consent.policy import PURPOSES
from worker.gate import policy as gate

purposes = st.lists(st.sampled_from(PURPOSES), min_size=1, max_size=4, unique=True)
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
profiles = st.sampled_from(["evaluation", "standard", "strict", "", "unheard of"])


def test_the_gate_knows_the_same_ladder() -> None:
    assert gate.LEVELS == levels.LEVELS
    assert set(levels.PARTS) == set(levels.LEVELS)
    assert {level for level, (_, state) in levels.PARTS.items() if state == "installed"} == levels.INSTALLED


@unhurried
@given(purposes, profiles)
def test_only_the_evaluation_does_without_a_selfie(uses: list[str], profile: str) -> None:
    needed = levels.least(uses, profile)
    assert needed.level == ("L1" if profile == "evaluation" else "L2")
    assert needed.review == (profile != "evaluation" and uses != ["personal"])


@unhurried
@given(purposes, purposes, profiles)
def test_more_uses_never_need_less(some: list[str], others: list[str], profile: str) -> None:
    fewer, more = levels.least(some, profile), levels.least([*some, *others], profile)
    assert levels.reaches(more.level, fewer.level)
    assert more.review >= fewer.review


@unhurried
@given(st.one_of(st.none(), st.text(max_size=4), st.sampled_from(levels.LEVELS)), purposes, profiles)
def test_a_wish_raises_the_level_or_is_refused(wish: str | None, uses: list[str], profile: str) -> None:
    needed = levels.least(uses, profile).level
    if wish and not (wish in levels.INSTALLED and levels.reaches(wish, needed)):
        with pytest.raises(ConsentError) as refused:
            levels.level_to_ask(wish, uses, profile)
        assert refused.value.status == 422
        assert refused.value.code in {"assurance_unknown", "assurance_not_installed", "assurance_too_low"}
        assert "Nobody was asked." in refused.value.message
        return
    asked = levels.level_to_ask(wish, uses, profile)
    assert levels.reaches(asked, needed)
    assert asked in levels.INSTALLED
    assert asked == (wish or needed)


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ("L1", "assurance_too_low"),
        ("L3", "assurance_not_installed"),
        ("L4", "assurance_not_installed"),
        ("L5", "assurance_unknown"),
        ("l2", "assurance_unknown"),
    ],
)
def test_each_wrong_wish_has_its_own_code(wish: str, code: str) -> None:
    with pytest.raises(ConsentError) as refused:
        levels.level_to_ask(wish, ["personal"], "standard")
    assert refused.value.code == code
    assert refused.value.fields == {"assurance": code}


@unhurried
@given(st.text(max_size=3), st.text(max_size=3))
def test_what_is_not_on_the_ladder_reaches_nothing(level: str, asked: str) -> None:
    expected = level in levels.LEVELS and asked in levels.LEVELS and level >= asked
    assert levels.reaches(level, asked) == expected
