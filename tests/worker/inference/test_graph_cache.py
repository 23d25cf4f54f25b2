"""An optimised graph is made once for its circumstances, never served broken, and answers as the original does."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from worker.inference import registry
from worker.inference.graph_cache import MAX_AGE, GraphCache
from worker.inference.sessions import LocalRunner

FACTS = {"model_sha256": "a" * 64, "device": "cpu", "runtime": "1.2.3", "options": {"level": "all"}}


@pytest.fixture
def cache(tmp_path) -> GraphCache:
    return GraphCache(tmp_path / "graphs")


def entries(cache: GraphCache) -> list[Path]:
    return sorted(cache._folder.iterdir()) if cache._folder.exists() else []


@pytest.mark.parametrize("model", registry.cards())
def test_a_model_from_its_cached_graph_answers_as_the_original(models_dir, cache, noise, model):
    inputs = noise(model, 3)
    expected = LocalRunner(models_dir).run(model, inputs)
    for _ in range(2):  # the first makes the graph, the second reads it
        found = LocalRunner(models_dir, cache=cache).run(model, inputs)
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5 * max(1.0, np.ptp(array)))
        assert len(entries(cache)) == 1


def test_the_second_start_reads_the_graph_and_does_not_make_it_again(models_dir, cache):
    LocalRunner(models_dir, cache=cache).load("face_mesh")
    (entry,) = entries(cache)
    made = entry.stat().st_ino
    LocalRunner(models_dir, cache=cache).load("face_mesh")
    assert [path.stat().st_ino for path in entries(cache)] == [made]


@pytest.mark.parametrize(
    "change",
    [{"model_sha256": "b" * 64}, {"device": "cuda"}, {"runtime": "1.2.4"}, {"options": {"level": "basic"}}],
    ids=lambda change: next(iter(change)),
)
def test_other_circumstances_are_another_entry(cache, change):
    assert cache.key(**{**FACTS, **change}) != cache.key(**FACTS)
    assert cache.key(**FACTS) == cache.key(**FACTS)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data[:40] + b"?" + data[41:], lambda data: b""]
)
def test_a_damaged_entry_is_removed_and_made_again(models_dir, cache, noise, damage):
    LocalRunner(models_dir, cache=cache).load("blazeface_short")
    (entry,) = entries(cache)
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    assert cache.read(entry.stem) is None
    assert entries(cache) == []
    LocalRunner(models_dir, cache=cache).run("blazeface_short", noise("blazeface_short"))
    assert entries(cache) == [entry]
    assert cache.read(entry.stem) is not None


def test_a_whole_entry_that_is_no_graph_is_replaced(models_dir, cache, tmp_path, noise):
    runner = LocalRunner(models_dir, cache=cache)
    runner.load("blazeface_short")
    (entry,) = entries(cache)
    (tmp_path / "nonsense").write_bytes(b"no graph")
    cache.write(entry.stem, tmp_path / "nonsense")
    again = LocalRunner(models_dir, cache=cache)
    assert again.run("blazeface_short", noise("blazeface_short"))["regressors"].shape == (1, 896, 16)
    assert cache.read(entry.stem) != b"no graph"


def test_a_changed_model_file_is_refused_although_its_graph_is_cached(models_dir, cache, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    path = Path(shutil.copy(models_dir / "blazeface_short.onnx", models))
    LocalRunner(models, cache=cache).load("blazeface_short")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Exception, match="not the registered one"):
        LocalRunner(models, cache=cache).load("blazeface_short")


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(models_dir, tmp_path):
    (tmp_path / "file").write_text("in the way")
    runner = LocalRunner(models_dir, cache=GraphCache(tmp_path / "file"))
    assert runner.load("blazeface_short").device == "cpu"


def test_what_nobody_used_for_long_and_what_was_left_half_written_is_swept(cache, tmp_path):
    graph = tmp_path / "graph"
    graph.write_bytes(b"graph")
    for key in ("old", "new"):
        cache.write(key, graph)
    folder = cache.folder("compiled")
    (folder / "engine").write_bytes(b"engine")
    half = cache._folder / ".part-killed"
    half.write_bytes(b"gra")
    now = graph.stat().st_mtime
    for path, age in ((cache._folder / "old.graph", MAX_AGE + 60), (folder, MAX_AGE + 60), (half, 7200)):
        os.utime(path, (now - age, now - age))
    assert cache.sweep(now) == 3
    assert [path.name for path in entries(cache)] == ["new.graph"]
    assert cache.read("new") == b"graph"
    assert cache.read("old") is None
