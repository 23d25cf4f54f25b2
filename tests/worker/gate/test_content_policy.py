"""What is seen in a picture and what could not be looked for: every combination, under every profile."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.gate.clean import SEEN, clean_upload
from tests.worker.gate.test_policy import clean_job
from worker.gate import content_policy, policy, profiles, signals
from worker.gate.declared import provenance
from worker.gate.declared.declarations import Declaration
from worker.gate.signals import Signal

EVALUATION, STANDARD, STRICT = (profiles.named(name) for name in ("evaluation", "standard", "strict"))
KINDS = content_policy.KINDS
NOT_FORGERY = tuple(kind for kind in KINDS if kind != "face_forgery")


def upload(**kinds: Signal | None) -> list[Signal]:
    """A clean and wholly screened upload but for `kinds`; None leaves a kind's record out."""
    chosen = {**SEEN, **kinds}
    base = [each for each in clean_upload() if each.kind not in SEEN]
    return [*base, *(each for each in chosen.values() if each is not None)]


STATES = {
    "seen": lambda kind: SEEN[kind],
    "absent": lambda kind: Signal(kind, "not_installed", {"code": "not_built"}),
    "unrecorded": lambda kind: None,
    "nothing to look at": lambda kind: Signal(kind, "not_applicable"),
    "timeout": lambda kind: signals.failed(kind, "timeout"),
    "not finite": lambda kind: signals.failed(kind, "not_finite"),
    "empty": lambda kind: Signal(kind, "measured"),
}
REASON = {
    "absent": "not_screened_{}",
    "unrecorded": "not_screened_{}",
    "nothing to look at": "{}_not_applicable",
    "timeout": "{}_timeout",
    "not finite": "{}_not_finite",
    "empty": "{}_error",
}
ALWAYS = {"timeout", "not finite", "empty"}  # a broken tool asks a person in every profile


@pytest.mark.parametrize("profile", [EVALUATION, STANDARD, STRICT], ids=lambda one: one.name)
def test_all_combinations_of_what_was_not_looked_at(profile: profiles.Profile) -> None:
    """7 states of 4 kinds, 2401 uploads: the decision, and exactly the reasons, that decision 14 asks for."""
    for states in itertools.product(STATES, repeat=len(KINDS)):
        found = upload(**{kind: STATES[state](kind) for kind, state in zip(KINDS, states, strict=True)})
        expected = set()
        for kind, state in zip(KINDS, states, strict=True):
            if state == "seen":
                continue
            left_to_the_job = kind == "face_forgery" and state in ("absent", "unrecorded") and profile is not STRICT
            if state in ALWAYS or (profile is not EVALUATION and not left_to_the_job):
                expected.add(REASON[state].format(kind))
        decision = policy.decide_asset(found, profile, "target")
        assert set(decision.reasons) == expected, states
        assert decision.decision == ("review" if expected else "accept")
        gaps = {kind for kind, state in zip(KINDS, states, strict=True) if state not in ("seen", "empty")}
        assert set(decision.not_screened) == gaps
        assert decision.label_required == bool(gaps)
        if profile is STRICT and set(states) != {"seen"}:
            assert decision.decision != "accept"


@pytest.mark.parametrize("levels", [("L2", "L2"), ("L1", "L2")])
@pytest.mark.parametrize("profile", [EVALUATION, STANDARD, STRICT], ids=lambda one: one.name)
@pytest.mark.parametrize("gaps", [{"face_forgery"}, {"nsfw", "face_forgery"}, set(), None])
def test_a_job_is_screened_for_what_all_its_assets_were(
    levels: tuple[str, ...], profile: profiles.Profile, gaps: set[str] | None
) -> None:
    found = [each for each in clean_job(levels=levels, profile=profile) if each.kind not in signals.NOT_SCREENED]
    decision = policy.decide_job([*found, *signals.carried(gaps)], profile)
    assert set(decision.not_screened) == set(signals.NOT_SCREENED if gaps is None else gaps)
    # Only face forgery is left to the job, and only `standard` with a live check of everybody lets it pass.
    stopped = profile is STANDARD and levels != ("L2", "L2") and "face_forgery" in decision.not_screened
    assert decision.reasons == (("not_screened_face_forgery",) if stopped else ())


