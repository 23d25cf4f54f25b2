"""`manage.py bench gate` measures a film and a photo on the real engine: its parts must hang together."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from worker.bench.gate import ALL, PARTS
from worker.bench.meter import PeakMemory
from worker.gate.screeners import BUILT
from worker.inference import gate_models


def test_a_film_and_a_photo_are_screened_and_each_part_is_told(
    settings, models_dir: Path, tmp_path: Path, samples: Path
) -> None:
    if any(status.state != "good" for status in gate_models.check(models_dir)):
        pytest.skip("pip or npm could not fetch the gate's models here")
    settings.HOME, settings.MODELS_DIR = tmp_path / "home", models_dir
    file, out = tmp_path / "gate.json", io.StringIO()
    call_command(
        "bench", "gate", "--seconds", "4", "--size", "640x360", "--entries", "1000", "--json", str(file), stdout=out
    )  # fmt: skip
    told = json.loads(file.read_text())
    rows = {row["name"]: row for row in told["rows"]}
    share = rows["nudity and age, processor time over the film's length"]
    assert share["required"] == 0.5
    assert share["verdict"] in ("reached", "not reached")
    memory = rows["peak memory, the film over a tenth of its length"]
    assert memory["measured"] is None  # 0.4 s tell nothing about memory
    assert memory["verdict"] == "not measured"
    (table,) = told["tables"]
    for line in table["lines"]:
        seen = dict(zip(table["columns"], line, strict=True))
        assert min(seen[part] for part in PARTS if part not in ("pictures", "own_mark")) > 0, seen
        assert seen["own_mark"] == 0  # a photo's, and a short film's, is read apart
        assert seen["pictures"] + seen["nsfw"] + seen["age"] == pytest.approx(seen[ALL], abs=0.03)
        assert 0 < seen["engine MiB"] < seen["all MiB"] <= seen["own MiB"] + seen["engine MiB"] + 1
    photo, _, film = ({**dict(zip(table["columns"], line, strict=True))} for line in table["lines"])
    assert film["faces"] > photo["faces"]
    assert share["measured"] == pytest.approx(film[ALL] / 4, abs=0.02)
    assert "of it nudity" in out.getvalue()
    assert not (settings.HOME / "run" / "engine.sock").exists()  # the deployment's own engine is not touched


def test_without_the_gates_models_nothing_is_measured(settings, models_dir: Path, tmp_path: Path) -> None:
    bare = tmp_path / "models"
    bare.mkdir()
    own = {f"{gate_models.of_role(kind).name}.onnx" for kind in BUILT}
    for path in models_dir.iterdir():
        if path.is_file() and path.name not in own:
            (bare / path.name).symlink_to(path)
    settings.HOME, settings.MODELS_DIR = tmp_path / "home", bare
    with pytest.raises(CommandError, match=r"nsfw and age.*model_missing"):
        call_command("bench", "gate", "--seconds", "2")


def test_the_memory_of_a_child_is_seen_while_it_lives(tmp_path: Path) -> None:
    large = 200 << 20
    work = f"import sys; kept = bytearray({large}); sys.stdout.write('x'); sys.stdout.flush(); sys.stdin.read()"
    with PeakMemory(tmp_path / "no.sock") as before:
        pass
    with subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        with PeakMemory(tmp_path / "no.sock") as peak:
            pass
        process.communicate()
    assert peak.own - before.own > 0.9 * large
    assert (peak.engine, peak.all) == (0, peak.own)
