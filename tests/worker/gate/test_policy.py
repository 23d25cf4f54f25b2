"""The gate's decision table: what is missing, broken or found never slips through."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.gate import policy, profiles, signals
from worker.gate.signals import Signal

EVALUATION, STANDARD, STRICT = (profiles.named(name) for name in ("evaluation", "standard", "strict"))


SEEN = {
    "nsfw": Signal("nsfw", "measured", {"highest": 0.01}),
    "age": Signal("age", "measured", {"youngest": 44.0, "not_applicable": 0}),
    "face_forgery": Signal("face_forgery", "measured", {"p": 0.02, "review": 0.4, "high": 0.7}),
    "ai_image": Signal("ai_image", "measured", {"p": 0.02, "review": 0.4, "high": 0.7}),
    "lists": Signal("lists", "measured"),
}


def clean_asset(**changes: Signal) -> list[Signal]:
    """Signals of an upload with nothing wrong; `changes` replaces kinds."""
    found = {
        "dimensions": signals.dimensions(512, 512, None),
        "faces": signals.faces("target", [180.0]),
        "markable": signals.markable(None),
        "own_mark": signals.own_mark(None, "full"),
        "credentials": signals.credentials("none", is_ours=False, issuer=None, source_types=[]),
        "listed_face": signals.listed_face([], entries=0, threshold=0.0, one_to_many=False, chance=0.0),
        "stay_down": signals.stay_down("", 0),
    }
    return [*{**found, **changes}.values(), *signals.not_installed()]


def clean_job(
    distance: float = 0.0, levels: tuple[str, ...] = ("L2", "L2"), profile: profiles.Profile = EVALUATION
) -> list[Signal]:
    return [
        signals.identity([distance]),
        signals.pose(1, 0, 4.0),
        signals.assurance(levels),
        signals.asset_profiles([profile.name, profile.name]),
        signals.relationships(["friend", ""]),
        *signals.not_installed(),
    ]


def screened(found: list[Signal]) -> list[Signal]:
    """As if every kind that is not installed had been measured, and nothing been found."""
    return [SEEN.get(each.kind, each) if each.status == "not_installed" else each for each in found]


def test_a_clean_upload_is_accepted_in_evaluation_and_its_gaps_are_named() -> None:
    decision = policy.decide_asset(clean_asset(), EVALUATION, "target")
    assert (decision.decision, decision.reasons) == ("accept", ())
    assert decision.not_screened == signals.NOT_SCREENED
    assert decision.label_required


@pytest.mark.parametrize("profile", [STANDARD, STRICT])
def test_in_production_what_was_not_screened_goes_to_a_person(profile: profiles.Profile) -> None:
    decision = policy.decide_asset(clean_asset(), profile, "target")
    assert decision.decision == "review"
    assert "not_screened_nsfw" in decision.reasons
    assert ("not_screened_face_forgery" in decision.reasons) == (profile is STRICT)


def test_a_wholly_screened_upload_is_accepted_in_every_profile_and_needs_no_label() -> None:
    for profile in (EVALUATION, STANDARD, STRICT):
        decision = policy.decide_asset(screened(clean_asset()), profile, "target")
        assert decision.decision == "accept"
        assert not decision.label_required


@pytest.mark.parametrize(
    ("kind", "signal", "expected", "code"),
    [
        ("faces", signals.faces("target", []), "reject", "no_face"),
        ("faces", signals.faces("target", [63.9]), "reject", "face_too_small"),
        ("dimensions", signals.dimensions(63, 900, None), "reject", "picture_too_small"),
        ("markable", signals.markable("too_flat"), "reject", "not_markable"),
        ("own_mark", signals.own_mark(b"\x01" * 8, "full"), "reject", "is_our_output"),
        (
            "credentials",
            signals.credentials("trusted", is_ours=True, issuer="x", source_types=[]),
            "reject",
            "is_our_output",
        ),
        (
            "credentials",
            signals.credentials(
                "valid",
                is_ours=False,
                issuer="x",
                source_types=["http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"],
            ),
            "review",
            "declared_synthetic",
        ),
    ],
)
def test_each_finding_has_its_decision_and_its_code(kind: str, signal: Signal, expected: str, code: str) -> None:
    decision = policy.decide_asset(clean_asset(**{kind: signal}), EVALUATION, "target")
    assert (decision.decision, decision.reasons[0]) == (expected, code)
    assert decision.message


@pytest.mark.parametrize("kind", policy.TARGET_NEEDS)
@pytest.mark.parametrize("profile", [EVALUATION, STANDARD, STRICT])
def test_a_signal_that_is_missing_or_broken_is_never_an_acceptance(kind: str, profile: profiles.Profile) -> None:
    without = [each for each in clean_asset() if each.kind != kind]
    assert policy.decide_asset(without, profile, "target").decision == "review"
    broken = [*without, signals.failed(kind, "timeout")]
    decision = policy.decide_asset(broken, profile, "target")
    assert decision.decision == "review"
    assert f"{kind}_error" in decision.reasons


def test_a_source_photo_need_not_carry_a_mark() -> None:
    found = clean_asset(markable=signals.markable("too_small"))
    assert policy.decide_asset(found, EVALUATION, "source").decision == "accept"


@pytest.mark.parametrize(
    ("distance", "expected"),
    [(0.0, "accept"), (0.45, "accept"), (0.4501, "review"), (0.60, "review"), (0.6001, "reject"), (math.nan, "reject")],
)
def test_identity_passes_to_045_is_looked_at_to_060_and_refused_above(distance: float, expected: str) -> None:
    assert policy.decide_job(clean_job(distance), EVALUATION).decision == expected


def test_in_standard_l2_of_every_person_lets_unscreened_forgery_proceed_and_less_does_not() -> None:
    assert policy.decide_job(clean_job(profile=STANDARD), STANDARD).decision == "accept"
    decision = policy.decide_job(clean_job(levels=("L2", "L1"), profile=STANDARD), STANDARD)
    assert decision.reasons == ("not_screened_face_forgery",)
    assert policy.decide_job(clean_job(levels=("L1", "L1")), EVALUATION).decision == "accept"


@pytest.mark.parametrize("profile", [EVALUATION, STANDARD, STRICT])
def test_a_rights_attestation_is_looked_at_by_a_person_in_every_profile(profile: profiles.Profile) -> None:
    decision = policy.decide_job(screened(clean_job(levels=("L2", "attested"), profile=profile)), profile)
    assert (decision.decision, decision.reasons) == ("review", ("rights_attested",))


@pytest.mark.parametrize("made", [["standard", "evaluation"], ["standard", ""], []])
def test_what_another_profile_let_through_is_looked_at_by_a_person(made: list[str]) -> None:
    found = [each for each in clean_job() if each.kind != "asset_profiles"]
    decision = policy.decide_job([*found, signals.asset_profiles(made)], STANDARD)
    assert (decision.decision, decision.reasons) == ("review", ("screened_under_other_profile",))
    assert policy.decide_job(found, STANDARD).reasons == ("asset_profiles_missing",)


@pytest.mark.parametrize(
    ("frames", "turned", "expected"), [(1, 0, "accept"), (1, 1, "reject"), (100, 5, "accept"), (100, 6, "reject")]
)
def test_faces_that_look_too_far_apart_are_refused_before_anybody_is_asked(
    frames: int, turned: int, expected: str
) -> None:
    found = [each for each in clean_job() if each.kind != "pose"] + [signals.pose(frames, turned, 41.0)]
    decision = policy.decide_job(found, EVALUATION)
    assert decision.decision == expected
    assert ("pose_gap" in decision.reasons) == (expected == "reject")


def test_nobody_answering_for_the_persons_is_never_accepted() -> None:
    assert policy.decide_job(clean_job(levels=()), EVALUATION).decision == "review"


def test_without_a_profile_nothing_is_let_through() -> None:
    for name in ("", "Evaluation", "off"):
        with pytest.raises(profiles.ProfileError):
            profiles.named(name)


FOUND = st.one_of(
    st.builds(signals.faces, st.just("target"), st.lists(st.floats(0, 500), max_size=3)),
    st.builds(signals.markable, st.sampled_from([None, "too_flat"])),
    st.builds(signals.own_mark, st.sampled_from([None, b"12345678"]), st.just("full")),
    st.builds(signals.dimensions, st.integers(1, 4000), st.integers(1, 4000), st.none()),
    st.builds(
        signals.credentials,
        st.sampled_from(["none", "valid"]),
        is_ours=st.booleans(),
        issuer=st.none(),
        source_types=st.lists(st.sampled_from(["trainedAlgorithmicMedia", "digitalCapture"])),
    ),
    st.builds(signals.failed, st.sampled_from(policy.TARGET_NEEDS), st.just("timeout")),
)


@given(st.lists(FOUND, max_size=8))
def test_a_stricter_profile_never_decides_more_mildly(found: list[Signal]) -> None:
    order = {"accept": 0, "review": 1, "reject": 2}
    mild, middle, hard = (
        order[policy.decide_asset(found, profile, "target").decision] for profile in (EVALUATION, STANDARD, STRICT)
    )
    assert mild <= middle <= hard


@pytest.mark.parametrize("profile", [EVALUATION, STANDARD, STRICT])
def test_a_job_on_an_employee_is_looked_at_by_a_person_in_every_profile(profile: profiles.Profile) -> None:
    found = [each for each in screened(clean_job(profile=profile)) if each.kind != "relationship"]
    decision = policy.decide_job([*found, signals.relationships(["friend", "employee"])], profile)
    assert (decision.decision, decision.reasons) == ("review", ("relationship_employee",))
    assert policy.decide_job(found, profile).reasons == ("relationship_missing",)
    assert policy.decide_job([*found, signals.relationships(["self", ""])], profile).decision == "accept"
