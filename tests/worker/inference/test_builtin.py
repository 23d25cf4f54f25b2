"""Making the model set: only registered bytes ever appear, and a failure leaves nothing behind."""

import dataclasses
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from pathlib import Path

import pytest

from worker.inference import builtin, packages, registry
from worker.inference.types import ModelError

REPOSITORY = Path(__file__).parents[3]
LEFT_IN_FOLDER = {"manifest.json", ".build.lock", *(f"{name}.onnx" for name in registry.cards())}


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_set_is_built_from_the_two_packages_byte_for_byte_as_registered(tmp_path, packages_dir):
    told: list[float] = []
    builtin.build(tmp_path / "models", wheels_dir=packages_dir, progress=lambda _, fraction: told.append(fraction))
    assert [status.state for status in builtin.check(tmp_path / "models")] == ["good"] * 4
    assert names_in(tmp_path / "models") == LEFT_IN_FOLDER
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_building_a_good_set_again_needs_no_package_and_writes_nothing(tmp_path, models_dir):
    shutil.copytree(models_dir, tmp_path / "models")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "models").iterdir()}
    builtin.build(tmp_path / "models", wheels_dir=tmp_path / "nowhere")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "models").iterdir()} == before


def test_only_what_is_wrong_is_made_anew(tmp_path, models_dir, packages_dir):
    folder = tmp_path / "models"
    shutil.copytree(models_dir, folder)
    mesh = folder / "face_mesh.onnx"
    mesh.write_bytes(mesh.read_bytes()[:-1])
    kept = (folder / "face_descriptor.onnx").stat().st_ino
    assert {s.name: s.state for s in builtin.check(folder) if s.problem} == {"face_mesh": "wrong"}
    builtin.build(folder, wheels_dir=packages_dir)
    assert not any(status.problem for status in builtin.check(folder))
    assert (folder / "face_descriptor.onnx").stat().st_ino == kept


def test_a_package_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelError, match="mediapipe") as caught:
        builtin.build(tmp_path / "models", wheels_dir=tmp_path)
    assert caught.value.code == "source_unavailable"
    assert names_in(tmp_path / "models") == {".build.lock"}


def test_a_registry_that_cannot_be_reached_is_a_typed_error_with_what_pip_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)  # read TMPDIR again
    (tmp_path / "tmp").mkdir()
    with pytest.raises(ModelError, match=r"pip said: .*mediapipe") as caught:
        builtin.build(tmp_path / "models")
    assert caught.value.code == "source_unavailable"
    assert names_in(tmp_path / "models") == {".build.lock"}
    assert names_in(tmp_path / "tmp") == set()


@pytest.mark.parametrize("damage", ["cut short", "altered"])
def test_a_damaged_package_is_refused_and_nothing_is_left_behind(tmp_path, packages_dir, damage):
    wheels = tmp_path / "wheels"
    shutil.copytree(packages_dir, wheels)
    package = registry.card("face_mesh").sources[0].package
    with (wheels / package.file).open("r+b") as file:
        if damage == "cut short":
            file.truncate(package.size - 1)
        else:
            file.seek(1000)
            file.write(b"\0\0\0\0")
    with pytest.raises(ModelError, match="not the pinned one") as caught:
        builtin.build(tmp_path / "models", wheels_dir=wheels)
    assert caught.value.code == "source_unavailable"
    assert names_in(tmp_path / "models") == {".build.lock"}


def test_an_altered_data_file_inside_a_package_is_refused(tmp_path):
    source = registry.card("face_mesh").sources[0]
    with zipfile.ZipFile(tmp_path / "fake.whl", "w") as wheel:
        wheel.writestr(source.member, b"not the model")
    with pytest.raises(ModelError) as caught:
        packages.read_member(tmp_path / "fake.whl", source)
    assert caught.value.code == "model_hash_mismatch"


@pytest.mark.parametrize("name", ["fake.whl", "fake.tar.gz"])
def test_a_package_that_is_no_archive_is_a_typed_error(tmp_path, name):
    (tmp_path / name).write_bytes(b"no archive")
    with pytest.raises(ModelError) as caught:
        packages.read_member(tmp_path / name, registry.card("face_mesh").sources[0])
    assert caught.value.code == "source_unavailable"


def test_a_conversion_with_another_result_is_refused_and_nothing_is_left_behind(tmp_path, packages_dir, monkeypatch):
    cards = dict(registry.cards())
    cards["face_mesh"] = dataclasses.replace(cards["face_mesh"], sha256="0" * 64)
    monkeypatch.setattr(registry, "_CARDS", cards)
    with pytest.raises(ModelError, match="face_mesh") as caught:
        builtin.build(tmp_path / "models", wheels_dir=packages_dir)
    assert caught.value.code == "model_hash_mismatch"
    assert names_in(tmp_path / "models") == {".build.lock"}


@pytest.mark.parametrize("card", registry.cards().values(), ids=lambda card: card.name)
def test_a_malformed_source_is_a_value_error_not_a_crash(card, packages_dir):
    (source,) = card.sources
    data = packages.read_member(packages_dir / source.package.file, source)
    with pytest.raises(ValueError):
        builtin.convert(card, data[: len(data) // 2])


def test_a_disk_that_fills_up_leaves_no_half_written_model_and_the_next_build_heals(tmp_path, packages_dir):
    folder = tmp_path / "models"
    limit = 5_000_000  # bytes per file: the descriptor (22 MB) does not fit, as on a full disk
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import sys; from pathlib import Path; from worker.inference import builtin\n"
            "from worker.inference.types import ModelError\n"
            "try: builtin.build(Path(sys.argv[1]), wheels_dir=Path(sys.argv[2]))\n"
            "except ModelError as error: print(error.code)",
            *(str(folder), str(packages_dir)),
        ],
        cwd=REPOSITORY,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "write_failed"
    assert names_in(folder) <= LEFT_IN_FOLDER
    assert {status.state for status in builtin.check(folder)} <= {"good", "missing"}
    builtin.build(folder, wheels_dir=packages_dir)
    assert not any(status.problem for status in builtin.check(folder))


def test_what_a_killed_builder_left_is_swept_away(tmp_path, packages_dir):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / ".new-abandoned").write_bytes(b"half a model")
    builtin.build(folder, wheels_dir=packages_dir)
    assert names_in(folder) == LEFT_IN_FOLDER


def test_two_builders_at_once_both_end_with_a_good_set(tmp_path, packages_dir):
    converted: list[str] = []

    def report(stage: str, _: float) -> None:
        if stage.startswith("converting"):
            converted.append(stage)

    arguments = {"wheels_dir": packages_dir, "progress": report}
    builders = [threading.Thread(target=builtin.build, args=(tmp_path,), kwargs=arguments) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert not any(status.problem for status in builtin.check(tmp_path))
    assert len(converted) == 4  # the second one found the work done