@pytest.mark.parametrize(
    ("kind", "value", "expected", "code"),
    [
        ("nsfw", {"highest": 0.1999}, "accept", ""),
        ("nsfw", {"highest": 0.2}, "review", "nsfw_unsure"),
        ("nsfw", {"highest": 0.7999}, "review", "nsfw_unsure"),
        ("nsfw", {"highest": 0.8}, "reject", "nsfw"),
        ("nsfw", {"highest": math.nan}, "reject", "nsfw"),
        ("nsfw", {"highest": 0.01, "votes": {"share": 0.0}}, "accept", ""),
        ("nsfw", {"highest": 0.01, "votes": {"share": 0.05}}, "review", "nsfw_unsure"),
        ("nsfw", {"highest": 0.01, "votes": {"share": 0.11}}, "reject", "nsfw"),
        ("nsfw", {"highest": None, "votes": {"share": 0.0}}, "accept", ""),
        ("nsfw", {"highest": None, "votes": {"share": 1.0}}, "reject", "nsfw"),
        ("nsfw", {"highest": None}, "review", "nsfw_error"),
        ("age", {"youngest": 25.0, "not_applicable": 0}, "accept", ""),
        ("age", {"youngest": 24.9, "not_applicable": 0}, "review", "age_challenge"),
        ("age", {"youngest": 16.0, "not_applicable": 0}, "review", "age_challenge"),
        ("age", {"youngest": 15.9, "not_applicable": 0}, "reject", "age_too_young"),
        ("age", {"youngest": math.nan, "not_applicable": 0}, "reject", "age_too_young"),
        ("face_forgery", {"p": 0.3999, "review": 0.4, "high": 0.7}, "accept", ""),
        ("face_forgery", {"p": 0.4, "review": 0.4, "high": 0.7}, "review", "face_forgery_suspected"),
        ("ai_image", {"p": 0.7, "review": 0.4, "high": 0.7}, "review", "ai_image_likely"),
        ("ai_image", {"p": 1.0, "review": 0.4, "high": 0.7}, "review", "ai_image_likely"),
        ("ai_image", {"p": math.nan, "review": 0.4, "high": 0.7}, "review", "ai_image_likely"),
    ],
)
def test_each_band_has_its_decision_and_its_code(kind: str, value: dict[str, float], expected: str, code: str) -> None:
    for profile in (EVALUATION, STANDARD, STRICT):
        decision = policy.decide_asset(upload(**{kind: Signal(kind, "measured", value)}), profile, "target")
        assert (decision.decision, decision.reasons) == (expected, (code,) if code else ())


@pytest.mark.parametrize(("nude", "years", "stopped"), [(0.2, 24.9, True), (0.2, 25.0, False), (0.19, 24.9, False)])
def test_a_young_face_in_a_doubtful_picture_is_refused_and_shown_to_nobody(
    nude: float, years: float, stopped: bool
) -> None:
    found = upload(
        nsfw=Signal("nsfw", "measured", {"highest": nude}),
        age=Signal("age", "measured", {"youngest": years, "not_applicable": 0}),
    )
    for profile in (EVALUATION, STANDARD, STRICT):
        decision = policy.decide_asset(found, profile, "source")
        assert decision.preview_allowed == (not stopped)
        assert (decision.decision == "reject") == stopped
        if stopped:
            assert decision.reasons[0] == content_policy.HARD_STOP
            assert "age" not in decision.message
            assert "nud" not in decision.message


def test_voters_alone_can_call_for_the_hard_stop() -> None:
    found = upload(
        nsfw=Signal("nsfw", "measured", {"highest": None, "votes": {"share": 0.01}}),
        age=Signal("age", "measured", {"youngest": 20, "not_applicable": 0}),
    )
    assert policy.decide_asset(found, EVALUATION, "target").reasons[0] == content_policy.HARD_STOP


def test_a_person_whose_age_nobody_could_estimate_is_looked_at_in_production() -> None:
    found = upload(age=Signal("age", "measured", {"youngest": 44.0, "not_applicable": 2}))
    assert policy.decide_asset(found, EVALUATION, "target").decision == "accept"
    for profile in (STANDARD, STRICT):
        assert policy.decide_asset(found, profile, "target").reasons == ("age_not_applicable",)


def test_a_code_that_nobody_knows_is_told_as_an_error() -> None:
    found = upload(nsfw=signals.failed("nsfw", "<script>"))
    assert policy.decide_asset(found, EVALUATION, "target").reasons == ("nsfw_error",)


