"""`manage.py gate`: from files with labels to a table, a record, and the right to decide or not."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from django.core.management import CommandError, call_command

from tests.worker.gate.pack_graphs import write_graph, write_manifest
from worker.gate.looks.sampling import Sample, SampledFace
from worker.gate.packs import robustness
from worker.gate.packs.evaluation import read_manifest
from worker.gate.packs.pack_store import PackStore
from worker.gate.packs.standing import PackError
from worker.inference.client import stop_engine

SIZE = 200
COUNT = 120  # files: 60 sources of each class


def gate(*arguments: str) -> str:
    out = io.StringIO()
    call_command("gate", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def house(settings: Any, tmp_path: Path, models_dir: Path) -> Iterator[Path]:
    """A home of its own, with a detector of bright pictures installed before the engine starts."""
    settings.HOME, settings.MODELS_DIR = tmp_path / "home", models_dir
    settings.GATE_PACKS_DIR = settings.HOME / "gate-packs"
    settings.HOME.mkdir()
    write_graph(tmp_path / "bright.onnx", gain=20.0, bias=-10.0)
    write_manifest(tmp_path / "bright.toml", kind="ai_image")
    gate("packs", "install", str(tmp_path / "bright.toml"), "--pin")
    yield tmp_path
    stop_engine(settings.HOME)


def files(folder: Path, *, seed: int, apart: float, count: int = COUNT) -> Path:
    """Flat pictures, the "generated" ones brighter by `apart`, and their manifest."""
    folder.mkdir()
    draw = np.random.default_rng(seed)
    rows = [["file", "label", "species", "source", "group"]]
    for number in range(count):
        fake = number % 2 == 1
        level = draw.normal(110 + apart * fake, 12)
        picture = np.clip(draw.normal(level, 6, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
        name = f"{number}.png"
        cv2.imwrite(str(folder / name), picture)
        label = ("attack", "drawn") if fake else ("bona_fide", "")
        rows.append([name, *label, f"{folder.name}-{number}", "" if fake else "even"])
    manifest = folder / "files.csv"
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return manifest


def test_a_pack_earns_its_say_on_files_it_has_not_seen(house: Path) -> None:
    first = files(house / "first", seed=7, apart=60, count=60)
    second = files(house / "second", seed=2, apart=60)
    said = gate("calibrate", str(first.parent), "--manifest", str(first), "--pack", "bright", "--bpcer", "0.01")
    assert "30 bona fide files and 30 attacks" in said
    with pytest.raises(CommandError, match="not_allowed_to_enforce"):
        gate("packs", "enforce", "bright")  # calibrated, but not evaluated
    with pytest.raises(CommandError, match="same_data"):
        gate("evaluate", str(first.parent), "--manifest", str(first), "--pack", "bright")
    (report,) = json.loads(gate("evaluate", str(second.parent), "--manifest", str(second), "--json"))
    plain = report["roads"]["as it is"]
    assert plain["auc"] > 0.97
    assert plain["auc_low"] <= plain["auc"] <= plain["auc_high"]
    assert plain["sources"] == {"drawn": 60}
    assert plain["groups"] == {"even": plain["bpcer"]}
    store = PackStore(house / "home" / "gate-packs")
    evaluation = store.standing("bright").evaluation
    assert evaluation is not None
    assert (evaluation.bpcer, evaluation.apcer) == (plain["bpcer"], plain["apcer"])
    if evaluation.problem():
        pytest.fail(f"the drawn files should be easy enough: {evaluation.problem()}")
    assert "enforcing" in gate("packs", "enforce", "bright")
    assert "advisory" in gate("packs", "relax", "bright")


def test_a_weak_pack_stays_advisory_and_the_table_says_why(house: Path) -> None:
    first = files(house / "first", seed=3, apart=14, count=60)
    second = files(house / "second", seed=4, apart=14)
    gate("calibrate", str(first.parent), "--manifest", str(first), "--pack", "bright", "--method", "isotonic")
    said = gate(
        "evaluate", str(second.parent), "--manifest", str(second), "--pack", "bright", "--out", str(house / "f")
    )
    assert "APCER" in said
    assert "advisory: APCER of drawn" in said
    assert "at 2.0%" in said
    assert (house / "f" / "bright.png").stat().st_size > 10_000
    with pytest.raises(CommandError, match="not_allowed_to_enforce"):
        gate("packs", "enforce", "bright")


def test_the_roads_of_a_picture_are_measured_too(house: Path) -> None:
    some = files(house / "some", seed=5, apart=60, count=12)
    (report,) = json.loads(gate("evaluate", str(some.parent), "--manifest", str(some), "--roads", "--json"))
    assert set(report["roads"]) == {"as it is", *robustness.ROADS}
    assert not report["calibrated"]
    assert report["evaluation"] is None
    assert all(road["auc"] > 0.9 for road in report["roads"].values())  # brightness survives them all


def test_a_file_that_cannot_be_read_is_not_answered_and_counted(house: Path) -> None:
    some = files(house / "some", seed=6, apart=60, count=12)
    (some.parent / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (report,) = json.loads(gate("evaluate", str(some.parent), "--manifest", str(some), "--json"))
    plain = report["roads"]["as it is"]
    assert (plain["bpnrr"], plain["apnrr"]) == (pytest.approx(1 / 6), 0.0)


def change(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(text) and None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "columns"),
        ("file,label\n0.png,attack\n", "columns"),
        ("file,label,species,source\nnowhere.png,attack,x,s\n", "line 2"),
        ("file,label,species,source\n../a.png,attack,x,s\n", "line 2"),
        ("file,label,species,source\na.png,fake,x,s\n", "label"),
        ("file,label,species,source\na.png,attack,,s\n", "species"),
        ("file,label,species,source\na.png,bona_fide,,\n", "source"),
    ],
)
def test_a_manifest_with_a_hole_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "inside" / "a.png").write_bytes(b"x")
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(PackError, match=words) as caught:
        read_manifest(tmp_path / "inside", tmp_path / "m.csv")
    assert caught.value.code == "manifest_malformed"


def test_what_cannot_be_done_is_said_with_its_code(house: Path) -> None:
    for arguments, code in (
        (("packs", "enforce", "nobody"), "pack_unknown"),
        (("packs", "accept", "bright"), "reason_required"),
        (("calibrate", str(house), "--manifest", str(house / "no.csv"), "--pack", "bright"), "manifest_malformed"),
        (("packs", "install", str(house / "no.toml")), "source_unavailable"),
    ):
        with pytest.raises(CommandError, match=code):
            gate(*arguments)
    with pytest.raises(CommandError, match="which pack"):
        gate("packs", "remove")
    assert "community_forensics" in gate("packs", "known")
    assert "is removed" in gate("packs", "remove", "bright")
    assert "No pack is installed" in gate("packs", "list")


def test_faces_move_with_the_picture() -> None:
    draw = np.random.default_rng(0)
    mesh = np.zeros((478, 3), np.float32)
    mesh[:, :2] = 50
    face = SampledFace(0, np.array([40, 30, 20, 40], np.float32), mesh)
    taken = Sample(0.0, draw.integers(0, 255, (101, 201, 3), np.uint8), (face,))
    half, cropped = robustness.half(taken), robustness.crop(taken, 0.1)
    assert half.rgb.shape == (50, 100, 3)
    assert list(half.faces[0].box) == [20, 15, 10, 20]
    assert cropped.rgb.shape == (81, 161, 3)
    assert list(cropped.faces[0].box) == [20, 20, 20, 40]
    assert list(cropped.faces[0].landmarks[0]) == [30, 40, 0]
    for name, road in robustness.ROADS.items():
        assert road(taken).rgb.dtype == np.uint8, name
    assert robustness.jpeg(taken, 30).faces == taken.faces
    assert robustness.h264(taken, 28).rgb.shape == (100, 200, 3)
    np.testing.assert_array_equal(face.box, [40, 30, 20, 40])  # nothing was changed in place
