"""`manage.py models quantise` and `models precision`: what an operator sees of lower precisions."""

from __future__ import annotations

import io
import json
import shutil

import pytest
from django.core.management import CommandError, call_command

from worker.inference import registry
from worker.inference.sessions import LocalRunner

MODELS = ("blazeface_short",)


@pytest.fixture
def folder(settings, tmp_path, models_dir):
    settings.MODELS_DIR = tmp_path / "models"
    shutil.copytree(models_dir, settings.MODELS_DIR)
    return settings.MODELS_DIR


def models(*arguments: str) -> str:
    out = io.StringIO()
    call_command("models", *arguments, stdout=out)
    return out.getvalue()


def test_float16_of_a_model_passes_and_the_table_says_by_how_much(folder):
    words = models("quantise", *MODELS)
    assert "score_drift_worst" in words
    assert "at least 0.97" in words
    assert "MB ->" in words
    assert "ms ->" in words
    (path,) = folder.glob("blazeface_short.fp16.*.onnx")
    assert path.name in words
    assert "wanted on: cuda, tensorrt" in words
    states = json.loads(models("precision", "--json"))
    assert states["blazeface_short"]["cpu"] == "fp32, as wanted"
    assert "tried when it is first opened" in states["blazeface_short"]["cuda"]
    assert "models quantise face_mesh" in states["face_mesh"]["cuda"]
    # Nothing else of the folder is touched, and the CPU goes on as it did.
    models("check")
    assert LocalRunner(folder).load("blazeface_short").precision == "fp32"


def test_int8_of_a_detector_is_refused_with_exit_code_1_and_leaves_no_file(folder, capsys):
    out = io.StringIO()
    with pytest.raises(CommandError, match="refused blazeface_short") as caught:
        call_command("models", "quantise", *MODELS, "--precision", "int8", "--json", stdout=out)
    assert caught.value.returncode == 1
    (told,) = json.loads(out.getvalue())
    assert (told["passed"], told["file"]) == (False, None)
    assert any(not line["passed"] and line["metric"] == "box_overlap_p05" for line in told["gate"])
    assert told["bytes"] < told["bytes_fp32"]
    assert told["cpu_ms"] > 0
    assert not list(folder.glob("*.int8.*.onnx"))


@pytest.mark.soak  # half a minute for one option
def test_own_pictures_are_read_and_other_files_among_them_are_not_minded(folder, samples, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("astronaut.jpg", "grace_hopper.jpg"):
        for copy in ("a", "b"):
            shutil.copy(samples / name, pictures / f"{copy}-{name}")
    (pictures / "notes.txt").write_text("consent forms: drawer 3")
    told = json.loads(models("quantise", *MODELS, "--calibration", str(pictures), "--json"))[0]
    alone = json.loads(models("quantise", *MODELS, "--json"))[0]
    assert told["record"]["samples"] != alone["record"]["samples"]
    assert told["record"]["drawn"] == alone["record"]["drawn"] == alone["record"]["samples"]


def test_a_folder_without_pictures_says_so(folder, tmp_path):
    with pytest.raises(CommandError, match="samples_invalid"):
        models("quantise", *MODELS, "--calibration", str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CommandError, match="at least 4"):
        models("quantise", *MODELS, "--calibration", str(tmp_path / "empty"))


def test_unknown_models_and_nodes_are_named(folder):
    with pytest.raises(CommandError, match="model_missing"):
        models("quantise", "face_mash")
    with pytest.raises(CommandError, match="has no node 'felt'"):
        models("quantise", *MODELS, "--keep", "felt")


def test_precision_has_a_line_for_every_model_and_device(folder):
    lines = models("precision").splitlines()
    assert len(lines) == 3 * len(registry.cards())
    assert {line.split()[0] for line in lines} == set(registry.cards())


def test_a_file_of_the_operator_stands_over_the_shipped_policy(folder, settings, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text('[models.blazeface_short]\nwanted = { cpu = "fp16" }\n')
    settings.PRECISION_FILE = str(own)
    models("quantise", *MODELS)
    states = json.loads(models("precision", "--json"))
    assert states["blazeface_short"]["cpu"] == "fp16, proven"
    assert "fp16 is wanted" in states["blazeface_short"]["cuda"]
    assert states["face_mesh"]["cpu"] == "fp32, as wanted"
    own.write_text('[models.blazeface_short]\nmode = "hope"\n')
    with pytest.raises(CommandError, match="IMPRIMATUR_PRECISION"):
        models("precision")


def test_the_help_teaches_both(capsys):
    with pytest.raises(SystemExit):
        call_command("models", "--help")
    text = capsys.readouterr().out
    for words in (
        "models quantise face_mesh --precision int8",
        "--keep op:MatMul x17",
        "models precision",
        "Exit code 1",
    ):
        assert words in text
