"""An operator's models: imported once, freed where that changes nothing, refused where they do not fit."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.worker import neural_graphs as graphs
from tests.worker import tensors
from worker.faces.neural.crops import PictureReader, TensorWriter
from worker.inference import borders, importing, registry
from worker.inference.client import connect
from worker.inference.importing import import_folder, import_model
from worker.inference.registry import ModelSet
from worker.inference.sessions import LocalRunner
from worker.inference.types import ModelError

NAMES = list(graphs.NAMES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graphs.write_all(tmp_path_factory.mktemp("operator"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("imported")


@pytest.fixture(scope="module")
def models(folder: Path, cache: Path) -> ModelSet:
    return import_folder(folder, cache)


@pytest.fixture(scope="module")
def runner(models: ModelSet, models_dir: Path) -> LocalRunner:
    return LocalRunner(models_dir, models=models)


def noise(card: registry.ModelCard, batch: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(batch)
    made = {}
    for name, shape in card.contract.inputs.items():
        form, full = (batch, *shape), card.contract.input_type(name) == np.uint8
        made[name] = rng.integers(0, 256, form, np.uint8) if full else rng.random(form, np.float32)
    return made


def _import(tmp_path: Path, name: str, model: onnx.ModelProto) -> tuple[registry.ModelCard, Path]:
    tmp_path.mkdir(exist_ok=True)
    onnx.save(model, tmp_path / f"{name}.onnx")
    return import_model(registry.operator_models()[name], tmp_path / f"{name}.onnx", tmp_path / "cache")


def test_a_folder_of_files_becomes_cards_with_the_hashes_of_what_is_run(folder, models):
    assert sorted(models.extra) == sorted(NAMES)
    for name, card in models.extra.items():
        assert card.sha256 == hashlib.sha256(models.files[name].read_bytes()).hexdigest()
        assert card.original == hashlib.sha256((folder / f"{name}.onnx").read_bytes()).hexdigest()
        assert card.batches
        assert card.precision == "fp32"
    assert list(models.cards()) == [*registry.cards(), *models.extra]
    assert models.id().startswith("extended-")


@pytest.mark.parametrize("name", NAMES)
def test_an_export_with_a_batch_of_one_gives_in_a_batch_what_it_gives_alone(runner, models, name):
    inputs = noise(models.card(name), 5)
    together = runner.run(name, inputs)
    for index in range(5):
        alone = runner.run(name, {key: array[index : index + 1] for key, array in inputs.items()})
        for key, values in alone.items():
            _near(together[key][index], values[0], 1e-4)


def _near(found: np.ndarray, wanted: np.ndarray, apart: float) -> None:
    """Pictures come as bytes, and what was nearly the same may be rounded to two neighbours."""
    assert found.dtype == wanted.dtype
    if found.dtype == np.uint8:
        apart = 1 + 255 * apart
    np.testing.assert_allclose(found.astype(np.float64), wanted, atol=apart)


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> ModelSet:
    """The same models with weights in half precision."""
    folder = tmp_path_factory.mktemp("half")
    return import_folder(graphs.write_all(folder, half=True), folder / "cache")


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_inside_leaves_the_borders_in_single(halves, models_dir, runner, name):
    card = halves.card(name)
    assert card.batches
    assert card.precision == ("fp32" if name == "gfpgan_1.4" else "fp16")  # the stand-in enhancer has no weights
    found = LocalRunner(models_dir, models=halves).run(name, noise(card, 2))
    wanted = runner.run(name, noise(card, 2))
    for key, values in wanted.items():
        assert found[key].dtype == card.contract.output_type(key)
        scale = 1.0 if found[key].dtype == np.uint8 else max(1.0, float(np.abs(values).max()))
        _near(found[key], values, 2e-3 * scale)


def test_tensors_in_half_precision_at_the_border_are_widened(tmp_path):
    graph = graphs.Graph()
    graph.inputs.append(helper.make_tensor_value_info("input", TensorProto.FLOAT16, [1, 3, 512, 512]))
    doubled = graph.op("Add", "input", "input")
    graph.nodes.append(helper.make_node("Identity", [doubled], ["output"]))
    graph.outputs.append(helper.make_tensor_value_info("output", TensorProto.FLOAT16, [1, 3, 512, 512]))
    card, path = _import(tmp_path, "gfpgan_1.4", graph.model())
    models = ModelSet({card.name: card}, {card.name: path})
    inputs = noise(card, 2)
    found = LocalRunner(tmp_path, models=models).run(card.name, inputs)["output"]
    image = card.contract.image
    _near(found, tensors.shown(image, 2 * tensors.seen(image, inputs["input"])), 2e-3)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.soak)
        if name == "gpen_bfr_2048"
        else name  # seconds, for 4-megapixel tensors
        for name, known in registry.operator_models().items()
        if name not in graphs.NAMES and known.card.role in ("face_swapper", "face_enhancer")
    ],
)
def test_every_other_model_runs_and_what_it_gives_back_is_the_untouched_picture(tmp_path, name):
    card, path = _import(tmp_path, name, graphs.graph_of(name))
    assert card.contract.image is not None
    picture = np.random.default_rng(3).integers(0, 256, (card.contract.image.side,) * 2 + (3,), np.uint8)
    inputs = {card.contract.image.input: TensorWriter(card.contract.image).write(picture)}
    if "source" in card.contract.inputs:
        inputs["source"] = np.full((1, *card.contract.inputs["source"]), 512**-0.5, np.float32)
    outputs = LocalRunner(tmp_path, models=ModelSet({card.name: card}, {card.name: path})).run(name, inputs)
    back = PictureReader(card.contract.image).rgb(outputs[card.contract.image.output][0])
    share = 0.5 if name == "codeformer" else 1.0  # its stand-in multiplies with the weight that is set at import
    assert np.abs(back - (127.5 + share * (picture - 127.5))).max() <= 1


def test_what_a_killed_importer_left_is_swept_and_stops_nobody(tmp_path):
    left = tmp_path / "cache" / ".new-killed"
    left.mkdir(parents=True)
    (left / "trial.onnx").write_bytes(b"half")
    _import(tmp_path, "gfpgan_1.4", graphs.enhancer())
    assert not left.exists()


def test_tensors_with_an_exporters_own_names_get_those_of_the_contract(tmp_path):
    plain, odd = graphs.swapper(256, shade=True), graphs.swapper(256, shade=True)
    inside = odd.graph.node[0].output[0]
    for old, new in (("source", "683"), ("target", "x.1"), ("output", "1288"), (inside, "target")):
        borders._rename(odd, old, new)  # an inner tensor now bears a name of the contract
    wanted, found = (_import(tmp_path / name, "hyperswap_1a_256", model) for name, model in (("a", plain), ("b", odd)))
    inputs = noise(wanted[0], 2)
    results = [
        LocalRunner(tmp_path, models=ModelSet({card.name: card}, {card.name: path})).run(card.name, inputs)["output"]
        for card, path in (wanted, found)
    ]
    np.testing.assert_array_equal(results[1], results[0])


def test_two_tensors_that_could_both_be_meant_are_not_guessed_at(tmp_path):
    graph = graphs.Graph()
    seen = graph.input("input", 3, 512, 512)
    for name in ("first", "second"):
        graph.output(graph.op("Identity", seen), name, 3, 512, 512)
    with pytest.raises(ModelError, match="no tensor output") as refused:
        _import(tmp_path, "gfpgan_1.4", graph.model())
    assert refused.value.code == "model_unfit"


def test_a_graph_that_mixes_the_items_of_a_batch_is_run_singly(tmp_path):
    graph = graphs.Graph()
    seen = graph.input("input", 3, 512, 512)
    mean = graph.op("ReduceMean", seen, axes=[0], keepdims=1)  # right for one, wrong for several
    graph.output(graph.op("Sub", seen, mean), "output", 3, 512, 512)
    card, path = _import(tmp_path, "gfpgan_1.4", graph.model())
    assert not card.batches
    models = ModelSet({card.name: card}, {card.name: path})
    assert (LocalRunner(tmp_path, models=models).run(card.name, noise(card, 1))["output"] == 128).all()  # of -1 to 1


def test_a_graph_whose_batch_of_one_cannot_be_freed_is_run_singly(tmp_path):
    graph = graphs.Graph()
    seen = graph.input("input", 3, 512, 512)
    flat = graph.op("Reshape", seen, graph.weight([3, 512 * 512], np.int64))
    graph.output(graph.op("Reshape", flat, graph.weight([1, 3, 512, 512], np.int64)), "output", 3, 512, 512)
    card, _ = _import(tmp_path, "gfpgan_1.4", graph.model())
    assert not card.batches


def test_a_model_whose_picture_is_no_number_is_refused(tmp_path):
    graph = graphs.Graph()
    seen = graph.input("input", 3, 512, 512)
    graph.output(graph.op("Log", graph.op("Sub", seen, seen)), "output", 3, 512, 512)
    with pytest.raises(ModelError, match="output is not finite") as refused:
        _import(tmp_path, "gfpgan_1.4", graph.model())
    assert refused.value.code == "model_unfit"
    assert not list((tmp_path / "cache").glob("gfpgan*"))


def test_an_input_that_only_some_exports_have_gets_its_value(tmp_path):
    card, path = _import(tmp_path, "gfpgan_1.4", graphs.enhancer(weight=True))
    models = ModelSet({card.name: card}, {card.name: path})
    inputs = noise(card, 2)
    found = LocalRunner(tmp_path, models=models).run(card.name, inputs)["output"]
    np.testing.assert_array_equal(found, inputs["input"])


def test_the_matrix_of_the_128_pixel_swapper_is_inside_the_imported_graph(tmp_path):
    rng = np.random.default_rng(8)
    emap = rng.standard_normal((512, 512)).astype(np.float32)
    card, path = _import(tmp_path, "inswapper_128", graphs.swapper(128, shade=True, emap=emap))
    models = ModelSet({card.name: card}, {card.name: path})
    source = rng.standard_normal((2, 512)).astype(np.float32)
    source *= (np.array([0.2, 0.6]) / (source @ emap).mean(axis=1))[:, None].astype(
        np.float32
    )  # what the stand-in adds to its picture
    target = np.zeros((2, 3, 128, 128), np.uint8)
    found = LocalRunner(tmp_path, models=models).run(card.name, {"source": source, "target": target})["output"]
    assert found[:, 0, 0, 0].tolist() == [51, 153]


def test_what_was_imported_once_is_taken_from_the_cache(tmp_path, folder):
    cache = tmp_path / "cache"
    first = import_folder(folder, cache)
    before = {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in cache.iterdir()}
    again = import_folder(folder, cache)
    assert (again.extra, again.files) == (first.extra, first.files)
    assert {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in cache.iterdir()} == before
    assert not [path for path in cache.iterdir() if path.name.startswith(".new-")]


def test_another_file_of_the_same_name_is_another_model(tmp_path, models):
    card, _ = _import(tmp_path, "hyperswap_1a_256", graphs.swapper(256, shade=True))
    assert card.sha256 != models.card("hyperswap_1a_256").sha256


def test_a_newer_importer_does_not_take_the_older_ones_work(tmp_path, folder, monkeypatch):
    known = registry.operator_models()["yunet"]
    _, before = import_model(known, folder / "yunet.onnx", tmp_path)
    monkeypatch.setattr(importing, "IMPORTER_VERSION", importing.IMPORTER_VERSION + 1)
    _, after = import_model(known, folder / "yunet.onnx", tmp_path)
    assert before != after


@pytest.mark.parametrize("damage", ["facts", "no facts", "short model"])
def test_a_cache_entry_that_is_not_whole_is_made_anew(tmp_path, folder, damage):
    known = registry.operator_models()["yunet"]
    card, path = import_model(known, folder / "yunet.onnx", tmp_path)
    facts = path.with_suffix(".json")
    match damage:
        case "facts":
            facts.write_text("{")
        case "no facts":
            facts.unlink()
        case "short model":
            path.write_bytes(path.read_bytes()[:100])
    assert import_model(known, folder / "yunet.onnx", tmp_path) == (card, path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == card.sha256 == json.loads(facts.read_text())["sha256"]


def test_importers_that_meet_agree(tmp_path, folder):
    found: list[ModelSet] = []
    threads = [threading.Thread(target=lambda: found.append(import_folder(folder, tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(one.extra == found[0].extra for one in found)


def test_an_imported_file_that_was_changed_is_never_loaded(tmp_path, folder, models_dir):
    models = import_folder(folder, tmp_path)
    path = models.files["yunet"]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        LocalRunner(models_dir, models=models).load("yunet")
    assert caught.value.code == "model_hash_mismatch"


@pytest.mark.parametrize("kind", ["no model", "other tensors", "other size", "more inputs", "integers", "old"])
def test_a_file_that_is_not_what_its_name_says_is_refused_and_leaves_nothing(tmp_path, kind):
    path = tmp_path / "gfpgan_1.4.onnx"
    model = graphs.enhancer()
    match kind:
        case "no model":
            path.write_bytes(b"not a model")
        case "other tensors":
            onnx.save(graphs.yunet(), path)
        case "other size":
            onnx.save(graphs.enhancer(256), path)
        case "more inputs":
            model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
            onnx.save(model, path)
        case "integers":
            graph = graphs.Graph()
            graph.inputs.append(helper.make_tensor_value_info("input", TensorProto.UINT8, [1, 3, 512, 512]))
            graph.nodes.append(helper.make_node("Identity", ["input"], ["output"]))
            graph.outputs.append(helper.make_tensor_value_info("output", TensorProto.UINT8, [1, 3, 512, 512]))
            onnx.save(graph.model(), path)
        case "old":
            model.opset_import[0].version = borders.LEAST_OPSET - 1
            onnx.save(model, path)
    with pytest.raises(ModelError) as caught:
        import_folder(tmp_path, tmp_path / "cache")
    assert caught.value.code == "model_unfit"
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == [".import.lock"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ModelError) as caught:
        import_folder(tmp_path / "nowhere", tmp_path / "cache")
    assert caught.value.code == "model_missing"


def test_files_of_other_names_are_left_alone(tmp_path, folder):
    shutil.copy(folder / "yunet.onnx", tmp_path / "unknown.onnx")
    assert not import_folder(tmp_path, tmp_path / "cache").extra


def test_cards_cross_as_text_and_come_back_without_their_files(models):
    again = ModelSet.from_json(models.to_json())
    assert again.extra == models.extra
    assert again.id() == models.id()
    assert not again.files
    with pytest.raises(ValueError, match="model set"):
        ModelSet.from_json('{"yunet": {}}')


def test_a_known_model_that_is_not_installed_says_where_its_file_belongs():
    with pytest.raises(ModelError, match=r"models install gfpgan_1\.4") as caught:
        registry.BUILTIN.card("gfpgan_1.4")
    assert caught.value.code == "model_missing"


def test_the_engine_runs_the_models_of_the_folder_it_was_given(
    tmp_path: Path, models_dir: Path, folder: Path, runner: LocalRunner, start_engine: Callable[..., Path]
) -> None:
    built_in = tmp_path / "models"
    shutil.copytree(models_dir, built_in, ignore=shutil.ignore_patterns("imported"))
    models = import_folder(folder, importing.cache_of(built_in))
    socket = start_engine(models_dir=built_in, extra_models=folder)
    with connect(socket, models=ModelSet.from_json(models.to_json())) as client:
        assert client.status()["model_set"] == models.id()
        for name in ("yunet", "hyperswap_1a_256"):
            inputs = noise(models.card(name), 2)
            found = client.submit(name, inputs).result()
            for key, values in runner.run(name, inputs).items():
                np.testing.assert_allclose(found[key], values, atol=1e-5)
