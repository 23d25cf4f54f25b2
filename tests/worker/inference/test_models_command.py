"""`manage.py models`: thin, but what people see of the model set."""

import io
import shutil

import pytest
from django.core.management import CommandError, call_command

from worker.inference import gate_models, registry


def models(*arguments: str) -> str:
    out = io.StringIO()
    call_command("models", *arguments, stdout=out)
    return out.getvalue()


def test_list_names_every_model_with_its_licence():
    listed, own = models("list").split("\nYour own:\n")
    built_in, of_gate, own = (part.splitlines() for part in (*listed.split("\nOf the gate:\n"), own))
    assert [line.split()[0] for line in of_gate] == list(gate_models.cards())
    assert all(gate_models.cards()[line.split()[0]].licence in line for line in of_gate)
    assert [line.split()[0] for line in built_in] == list(registry.cards())
    assert all("Apache-2.0" in line or "CC0-1.0" in line for line in built_in)
    assert [line.split()[0] for line in own] == list(registry.operator_models())
    assert all(registry.operator_models()[line.split()[0]].card.licence in line for line in own)


def test_check_names_what_is_wrong_and_fails(settings, tmp_path, models_dir):
    shutil.copytree(models_dir, tmp_path / "models")
    settings.MODELS_DIR = tmp_path / "models"
    of_gate = {status.name for status in gate_models.check(models_dir) if status.state == "good"}
    assert models("check").count(" good ") == len(registry.cards()) + len(of_gate)
    (tmp_path / "models" / "face_mesh.onnx").write_bytes(b"")
    with pytest.raises(CommandError, match="models build"):
        models("check")


def test_a_model_of_the_gate_may_be_missing_but_not_be_another_file(settings, tmp_path, models_dir):
    shutil.copytree(models_dir, tmp_path / "models")
    settings.MODELS_DIR = tmp_path / "models"
    (tmp_path / "models" / "open_nsfw.onnx").unlink(missing_ok=True)
    assert "open_nsfw        missing" in models("check")
    (tmp_path / "models" / "open_nsfw.onnx").write_bytes(b"another")
    with pytest.raises(CommandError, match="models build"):
        models("check")


def test_build_says_where_the_set_is(settings, tmp_path, packages_dir):
    settings.MODELS_DIR = tmp_path / "models"
    assert str(tmp_path / "models") in models("build", "--wheels", str(packages_dir))
    assert models("check").count(" good ") == len(registry.cards())


def test_build_without_its_packages_fails_with_the_code_and_what_to_do(settings, tmp_path):
    settings.MODELS_DIR = tmp_path / "models"
    with pytest.raises(CommandError, match="source_unavailable"):
        models("build", "--wheels", str(tmp_path))


def test_the_help_teaches_every_action(capsys):
    with pytest.raises(SystemExit):
        call_command("models", "--help")
    text = capsys.readouterr().out
    assert all(
        f"models {action}" in text for action in ("build", "check", "list", "install", "import", "licence accept")
    )
