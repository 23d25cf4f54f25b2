"""The whole check on rendered clips, with the real decoder, media child, engine and models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from tests.worker.liveness.attacks import attack
from tests.worker.liveness.conftest import PEOPLE, Check
from tests.worker.liveness.head import Head, Moment
from tests.worker.liveness.script import ACTIONS, perform
from tests.worker.liveness.talking_head import frames_of
from worker.faces.types import Floats
from worker.gate.live.liveness import MESSAGES, examine

SIZE = (480, 360)
FPS = 15.0
TRIPLES = list(permutations(ACTIONS, 3))
# (attack, the code it is refused with); those whose like is tried anyway only in the long proofs
ATTACKS = (
    pytest.param("still", "no_action", marks=pytest.mark.soak),
    pytest.param("handheld", "no_action", marks=pytest.mark.soak),
    ("tilted", "flat_picture"),
    pytest.param("bending", "flat_picture", marks=pytest.mark.soak),
    ("rolled", "flat_picture"),
    pytest.param("waved", "flat_picture", marks=pytest.mark.soak),
    pytest.param("zoomed", "no_action", marks=pytest.mark.soak),
    ("moving_photo", "flat_picture"),
    ("wrong_order", "wrong_order"),
    pytest.param("one_missing", "action_missing", marks=pytest.mark.soak),
    pytest.param("one_wrong", "extra_action", marks=pytest.mark.soak),
    ("everything", "extra_action"),
    ("two_people", "two_faces"),
    ("other_person", "identity_mismatch"),
    ("taking_turns", "changed_person"),
    ("spliced", "cut"),
    pytest.param("cut_out", "clip_too_short", marks=pytest.mark.soak),
)


@pytest.mark.parametrize("who", PEOPLE)
@pytest.mark.parametrize(
    ("actions", "name"),
    [
        (("turn_left", "blink", "smile"), "clip.live.webm"),
        (("look_up", "open_mouth", "turn_right"), "clip.frag.mp4"),
    ],
)
def test_a_person_who_does_what_is_asked_passes(
    check: Check, heads: Mapping[str, Head], who: str, actions: tuple[str, ...], name: str
) -> None:
    played = perform(actions, seed=len(who))
    report = check(frames_of(heads[who], played, fps=FPS, size=SIZE), actions, who, fps=FPS, name=name)
    assert (report.verdict, report.codes) == ("pass", ())
    for seen, (action, begin, end) in zip(report.actions, played.spans(), strict=True):
        assert seen.name == action
        assert begin - 0.1 <= seen.from_seconds < seen.to_seconds <= end + 0.2
    assert report.frames >= 12 * report.seconds


def test_the_report_holds_nothing_a_face_could_be_known_by(check: Check, heads: Mapping[str, Head]) -> None:
    actions = ("smile", "blink", "turn_right")
    frames = frames_of(heads["astronaut"], perform(actions), fps=FPS, size=(360, 480))
    report = check(frames, actions, "astronaut", fps=FPS, name="clip.vp9.webm").to_dict()
    assert report["verdict"] == "pass"
    assert "face_forgery" in report["not_screened"]
    assert len(json.dumps(report)) < 3000
    assert all(set(one) == {"name", "from_seconds", "to_seconds", "peak"} for one in report["actions"])


@pytest.mark.parametrize(("name", "code"), ATTACKS)
def test_an_attack_is_refused_for_what_it_is(check: Check, heads: Mapping[str, Head], name: str, code: str) -> None:
    actions = ("turn_left", "look_up", "smile")
    cast = (heads["astronaut"], heads["grace_hopper"])
    report = check(attack(name, cast, perform(actions, seed=3), fps=FPS, size=SIZE), actions, "astronaut", fps=FPS)
    assert report.verdict == "fail"
    assert code in report.codes


def test_a_picture_that_stops_is_frozen(check: Check, heads: Mapping[str, Head]) -> None:
    actions = ("smile", "open_mouth", "turn_left")
    cast = (heads["astronaut"], heads["grace_hopper"])
    frames = attack("frozen", cast, perform(actions), fps=FPS, size=SIZE)
    report = check(frames, actions, "astronaut", fps=FPS, noise=0.0)
    assert report.verdict == "fail"
    assert report.codes[0] == "frozen" or "action_missing" in report.codes


def test_too_little_light_is_said(check: Check, heads: Mapping[str, Head]) -> None:
    actions = ("smile", "open_mouth", "turn_left")
    report = check(
        frames_of(heads["astronaut"], perform(actions), fps=FPS, size=SIZE), actions, "astronaut", fps=FPS, light=0.1
    )
    assert report.codes[0] in ("too_dark", "no_face")


def test_a_face_far_away_is_too_small(check: Check, heads: Mapping[str, Head]) -> None:
    actions = ("smile", "open_mouth", "turn_left")
    frames = frames_of(heads["grace_hopper"], perform(actions), fps=FPS, size=SIZE, share=0.15)
    assert check(frames, actions, "grace_hopper", fps=FPS).codes[0] in ("face_too_small", "no_face")


def test_a_wall_has_no_face(check: Check) -> None:
    rng = np.random.default_rng(1)
    wall = [rng.integers(90, 160, (240, 320, 3), dtype=np.uint8) for _ in range(80)]
    assert check(wall, ("smile", "blink", "look_up"), "astronaut", fps=FPS).codes[0] == "no_face"


@pytest.mark.parametrize("broken", [b"", b"not a clip", b"\x1a\x45\xdf\xa3webm" + bytes(500)])
def test_what_is_no_clip_is_a_report_not_an_error(
    tmp_path: Path, engine_socket: Path, references: Mapping[str, Floats], broken: bytes
) -> None:
    path = tmp_path / "clip.webm"
    path.write_bytes(broken)
    report = examine(
        path, actions=("smile",), references=[references["astronaut"]], engine_socket=engine_socket, work_dir=tmp_path
    )
    assert (report.verdict, report.codes) == ("fail", ("clip_unreadable",))


def test_a_clip_without_a_believable_frame_rate_is_read(check: Check, heads: Mapping[str, Head]) -> None:
    frames = [heads["astronaut"].render(Moment(), SIZE)] * 100
    assert check(frames, ("smile",), "astronaut", fps=1000).codes[0] == "clip_too_short"


def test_a_photo_is_no_clip(tmp_path: Path, engine_socket: Path, samples: Path) -> None:
    report = examine(
        samples / "astronaut.jpg", actions=("smile",), references=[], engine_socket=engine_socket, work_dir=tmp_path
    )
    assert report.codes == ("clip_unreadable",)


def test_an_action_that_does_not_exist_is_the_callers_mistake(tmp_path: Path, engine_socket: Path) -> None:
    with pytest.raises(ValueError, match="no such action"):
        examine(tmp_path / "x", actions=("wink",), references=[], engine_socket=engine_socket, work_dir=tmp_path)


def test_the_sentences_fit_on_a_phone() -> None:
    assert all(text.endswith(".") and len(text) < 120 for text in MESSAGES.values())


@pytest.mark.soak
@pytest.mark.parametrize("who", PEOPLE)
@pytest.mark.parametrize("actions", TRIPLES, ids="-".join)
def test_every_triple_passes(check: Check, heads: Mapping[str, Head], who: str, actions: tuple[str, ...]) -> None:
    seed = TRIPLES.index(actions) + 1000 * PEOPLE.index(who)
    frames = frames_of(heads[who], perform(actions, seed), fps=FPS, size=SIZE)
    assert check(frames, actions, who, fps=FPS).codes == ()
