"""Estimators of age together: bands are read by their lower end, the lowest estimate counts, nothing else is kept."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from tests.worker import neural_graphs as graphs
from tests.worker.gate.test_content_policy import upload
from worker.faces.analyse import analyse_image
from worker.gate import policy, profiles, screeners
from worker.gate.looks import age
from worker.gate.looks.looking import LookError, look_at
from worker.gate.looks.sampling import Sample, SampledFace
from worker.gate.signals import Signal
from worker.gate.upload import Upload
from worker.inference import gate_models, registry
from worker.inference.client import ensure_engine, stop_engine
from worker.inference.sessions import LocalRunner
from worker.inference.store import ModelStore
from worker.media import client
from worker.pipeline.analysis import Analysis
from worker.pipeline.run import analyse

FAIRFACE = registry.operator_models()["fairface"].card
FACERES = gate_models.of_role("age")
PROFILES = ("evaluation", "standard", "strict")


def looked(models_dir: Path, tmp_path: Path, photo: Path, band: int) -> Signal:
    """What a stand-in that always gives `band` makes of a photo."""
    store = ModelStore(tmp_path / f"own-{band}", tmp_path / "cache")
    graphs.install(store, fairface=graphs.age_bands(band=band))
    runner = LocalRunner(models_dir, models=store.models())
    rgb = np.asarray(Image.open(photo).convert("RGB"))
    faces = [
        SampledFace(number, np.asarray(found.box, np.float32), found.landmarks)
        for number, found in enumerate(analyse_image(rgb, runner))
    ]
    look = age.AgeLook(runner, [store.models().card("fairface")], [])
    (signal,) = look_at([Sample(0.0, rgb, tuple(faces))], [look])
    return signal


@pytest.mark.parametrize(
    ("band", "years", "decision", "reason"),
    [
        (0, 0, "reject", "age_too_young"),
        (1, 3, "reject", "age_too_young"),
        (2, 10, "reject", "age_too_young"),  # 10-19 cannot tell 16 from 12
        (3, 20, "review", "age_challenge"),
        (4, 30, "accept", ""),
        (8, 70, "accept", ""),
    ],
)
def test_a_band_counts_by_its_lower_end(models_dir, tmp_path, samples, band, years, decision, reason) -> None:
    signal = looked(models_dir, tmp_path, samples / "astronaut.jpg", band)
    assert (signal.status, signal.tool, signal.value["youngest"]) == ("measured", "fairface", years)
    for profile in PROFILES:
        made = policy.decide_asset(upload(age=signal), profiles.named(profile), "source")
        assert (made.decision, made.reasons) == (decision, (reason,) if reason else ())
    assert not {"race", "gender", "race_id", "gender_id"} & set(json.dumps(signal.to_dict()).replace('"', " ").split())


@pytest.mark.parametrize("number", [-1.0, 9.0, 2.5, math.nan, math.inf])
def test_what_is_no_band_is_an_error_of_the_tool(number: float) -> None:
    with pytest.raises(LookError) as caught:
        age.band_start(np.float32(number))
    assert caught.value.code == "out_of_range"


def test_a_model_that_gives_no_band_sends_the_file_to_a_person(models_dir, tmp_path, samples) -> None:
    signal = looked(models_dir, tmp_path, samples / "astronaut.jpg", 9)
    assert (signal.status, signal.value["code"]) == ("error", "out_of_range")
    for profile in PROFILES:
        made = policy.decide_asset(upload(age=signal), profiles.named(profile), "source")
        assert (made.decision, made.reasons) == ("review", ("age_out_of_range",))


def test_race_and_gender_do_not_survive_the_import(tmp_path) -> None:
    store = ModelStore(tmp_path / "own", tmp_path / "cache")
    graphs.install(store, "fairface")
    models = store.models()
    (path,) = models.files.values()
    (output,) = onnx.load(path).graph.output
    assert (output.name, output.type.tensor_type.elem_type) == ("age_id", onnx.TensorProto.FLOAT)
    # It looks at inputs only, so it is none of the models that a job's id names.
    assert (list(models.gate), dict(models.extra), models.id()) == (["fairface"], {}, registry.model_set_id())


def test_outputs_without_a_name_are_taken_in_the_order_of_the_contract(models_dir, tmp_path) -> None:
    graph = graphs.age_bands(band=6)
    for number, value in enumerate(graph.graph.output):
        for node in graph.graph.node:
            node.output[:] = [str(700 + number) if one == value.name else one for one in node.output]
        value.name = str(700 + number)
    store = ModelStore(tmp_path / "own", tmp_path / "cache")
    graphs.install(store, fairface=graph)
    runner = LocalRunner(models_dir, models=store.models())
    given = runner.run("fairface", {"input": np.zeros((3, 3, 224, 224), np.uint8)})
    assert {name: (rows.dtype, rows.tolist()) for name, rows in given.items()} == {"age_id": (np.float32, [6.0] * 3)}


def test_the_lowest_estimate_of_each_look_counts() -> None:
    faceres, fairface = replace(FACERES, sha256="a" * 64), replace(FAIRFACE, sha256="b" * 64)
    looks = [(0, 0.0), (0, 1.0), (1, 0.0)]
    signal = age.measured(looks, [(faceres, [34.0, 24.0, 50.0]), (fairface, [30.0, 30.0, 20.0])], [0, 1])
    assert signal.value["youngest"] == 20.0
    assert [row["timeline"] for row in signal.value["tracks"]] == [[[0.0, 30.0], [1.0, 24.0]], [[0.0, 20.0]]]
    assert {name: row["youngest"] for name, row in signal.value["models"].items()} == {
        "faceres": 24.0,
        "fairface": 20.0,
    }
    assert signal.tool == "faceres, fairface"
    broken = age.measured(looks[:1], [(faceres, [math.nan]), (fairface, [30.0])], [0])
    made = policy.decide_asset(upload(age=broken), profiles.named("evaluation"), "source")
    assert made.decision == "reject"  # a number that is none is never an acceptance


def test_an_installed_estimator_looks_beside_the_one_made_at_set_up(models_dir, made, tmp_path, samples) -> None:
    own, home, out = tmp_path / "own", tmp_path / "home", tmp_path / "analysis"
    photo = samples / "grace_hopper.jpg"
    graphs.install(ModelStore(own, models_dir / "imported"), fairface=graphs.age_bands(band=3))
    where = {"models_dir": models_dir, "gate_packs": tmp_path / "packs", "profile": "evaluation"}
    socket = ensure_engine(home, models_dir=models_dir, operator_models=own, providers="prefer:cpu")
    try:
        analyse(photo, out, engine_socket=socket, work_dir=tmp_path)
        with screeners.opened(socket, operator_models=own, **where) as found:
            assert [card.name for card in found.cards["age"]] == ["faceres", "fairface"]
            seen = {one.kind: one for one in found.look(Upload.of(photo, client.probe(photo)), Analysis.load(out))}
        (tmp_path / "none").mkdir()
        with screeners.opened(socket, operator_models=own, **{**where, "models_dir": tmp_path / "none"}) as found:
            assert [card.name for card in found.cards["age"]] == ["fairface"]  # a machine without npm
            assert found.missing == {"nsfw": "not_built"}
    finally:
        stop_engine(home)
    value = seen["age"].value
    assert value["youngest"] == value["models"]["fairface"]["youngest"] == 20.0
    assert value["models"]["faceres"]["youngest"] > 40
    assert all(len(row["sha256"]) == 64 for row in value["models"].values())


def test_one_that_was_installed_after_the_engine_started_is_named(
    gate_engine, models_dir, made, tmp_path, samples
) -> None:
    own, out, photo = tmp_path / "own", tmp_path / "analysis", samples / "grace_hopper.jpg"
    graphs.install(ModelStore(own, tmp_path / "cache"), "fairface")
    analyse(photo, out, engine_socket=gate_engine, work_dir=tmp_path)
    where = {"models_dir": models_dir, "gate_packs": tmp_path / "packs", "profile": "evaluation"}
    with screeners.opened(gate_engine, operator_models=own, **where) as found:
        assert [card.name for card in found.cards["age"]] == ["faceres"]
        seen = {one.kind: one for one in found.look(Upload.of(photo, client.probe(photo)), Analysis.load(out))}
    assert seen["age"].value["left_out"] == ["fairface"]
    (tmp_path / "none").mkdir()
    with screeners.opened(gate_engine, operator_models=own, **{**where, "models_dir": tmp_path / "none"}) as found:
        assert (dict(found.cards), found.missing["age"]) == ({}, "not_loaded")
