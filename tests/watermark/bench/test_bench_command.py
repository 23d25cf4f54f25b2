"""`manage.py bench watermark`: tables, JSON, the report, and what it says to a wrong question."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from watermark.bench.attacks import ATTACKS, seeded
from watermark.bench.scenes import landscape


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    Image.fromarray(landscape((420, 320), seeded(1, "command"))).save(folder / "hills.png")
    Image.new("RGB", (300, 300)).save(folder / "black.png")
    return folder


def run(*arguments):
    out = io.StringIO()
    call_command("bench", "watermark", *map(str, arguments), stdout=out, stderr=io.StringIO())
    return out.getvalue()


def test_a_table_shows_each_attack_with_its_interval(images):
    said = run("--images", images, "--attacks", "none", "jpeg_75", "--jobs", 1, "--effort", "fast")
    line = next(line for line in said.splitlines() if line.startswith("codec       jpeg_75"))
    assert line.split()[2:4] == ["100.0", "["]
    assert "PSNR" in said
    assert "left out, since they cannot carry a mark: black" in said


def test_the_json_has_the_figures_and_how_they_came_about(images):
    said = json.loads(
        run(
            "--images", images, "--attacks", "none", "--mode", "default", "--jobs", 1, "--effort", "fast",
            "--negatives", 2, "--seed-from", 5, "--json",
        )
    )  # fmt: skip
    assert said["run"]["modes"] == ["default"]
    assert said["run"]["pictures"] == ["black", "hills"]
    assert said["suite"]["attacks"]["none"]["default"]["recovered_percent"] == 100
    assert said["suite"]["unmarkable"] == ["black"]
    assert said["suite"]["fidelity"]["default"]["psnr_mean"] > 42
    assert said["negatives"]["checks"] == 2
    assert said["negatives"]["seed_from"] == 5


def test_a_part_runs_alone(images):
    said = json.loads(run("--images", images, "--negatives", 1, "--jobs", 1, "--effort", "fast", "--json"))
    assert set(said) == {"run", "negatives"}


def test_a_folder_of_figures_is_written(images, tmp_path):
    pytest.importorskip("matplotlib")
    said = run(
        "--images", images, "--attacks", "none", "--jobs", 1, "--effort", "fast", "--negatives", 2, "--sweep", 43, 46,
        "--out", tmp_path / "report",
    )  # fmt: skip
    page = (tmp_path / "report" / "index.html").read_text()
    assert "index.html" in said
    for file in ("groups.png", "psnr.png", "false_alarms.png", "crop_skin.png", "crop_sky.png", "whole_flat.png"):
        assert f'src="{file}"' in page
        with Image.open(tmp_path / "report" / file) as image:
            assert min(image.size) > 100
    assert json.loads((tmp_path / "report" / "bench.json").read_text())["sweep"].keys() == {"43", "46"}
    assert len((tmp_path / "report" / "rows.jsonl").read_text().splitlines()) == 2


def test_the_list_names_every_attack_and_video_case():
    said = run("--list")
    assert all(name in said for name in ATTACKS)
    assert "three_times" in said


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--attacks", "jpeg_51"), "no attack 'jpeg_51'"),
        (("--groups", "magic"), "no group 'magic'"),
        (("--video", "vhs"), "no video case 'vhs'"),
        (("--limit", 0), "--limit takes a number from 1 up"),
    ],
)
def test_a_wrong_name_or_number_is_told_before_anything_runs(arguments, told):
    with pytest.raises(CommandError, match=told):
        run(*arguments)


def test_a_folder_without_pictures_is_told(tmp_path):
    with pytest.raises(CommandError, match="holds no picture"):
        run("--images", tmp_path)


def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(images, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CommandError, match="cannot be written"):
        run("--images", images, "--out", tmp_path / "file" / "report")


def test_the_help_gives_examples(capsys):
    with pytest.raises(SystemExit):
        call_command("bench", "watermark", "--help")
    assert "manage.py bench watermark --negatives 2000 --seed-from 8000" in capsys.readouterr().out
