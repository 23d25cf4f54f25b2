"""`manage.py models`: thin, but what people see of the model set."""

import io
import shutil

import pytest
from django.core.management import CommandError, call_command

from worker.inference import registry


def models(*arguments: str) -> str:
    out = io.StringIO()
    call_command("models", *arguments, stdout=out)
    return out.getvalue()


def test_list_names_every_model_with_its_licence(settings, tmp_path):
    (tmp_path / "yunet.onnx").touch()
    settings.EXTRA_MODELS = tmp_path
    lines = models("list").splitlines()
    builtin, operator = list(registry.cards()), list(registry.operator_models())
    assert [line.split()[0] for line in lines] == builtin + operator
    assert all("Apache-2.0" in line or "CC0-1.0" in line for line in lines[: len(builtin)])
    assert [line.split()[0] for line in lines[len(builtin) :] if " not there " not in line] == ["yunet"]
    assert all("NO commercial use" in line for line in lines if "Non-Commercial" in line)


def test_check_names_what_is_wrong_and_fails(settings, tmp_path, models_dir):
    shutil.copytree(models_dir, tmp_path / "models")
    settings.MODELS_DIR = tmp_path / "models"
    assert models("check").count(" good ") == len(registry.cards())
    (tmp_path / "models" / "face_mesh.onnx").write_bytes(b"")
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
    assert all(f"models {action}" in text for action in ("build", "check", "list"))