@given(
    st.fixed_dictionaries(
        {
            "nsfw": st.floats(0, 1),
            "age": st.floats(0, 99),
            "p": st.floats(0, 1),
            "states": st.lists(st.sampled_from(sorted(STATES)), min_size=4, max_size=4),
        }
    )
)
def test_a_stricter_profile_never_decides_more_mildly(drawn: dict[str, object]) -> None:
    values = {
        "nsfw": Signal("nsfw", "measured", {"highest": drawn["nsfw"]}),
        "age": Signal("age", "measured", {"youngest": drawn["age"], "not_applicable": 0}),
        "face_forgery": Signal("face_forgery", "measured", {"p": drawn["p"], "review": 0.4, "high": 0.7}),
        "ai_image": SEEN["ai_image"],
    }
    states = dict(zip(KINDS, drawn["states"], strict=True))  # type: ignore[arg-type]
    found = upload(**{kind: values[kind] if states[kind] == "seen" else STATES[states[kind]](kind) for kind in KINDS})
    order = [
        policy.SEVERITY[policy.decide_asset(found, profile, "target").decision]
        for profile in (EVALUATION, STANDARD, STRICT)
    ]
    assert order == sorted(order)


CAMERA = provenance.measured([Declaration("camera", "Canon EOS R6", "exif")])
PLAIN = provenance.measured([])
GENERATOR = provenance.measured([Declaration("generator", "ComfyUI", "png_text")])


def detected(kind: str, p: float, status: Any = "measured", tool: str = "packs") -> Signal:
    value = {"p": p, "review": 0.4, "high": 0.7}
    return Signal(kind, status, value if status == "measured" else {"code": "timeout", "p": p}, tool)


@pytest.mark.parametrize("profile", [EVALUATION, STANDARD, STRICT], ids=lambda one: one.name)
@pytest.mark.parametrize("kind", ["face_forgery", "ai_image"])
@pytest.mark.parametrize(
    ("origin", "p", "status", "reasons"),
    [
        (CAMERA, 0.02, "measured", ()),
        (CAMERA, 0.3999, "measured", ()),
        (CAMERA, 0.4, "measured", ("{}_suspected", "signals_in_conflict")),
        (CAMERA, 0.7, "measured", ("{}_likely", "signals_in_conflict")),
        (CAMERA, math.nan, "measured", ("{}_likely", "signals_in_conflict")),
        (CAMERA, 0.9, "error", ("{}_timeout",)),  # a tool that broke says nothing that could be contradicted
        (PLAIN, 0.9, "measured", ("{}_likely",)),
        (GENERATOR, 0.9, "measured", ("{}_likely", "declared_ai_generator")),  # they agree
        (signals.failed("provenance", "timeout"), 0.9, "measured", ("{}_likely", "provenance_error")),
    ],
)
def test_a_camera_and_a_detector_that_disagree_have_their_own_reason(
    profile: profiles.Profile, kind: str, origin: Signal, p: float, status: str, reasons: tuple[str, ...]
) -> None:
    found = [each for each in upload(**{kind: detected(kind, p, status)}) if each.kind != "provenance"]
    decision = policy.decide_asset([*found, origin], profile, "source")
    assert decision.reasons == tuple(reason.format(kind) for reason in reasons)
    assert decision.decision == ("review" if reasons else "accept")


@pytest.mark.parametrize("declarations", [None, 7, [{}], [None]])
def test_a_record_of_origin_that_holds_nonsense_is_no_conflict_and_no_crash(declarations: Any) -> None:
    by_kind = {
        "provenance": Signal("provenance", "measured", {"declarations": declarations}),
        "ai_image": detected("ai_image", 0.9),
    }
    assert [rule.code for rule in content_policy.findings(by_kind, STANDARD)] == ["ai_image_likely"]


def test_advice_is_no_conflict() -> None:
    """What no calibrated pack stands behind is recorded as not installed, whatever its numbers say."""
    value = {"code": "no_enforcing_pack", "packs": [{"id": "meso4_df", "raw": 0.99, "p": 0.99, "role": "advisory"}]}
    by_kind = {"provenance": CAMERA, "face_forgery": Signal("face_forgery", "not_installed", value, "packs")}
    assert content_policy.findings(by_kind, STANDARD) == []
