"""Whatever is missing, broken or late of these signals: never let through but where decision 14 says so."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import pytest

from tests.worker.gate import vectors
from tests.worker.gate.clean import SEEN, clean_upload
from worker.gate import policy, profiles, rules_origin, signals
from worker.gate.declared import provenance
from worker.gate.declared.declarations import Declaration
from worker.gate.looks import alignment, lists
from worker.gate.signals import Signal
from worker.media import client

NEEDED = ("provenance", "alignment", "own_mark", "credentials", "stay_down")
KINDS = (*NEEDED, "lists")
STATES = ("measured", "absent", "not_installed", "child_timeout")
MEASURED: Mapping[str, Signal] = {
    **{each.kind: each for each in clean_upload()},
    "lists": lists.measured([], names=["one"], entries=1, looked=1),
}
OTHERS = tuple(kind for kind in signals.NOT_SCREENED if kind != "lists")


def in_state(kind: str, state: str) -> list[Signal]:
    match state:
        case "measured":
            return [MEASURED[kind]]
        case "absent":
            return []
        case "not_installed":
            return [Signal(kind, "not_installed")]
    return [signals.failed(kind, state)]


def expected(states: Mapping[str, str], profile: profiles.Profile) -> set[str]:
    """The table: which codes there must be."""
    codes = set()
    for kind, state in states.items():
        if kind == "lists":
            codes |= {"lists_error"} if state == "child_timeout" else set()
            codes |= {"not_screened_lists"} if state != "measured" and profile.unscreened == "review" else set()
        elif state != "measured":
            codes.add(f"{kind}_{ {'absent': 'missing', 'child_timeout': 'error'}.get(state, state) }")
    return codes


@pytest.mark.parametrize("name", profiles.PROFILES)
@pytest.mark.parametrize("role", ["source", "target"])
def test_every_combination_of_states_has_exactly_the_codes_of_the_table(name: str, role: str) -> None:
    profile = profiles.named(name)
    rest = [each for each in clean_upload() if each.kind not in KINDS and each.kind not in OTHERS]
    rest += [SEEN[kind] for kind in OTHERS]
    for chosen in product(STATES, repeat=len(KINDS)):
        states = dict(zip(KINDS, chosen, strict=True))
        found = [*rest, *(signal for kind, state in states.items() for signal in in_state(kind, state))]
        decision = policy.decide_asset(found, profile, role)
        want = expected(states, profile)
        # What another rule says of kinds that are left out here, as those of models, is not asked.
        assert {code for code in decision.reasons if not code.endswith(OTHERS)} == want, states
        if want:
            assert decision.decision == "review", states
        if name != "evaluation" and any(state != "measured" for state in chosen):
            assert decision.decision != "accept", states
        assert ("lists" in decision.not_screened) == (states["lists"] != "measured")


def test_only_the_profile_for_trying_out_lets_a_file_through_without_lists() -> None:
    found = [each for each in clean_upload() if each.kind not in OTHERS]
    found += [SEEN[kind] for kind in OTHERS]
    gaps = {"not_screened_lists"}
    for name, allowed in (("evaluation", True), ("standard", False), ("strict", False)):
        decision = policy.decide_asset(found, profiles.named(name), "target")
        assert (gaps <= set(decision.reasons)) is not allowed
        assert decision.label_required


def test_a_list_that_cannot_be_opened_is_no_acceptance_even_when_trying_out() -> None:
    found = clean_upload(lists=signals.failed("lists", "list_damaged"))
    decision = policy.decide_asset(found, profiles.named("evaluation"), "target")
    assert (decision.decision, decision.reasons) == ("review", ("lists_error",))


def test_a_reader_that_takes_too_long_is_an_error_and_goes_to_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = vectors.png(parameters=vectors.INFOTEXT)(tmp_path)
    monkeypatch.setattr(client, "_PROBE_SECONDS", 0.0)
    late = provenance.measure(path)
    assert (late.status, late.value) == ("error", {"code": "child_timeout"})
    decision = policy.decide_asset(clean_upload(provenance=late), profiles.named("evaluation"), "source")
    assert (decision.decision, decision.reasons) == ("review", ("provenance_error",))


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"declarations": [{"claim": "innocent", "name": "x", "where": "y", "detail": ""}], "unread": [], "blocks": []},
        {"declarations": [{"claim": "camera"}], "unread": [], "blocks": []},
        {"declarations": 7, "unread": [], "blocks": []},
        {"declarations": [], "unread": None, "blocks": []},
    ],
)
def test_a_child_that_a_file_took_over_cannot_make_the_gate_stumble(
    answer: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "read_declarations", lambda path: answer)
    signal = provenance.measure(tmp_path / "any")
    assert (signal.status, signal.value) == ("error", {"code": "unreadable"})


HITS = [{"list": "l", "kind": "block", "line": 1, "distance": 0, "what": "face", "seconds": 0.0}]
OUTPUT = {"output": "out_1", "job": "job_1", "owner": "another"}


@pytest.mark.parametrize("name", profiles.PROFILES)
@pytest.mark.parametrize(
    ("signal", "verdict", "codes"),
    [
        (lists.measured(HITS, names=["l"], entries=1, looked=1), "reject", ["listed_picture"]),
        (
            lists.measured([{**HITS[0], "kind": "watch"}], names=["l"], entries=1, looked=1),
            "review",
            ["watched_picture"],
        ),
        (alignment.measured(square=True, offset=0.01, share=1.0), "review", ["ffhq_alignment"]),
        (signals.own_mark(b"\1" * 8, "full"), "reject", ["is_our_output"]),
        (signals.own_mark(b"\1" * 8, "full", OUTPUT), "reject", ["is_our_output", "output_of_another_account"]),
        (signals.own_mark(b"\1" * 8, "full", {**OUTPUT, "owner": "same"}), "reject", ["is_our_output"]),
        (
            signals.credentials("trusted", is_ours=True, issuer="x", source_types=[], output=OUTPUT),
            "reject",
            ["is_our_output", "output_of_another_account"],
        ),
        (
            signals.credentials("valid", is_ours=False, issuer="x", source_types=[], ai_generator="DALL-E"),
            "review",
            ["declared_ai_generator"],
        ),
        (
            provenance.measured([Declaration("aigc", "suspected", "xmp"), Declaration("generator", "ComfyUI", "exif")]),
            "review",
            ["declared_ai_generator", "suspected_aigc"],
        ),
        (
            provenance.measured([], unread=["png_text: too_large"]),
            "review",
            ["metadata_too_large"],
        ),
    ],
)
def test_each_finding_decides_alike_in_every_profile(signal: Signal, verdict: str, codes: list[str], name: str) -> None:
    decision = policy.decide_asset(clean_upload(**{signal.kind: signal}), profiles.named(name), "target")
    assert decision.decision == verdict
    assert [code for code in decision.reasons if not code.startswith("not_screened")] == codes


def test_what_the_uploader_reads_names_no_list_no_owner_and_no_measure() -> None:
    listed = lists.measured([{**HITS[0], "list": "secret-list"}], names=["secret-list"], entries=1, looked=1)
    for signal in (listed, signals.own_mark(b"\1" * 8, "full", OUTPUT)):
        decision = policy.decide_asset(clean_upload(**{signal.kind: signal}), profiles.named("standard"), "target")
        for hint in ("secret", "list", "another", "account", "distance", "hash", "face"):
            assert hint not in decision.message.lower()


def test_camera_words_never_take_a_finding_away() -> None:
    camera = Declaration("camera", "Canon EOS R5", "exif", "Model")
    assert rules_origin.provenance(provenance.measured([camera]), profiles.named("strict")) == []
    both = provenance.measured([camera, Declaration("source_type", "trainedAlgorithmicMedia", "xmp")])
    assert [each.code for each in rules_origin.provenance(both, profiles.named("strict"))] == ["declared_synthetic"]


def test_a_job_knows_what_its_files_were_not_screened_for() -> None:
    some = signals.carried(["face_forgery", "lists"])
    decision = policy.decide_job(some, profiles.named("evaluation"))
    assert decision.not_screened == ("face_forgery", "lists")
    none = policy.decide_job(signals.carried([]), profiles.named("evaluation"))
    assert (none.not_screened, none.label_required) == ((), False)
