"""The real models on real files: portraits of adults are let through, and what is absent is told as absent."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.worker.gate.pack_graphs import write_graph, write_manifest
from tests.worker.gate.test_content_policy import upload
from worker.gate import policy, profiles, screeners
from worker.gate.looks import age, nsfw
from worker.gate.packs.pack_store import PackStore
from worker.gate.signals import Signal
from worker.gate.upload import Upload
from worker.inference import gate_models
from worker.inference.client import ensure_engine, stop_engine
from worker.inference.store import ModelStore
from worker.media import client
from worker.media.sample_clip import make_clip
from worker.pipeline.analysis import Analysis
from worker.pipeline.run import analyse

Look = Callable[[Path], dict[str, Signal]]
SHARED = next((one / "shared" for one in Path(__file__).parents if (one / "shared" / "media").is_dir()), Path("shared"))
PORTRAITS = sorted((SHARED / "media" / "portraits").glob("*.jpg"))


@pytest.mark.skipif(len(PORTRAITS) < 48, reason="the shared portraits are not here")
def test_no_portrait_of_an_adult_is_refused_and_hardly_any_looked_at(look: Look) -> None:
    """The 48 portraits, all adults: no reject by nudity or age, review by them at most 5 %."""
    reviewed = []
    for path in PORTRAITS:
        seen = look(path)
        decision = policy.decide_asset(
            upload(nsfw=seen["nsfw"], age=seen["age"]), profiles.named("evaluation"), "source"
        )
        assert decision.decision != "reject", (path.name, decision.reasons)
        if decision.decision == "review":
            reviewed.append((path.name, decision.reasons))
    assert len(reviewed) <= 0.05 * len(PORTRAITS), reviewed


def test_two_known_people_are_looked_at_without_a_finding(look: Look, samples: Path) -> None:
    younger, older = look(samples / "astronaut.jpg"), look(samples / "grace_hopper.jpg")
    assert older["age"].value["youngest"] - younger["age"].value["youngest"] > 10  # 42 and 72 in truth
    for seen in (younger, older):
        assert seen["nsfw"].value["highest"] < 0.2
        assert seen["nsfw"].value["model_sha256"] == gate_models.of_role("nsfw").sha256
        assert seen["age"].value["not_applicable"] == 0
        assert {seen[kind].status for kind in ("face_forgery", "ai_image")} == {"not_installed"}


def test_a_video_is_looked_at_once_a_second_and_its_person_several_times(
    look: Look, samples: Path, tmp_path: Path
) -> None:
    clip = tmp_path / "clip.mp4"
    make_clip(samples / "astronaut.jpg", clip, seconds=4, size=(640, 480))
    seen = look(clip)
    timeline = seen["nsfw"].value["timeline"]
    times = [seconds for seconds, _ in timeline]
    assert times == sorted(times)
    assert len(times) == seen["nsfw"].value["pictures"]
    assert 4 <= len(times) <= 6
    assert max(np.diff(times)) <= 1.2
    (track,) = seen["age"].value["tracks"]
    assert 3 <= len(track["timeline"]) <= age.MOST_OF_TRACK
    assert 20 < seen["age"].value["youngest"] < 60
    assert seen["age"].value["not_applicable"] == 0


def test_an_installed_pack_sees_a_short_video_often_enough(
    models_dir: Path, made: None, samples: Path, tmp_path: Path
) -> None:
    """The engine of a house whose operator installed a pack; an advisory one, as it was never calibrated."""
    write_graph(tmp_path / "drawn.onnx")
    folder = tmp_path / "gate-packs"
    PackStore(folder).install(write_manifest(tmp_path / "drawn.toml"), pin=True)
    clip, out, home = tmp_path / "clip.mp4", tmp_path / "analysis", tmp_path / "home"
    make_clip(samples / "astronaut.jpg", clip, seconds=3, size=(640, 480))
    socket = ensure_engine(home, models_dir=models_dir, gate_packs=folder, providers="prefer:cpu")
    where = {"models_dir": models_dir, "operator_models": tmp_path / "none", "profile": "evaluation"}
    try:
        analyse(clip, out, engine_socket=socket, work_dir=tmp_path)
        with screeners.opened(socket, gate_packs=folder, **where) as at_hand:
            seen = {one.kind: one for one in at_hand.look(Upload.of(clip, client.probe(clip)), Analysis.load(out))}
        (row,) = seen["face_forgery"].value["packs"]
        assert seen["face_forgery"].value["code"] == "no_enforcing_pack"
        assert row["faces"] >= 16
        assert row["code"] == ""
        # One that was installed after the engine started is no surprise and no silence.
        write_graph(tmp_path / "later.onnx")
        PackStore(folder).install(write_manifest(tmp_path / "later.toml"), pin=True)
        with screeners.opened(socket, gate_packs=folder, **where) as at_hand:
            assert {one.id: one.code for one in at_hand.packs} == {
                "drawn": "not_calibrated",
                "later": "pack_not_loaded",
            }
    finally:
        stop_engine(home)


@pytest.mark.parametrize("profile", ["evaluation", "standard", "strict"])
def test_the_age_network_waits_for_the_operators_word_outside_an_evaluation(
    gate_engine: Path, models_dir: Path, made: None, tmp_path: Path, profile: str
) -> None:
    where = {"models_dir": models_dir, "operator_models": tmp_path / "own", "gate_packs": tmp_path / "packs"}
    with screeners.opened(gate_engine, profile=profile, **where) as found:
        if profile == "evaluation":
            assert set(found.cards) == {"nsfw", "age"}
            return
        assert found.missing == {"age": "licence_not_accepted"}
    ModelStore(tmp_path / "own", tmp_path / "cache").accept_licence("faceres", "confirmed with its author", "Mod")
    with screeners.opened(gate_engine, profile=profile, **where) as found:
        assert set(found.cards) == {"nsfw", "age"}


def test_a_machine_without_the_models_says_so_and_an_engine_that_is_away_is_an_error(
    models_dir: Path, made: None, samples: Path, tmp_path: Path, gate_engine: Path
) -> None:
    photo, out = samples / "astronaut.jpg", tmp_path / "analysis"
    analyse(photo, out, engine_socket=gate_engine, work_dir=tmp_path)
    info, analysis = client.probe(photo), Analysis.load(out)
    where = {"operator_models": tmp_path / "own", "gate_packs": tmp_path / "packs", "profile": "evaluation"}
    (tmp_path / "empty").mkdir()
    with screeners.opened(tmp_path / "no.sock", models_dir=tmp_path / "empty", **where) as found:
        seen = found.look(Upload.of(photo, info), analysis)
    assert [(one.kind, one.status, one.value["code"]) for one in seen] == [
        ("nsfw", "not_installed", "not_built"),
        ("age", "not_installed", "not_built"),
        ("face_forgery", "not_installed", "no_pack"),
        ("ai_image", "not_installed", "no_pack"),
    ]
    with screeners.opened(tmp_path / "no.sock", models_dir=models_dir, **where) as found:
        seen = found.look(Upload.of(photo, info), analysis)
    assert [(one.status, one.value["code"]) for one in seen[:2]] == [("error", "engine_unavailable")] * 2
    decision = policy.decide_asset(upload(**{one.kind: one for one in seen}), profiles.named("evaluation"), "source")
    assert decision.reasons == ("nsfw_engine_unavailable", "age_engine_unavailable")


def test_an_engine_with_another_file_than_the_registered_one_is_an_error_of_that_kind(
    models_dir: Path, made: None, samples: Path, tmp_path: Path
) -> None:
    folder, home = tmp_path / "models", tmp_path / "home"
    shutil.copytree(models_dir, folder)
    (folder / "open_nsfw.onnx").write_bytes(b"another")
    socket = ensure_engine(home, models_dir=folder, providers="prefer:cpu")
    photo, out = samples / "astronaut.jpg", tmp_path / "analysis"
    try:
        analyse(photo, out, engine_socket=socket, work_dir=tmp_path)
        where = {"operator_models": tmp_path / "own", "gate_packs": tmp_path / "packs", "profile": "strict"}
        ModelStore(tmp_path / "own", tmp_path / "cache").accept_licence("faceres", "confirmed", "Mod")
        with screeners.opened(socket, models_dir=folder, **where) as found:
            seen = {one.kind: one for one in found.look(Upload.of(photo, client.probe(photo)), Analysis.load(out))}
    finally:
        stop_engine(home)
    assert (seen["nsfw"].status, seen["nsfw"].value["code"]) == ("error", "model_hash_mismatch")
    assert seen["age"].status == "measured"


def test_a_record_of_packs_that_cannot_be_read_is_an_error_of_both_kinds(tmp_path: Path) -> None:
    folder = tmp_path / "packs"
    folder.mkdir()
    (folder / "packs.json").write_text("[")
    (tmp_path / "models").mkdir()
    with screeners.opened(
        tmp_path / "no.sock",
        models_dir=tmp_path / "models",
        operator_models=tmp_path,
        gate_packs=folder,
        profile="strict",
    ) as found:
        assert found.failures == {"face_forgery": "record_unreadable", "ai_image": "record_unreadable"}


def test_a_picture_is_prepared_as_the_network_was_trained() -> None:
    rgb = np.zeros((300, 500, 3), np.uint8)
    rgb[..., 0], rgb[..., 2] = 200, 50
    found = nsfw.prepare(rgb)
    assert found.shape == (224, 224, 3)
    # Blue, green, red minus their means; JPEG moves each by little.
    np.testing.assert_allclose(found[100, 100], [50 - 104, 0 - 117, 200 - 123], atol=4)


def test_an_expected_age_is_the_mean_of_the_distribution() -> None:
    row = np.zeros(100, np.float32)
    row[[20, 40]] = 0.25, 0.75
    assert age.years(row) == pytest.approx(35.0)
