"""The judge by its laws: what may not change a pass, and what always must."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.gate.live.liveness_judge import ACTIONS, LEAST_SECONDS, judge
from worker.gate.live.motion import Motion, Sample

TRIPLES = list(permutations(ACTIONS, 3))
RATE = 15.0
AT_REST = Motion(
    yaw=0, pitch=0, roll=0, mouth=0, eyes=1, smile=0, nose=0, strain=0.01, stretch=0, size=200, x=320, y=240, light=120
)


def _bump(since: float, length: float) -> float:
    if not 0 <= since <= length:
        return 0.0
    return min(1.0, 3 * min(since, length - since) / length)


def _doing(action: str, amount: float) -> dict[str, float]:
    """What `amount` (0..1) of an action changes in a real head."""
    angle = 26 * amount
    nose = 0.42 * math.sin(math.radians(angle))
    return {
        "turn_left": {"yaw": angle, "nose": nose, "strain": 0.01 + 0.0015 * angle, "stretch": -0.02 * amount},
        "turn_right": {"yaw": -angle, "nose": -nose, "strain": 0.01 + 0.0015 * angle, "stretch": -0.02 * amount},
        "look_up": {"pitch": -angle, "strain": 0.01 + 0.0015 * angle, "stretch": -0.1 * amount},
        "open_mouth": {"mouth": 0.33 * amount, "smile": -0.04 * amount},
        "blink": {"eyes": 1 - 0.75 * amount},
        "smile": {"smile": 0.085 * amount, "mouth": 0.02 * amount},
    }[action]


def perform(
    actions: Sequence[str],
    *,
    lead: float = 1.0,
    pause: float = 0.45,
    seed: int = 0,
    noise: float = 1.0,
    shift: float = 0.0,
    rate: float = RATE,
    face: Motion = AT_REST,
) -> list[Sample]:
    """A made-up series of a head that does `actions` one after the other."""
    rng = np.random.default_rng(seed)
    spans, at = [], lead
    for action in actions:
        length = 0.45 if action == "blink" else 1.2
        spans.append((action, at, length))
        at += length + pause
    total = max(at + 0.5, LEAST_SECONDS + 0.2)
    series = []
    for number in range(int(total * rate)):
        seconds = number / rate
        changes: dict[str, float] = {}
        for action, begin, length in spans:
            if begin <= seconds <= begin + length:
                changes = _doing(action, _bump(seconds - begin, length))
        moved = replace(face, **changes)
        e = rng.normal(0, noise, 6)
        moved = replace(
            moved,
            yaw=moved.yaw + 0.4 * e[0],
            pitch=moved.pitch + 0.6 * e[1],
            mouth=moved.mouth + 0.005 * e[2],
            eyes=moved.eyes + 0.03 * e[3],
            smile=moved.smile + 0.004 * e[4],
            stretch=moved.stretch + 0.005 * e[5],
        )
        series.append(Sample(seconds + shift, moved))
    return series


@pytest.mark.parametrize("first", ACTIONS)
def test_every_triple_passes_when_done_and_fails_as_its_permutations(first: str) -> None:
    for actions in (triple for triple in TRIPLES if triple[0] == first):
        series = perform(actions)
        assert [one for one in permutations(actions) if judge(series, one).passed] == [actions]


@pytest.mark.soak
def test_every_triple_passes_for_itself_only() -> None:
    for actions in TRIPLES:
        series = perform(actions)
        assert [other for other in TRIPLES if judge(series, other).passed] == [actions]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    actions=st.sampled_from(TRIPLES),
    seed=st.integers(0, 10_000),
    lead=st.floats(0.8, 2.0),
    pause=st.floats(0.3, 1.0),
    noise=st.floats(0.0, 1.5),
    shift=st.floats(0, 100),
    dropped=st.floats(0, 0.2),
    rate=st.sampled_from([12.0, 15.0, 20.0]),
)
def test_time_noise_and_dropped_frames_change_nothing(
    actions: tuple[str, ...],
    seed: int,
    lead: float,
    pause: float,
    noise: float,
    shift: float,
    dropped: float,
    rate: float,
) -> None:
    series = perform(actions, seed=seed, lead=lead, pause=pause, noise=noise, shift=shift, rate=rate)
    rng = np.random.default_rng(seed)
    kept = [one for k, one in enumerate(series) if k % 5 or rng.random() >= 5 * dropped]
    found = judge(kept, actions)
    assert found.codes == ()
    assert [one.name for one in found.matched] == list(actions)
    assert all(a.end <= b.start for a, b in zip(found.matched, found.matched[1:], strict=False))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(asked=st.sampled_from(TRIPLES), done=st.lists(st.sampled_from(ACTIONS), max_size=5), seed=st.integers(0, 9999))
def test_only_the_actions_asked_for_in_their_order_pass(asked: tuple[str, ...], done: list[str], seed: int) -> None:
    def told_apart(actions: Sequence[str]) -> list[str]:
        """The same action twice in a row counts once, and blinks beyond those asked for do not count."""
        return [a for k, a in enumerate(actions) if a != "blink" and (k == 0 or a != actions[k - 1])]

    found = judge(perform(done, seed=seed), asked)
    heads = [a for a in done if a != "blink"]
    merged = [a for k, a in enumerate(heads) if k == 0 or a != heads[k - 1]]
    possible = merged == [a for a in asked if a != "blink"] and done.count("blink") >= asked.count("blink")
    if not possible:
        assert not found.passed
    if told_apart(done) == list(asked) == done:
        assert found.passed


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    series=st.lists(
        st.builds(
            Sample,
            seconds=st.floats(),
            face=st.one_of(st.none(), st.builds(Motion, **dict.fromkeys(vars(AT_REST), st.floats()))),
            other=st.floats(),
            change=st.floats(),
            cut=st.booleans(),
        ),
        max_size=60,
    ),
    actions=st.lists(st.text(max_size=5) | st.sampled_from(ACTIONS), max_size=5),
)
def test_nothing_raises_and_nonsense_never_passes(series: list[Sample], actions: list[str]) -> None:
    found = judge(series, actions)
    if actions:
        assert not found.passed


def test_an_action_that_does_not_come_back_is_unfinished() -> None:
    series = [one for one in perform(("smile", "open_mouth", "turn_left")) if one.seconds < 4.9]
    assert judge(series, ("smile", "open_mouth", "turn_left")).codes == ("action_unfinished",)


def test_an_action_before_the_rest_is_too_early() -> None:
    assert (
        "no_rest"
        in judge(perform(("turn_left", "smile", "look_up"), lead=0.1), ("turn_left", "smile", "look_up")).codes
    )


def test_an_involuntary_blink_does_no_harm() -> None:
    asked = ("turn_left", "smile", "look_up")
    assert judge(perform(("blink", "turn_left", "blink", "smile", "look_up", "blink")), asked).passed


def test_a_blink_in_the_wrong_place_is_no_blink() -> None:
    assert judge(perform(("blink", "turn_left", "smile")), ("turn_left", "blink", "smile")).codes == ("wrong_order",)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"stretch": -0.3}, "flat_picture"),
        ({"nose": 0.0}, "flat_picture"),
        ({"light": 12.0}, "too_dark"),
        ({"light": 250.0}, "too_bright"),
        ({"size": 50.0}, "face_too_small"),
    ],
)
def test_a_face_that_cannot_be_trusted_is_named(change: dict[str, float], code: str) -> None:
    asked = ("turn_left", "smile", "open_mouth")
    series = [replace(one, face=replace(one.face or AT_REST, **change)) for one in perform(asked)]
    assert judge(series, asked).codes[0] == code


@pytest.mark.parametrize(
    ("where", "change", "code"),
    [
        (slice(20, 22), {"other": 0.6}, "two_faces"),
        (slice(20, 21), {"cut": True, "face": replace(AT_REST, x=332.0)}, "cut"),
        (slice(20, 40), {"change": 0.0}, "frozen"),
        (slice(20, 40), {"face": None}, "face_lost"),
    ],
)
def test_a_recording_that_is_not_of_one_piece_is_named(where: slice, change: dict[str, object], code: str) -> None:
    asked = ("smile", "open_mouth", "turn_left")
    series = perform(asked)
    series[where] = [replace(one, **change) for one in series[where]]  # type: ignore[arg-type]
    assert code in judge(series, asked).codes


def test_a_jump_of_the_head_is_a_cut() -> None:
    asked = ("smile", "open_mouth", "turn_left")
    series = perform(asked)
    series[20:] = [replace(one, face=replace(one.face or AT_REST, x=400.0)) for one in series[20:]]
    assert judge(series, asked).codes == ("cut",)


def test_a_light_switched_on_is_no_cut() -> None:
    asked = ("smile", "open_mouth", "turn_left")
    series = perform(asked)
    series[20] = replace(series[20], cut=True)
    assert judge(series, asked).passed


def test_holes_and_slow_recordings_are_refused() -> None:
    asked = ("smile", "open_mouth", "turn_left")
    series = perform(asked)
    assert "too_few_frames" in judge(series[:20] + series[30:], asked).codes
    assert "too_few_frames" in judge(series[::3], asked).codes
    assert judge(series[:20], asked).codes[0] == "clip_too_short"
    assert judge([], asked).codes == ("clip_too_short", "no_face")
