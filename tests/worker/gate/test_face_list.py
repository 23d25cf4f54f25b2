"""Comparing with the list "never my face": exact, keyed, fail closed, and quick for ten thousand entries."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.worker.gate.clean import clean_upload
from worker.gate import policy, profiles, signals
from worker.gate.looks import face_list
from worker.gate.looks.face_list import FaceList, chance, pack, turned
from worker.inference import registry
from worker.pipeline.analysed import AnalysisSummary, Track

KEY = bytes(range(32))


def descriptors(count: int, seed: int = 1) -> Any:
    """Unit-length descriptors, about as far apart as those of strangers."""
    drawn = np.random.default_rng(seed).standard_normal((count, 128))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def listed(rows: Any, key: bytes = KEY) -> FaceList:
    return FaceList.of([pack(row, key) for row in rows], key)


def analysis(*rows: Any) -> Any:
    tracks = tuple(
        Track(
            n, 0.0, 0.0, 1, 0, 0.0, (0.0, 0.0, 90.0, 90.0), 90.0, 0.0, None if row is None else tuple(map(float, row))
        )
        for n, row in enumerate(rows)
    )
    return AnalysisSummary("photo", "builtin", 512, 512, 1, 0.0, tracks)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.binary(min_size=32, max_size=32))
def test_turning_changes_no_distance_and_is_the_same_every_time(seed: int, key: bytes) -> None:
    rows = descriptors(6, seed)
    both = turned(rows, key)
    before = np.linalg.norm(rows[:, None] - rows[None, :], axis=2)
    after = np.linalg.norm(both[:, None] - both[None, :], axis=2)
    assert np.abs(before - after).max() < 1e-5
    assert np.array_equal(both, turned(rows, key))


def test_without_the_key_a_kept_descriptor_is_like_that_of_a_stranger() -> None:
    rows = descriptors(200)
    plain_to_kept = np.linalg.norm(rows - turned(rows, KEY), axis=1)
    other_key = np.linalg.norm(turned(rows, bytes(32)) - turned(rows, KEY), axis=1)
    assert plain_to_kept.min() > 1.0
    assert other_key.min() > 1.0
    assert rows[0].astype("<f4").tobytes() not in pack(rows[0], KEY)


def test_the_matrix_is_the_same_on_every_machine() -> None:
    """A list made on one is read on another; a change of the stream would silently empty the list."""
    first = turned(np.eye(128)[0], KEY)
    assert np.allclose(first[:4], PINNED, atol=1e-5)


PINNED = [-0.003423, -0.115850, -0.041124, -0.013378]


def test_a_listed_face_is_found_and_a_strangers_is_not() -> None:
    rows = descriptors(50)
    near = rows[7] + 0.02 * descriptors(1, 9)[0]
    stranger = descriptors(1, 99)[0]
    found = face_list.measure(analysis(stranger, near), listed(rows))
    assert found.value["hits"] == [1]
    assert found.value["entries"] == 50
    assert found.value["threshold"] == 0.45
    assert "7" not in str(found.value["hits"])


def test_an_empty_list_finds_nothing_and_a_face_without_descriptor_is_no_no() -> None:
    assert face_list.measure(analysis(None), FaceList.of([], b"")).value["hits"] == []
    found = face_list.measure(analysis(descriptors(1)[0], None), listed(descriptors(3)))
    assert (found.status, found.value["code"]) == ("error", "no_descriptor")


@pytest.mark.parametrize("wrong", [[0.1] * 127, [float("nan")] * 128, []])
def test_what_is_no_descriptor_is_not_kept(wrong: list[float]) -> None:
    with pytest.raises(ValueError):
        pack(wrong, KEY)


def test_a_broken_entry_is_no_empty_list() -> None:
    for wrong in (b"x", b"\xff" * 512):
        with pytest.raises(ValueError):
            FaceList.of([pack(descriptors(1)[0], KEY), wrong], KEY)


@pytest.mark.parametrize("profile", ["evaluation", "standard", "strict"])
@pytest.mark.parametrize("role", ["source", "target"])
def test_a_hit_asks_a_person_in_every_profile_and_role(profile: str, role: str) -> None:
    hit = signals.listed_face([0], entries=3, threshold=0.45, one_to_many=False, chance=0.005)
    for found, first in (
        (hit, "listed_face"),
        (None, "listed_face_missing"),
        (signals.failed("listed_face", "x"), "listed_face_error"),
    ):
        signals_of = [each for each in clean_upload() if each.kind != "listed_face"]
        signals_of += [found] if found is not None else []
        decision = policy.decide_asset(signals_of, profiles.named(profile), role)
        assert decision.decision == "review"
        assert first in decision.reasons
        assert "list" not in decision.message.lower()  # the uploader is not told who is on it
    accepted = policy.decide_asset(clean_upload(), profiles.named("evaluation"), role)
    assert accepted.decision == "accept"


def test_only_a_model_measured_for_one_against_many_may_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [card.one_to_many for card in registry.cards().values()] == [None] * len(registry.cards())
    measured = registry.OneToMany(threshold=0.3, false_matches=1e-6, measured_on="a test")
    card = replace(registry.card(face_list.MODEL), one_to_many=measured)
    monkeypatch.setattr(registry, "card", lambda name: card)
    rows = descriptors(5)
    found = face_list.measure(analysis(rows[0]), listed(rows))
    assert found.value["threshold"] == 0.3
    decision = policy.decide_asset(clean_upload(listed_face=found), profiles.named("evaluation"), "target")
    assert (decision.decision, decision.reasons) == ("reject", ("listed_face",))


def test_the_chance_of_a_stranger_grows_with_the_list() -> None:
    assert chance(0) == 0.0
    assert chance(1) == pytest.approx(1 / 600)
    assert 0.8 < chance(1000) < 0.82


def test_ten_thousand_entries_are_compared_in_a_moment() -> None:
    rows = descriptors(10_000).astype("<f4")
    made = FaceList(turned(rows, KEY), KEY)
    asked = [tuple(map(float, row)) for row in descriptors(20, 5)]
    start = time.perf_counter()
    nearest = made.nearest(asked)
    spent = time.perf_counter() - start
    assert len(nearest) == 20
    assert spent < 2.0, spent
    assert made.nearest([tuple(map(float, rows[9_999]))])[0] < 1e-5
