"""`manage.py bench models|batch|quality|pipeline`: a table, JSON and a plot; refusals before anything is measured."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError


@pytest.fixture
def home(settings, tmp_path, models_dir):
    settings.HOME, settings.MODELS_DIR = tmp_path / "home", models_dir
    return settings.HOME


def test_a_bench_prints_a_table_and_writes_json_and_a_plot(home, tmp_path):
    pytest.importorskip("matplotlib")
    out = io.StringIO()
    file, folder = tmp_path / "batch.json", tmp_path / "plots"
    call_command("bench", "batch", "--seconds", "0.05", "--json", str(file), "--out", str(folder), stdout=out)
    told = json.loads(file.read_text())
    assert told["bench"] == "batch"
    for row in told["rows"]:
        assert row["verdict"] in ("goal reached", "reached", "not reached")
        (line,) = (line for line in out.getvalue().splitlines() if line.startswith(row["name"] + "  "))
        assert line.endswith(row["verdict"])
    assert (folder / "batch.png").read_bytes().startswith(b"\x89PNG")
    assert not (home / "run" / "engine.sock").exists()  # the deployment's own engine is not touched


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (["models", "--only", "nothing"], "model_missing"),
        (["models", "--models", "/nowhere"], "model_missing"),
        (["models", "--seconds", "0"], "above 0"),
        (["pipeline", "--size", "large"], "not a size"),
        (["pipeline", "--neural-frames", "9", "9"], "shorter and a longer"),
        (["pipeline", "--swapper", "hyperswap_1a_256"], "model_missing"),
    ],
)
def test_what_cannot_be_measured_is_said(home, order, words):
    with pytest.raises(CommandError, match=words):
        call_command("bench", *order)


def test_a_bench_has_to_be_named():
    with pytest.raises(CommandError, match="WHAT"):
        call_command("bench")
