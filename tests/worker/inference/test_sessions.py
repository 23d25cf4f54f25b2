"""Models run in this process: only registered files, only fitting tensors, and the device is never a guess."""

import random
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from worker.inference import registry
from worker.inference.sessions import LocalRunner, ProviderPolicy, is_out_of_memory
from worker.inference.types import ModelError

NO_GPU = not Path("/dev/nvidiactl").exists()
GOLDENS = Path(__file__).parent / "goldens" / "goldens.npz"
SEED = 20210604  # of goldens/make_goldens.py
KEPT_ROWS = {"blazeface_short": 7, "blazeface_full": 18}


@pytest.fixture(scope="module")
def runner(models_dir):
    return LocalRunner(models_dir)


def golden_inputs(model: str, photo: np.ndarray) -> np.ndarray:
    """The inputs that goldens/make_goldens.py gave to the original runtimes."""
    noise = np.random.default_rng(SEED)
    match model:
        case "blazeface_short":
            cut = photo[32:160, 32:160] / np.float32(127.5) - 1
            images = [cut, noise.random((128, 128, 3)).astype(np.float32) * 2 - 1]
        case "blazeface_full":
            images = [photo / np.float32(127.5) - 1, noise.random((192, 192, 3)).astype(np.float32) * 2 - 1]
        case "face_mesh":
            images = [photo / np.float32(255), photo[:, ::-1] / np.float32(255)]
        case "face_descriptor":
            images = [photo[21:171, 21:171], noise.integers(0, 256, (150, 150, 3), dtype=np.uint8)]
            images = [image.transpose(2, 0, 1) for image in images]
    return np.stack(images).astype(np.float32)


@pytest.mark.parametrize("model", registry.cards())
def test_the_converted_model_answers_as_the_original_runtime_did(runner, model):
    with np.load(GOLDENS) as goldens:
        expected = {key.split(".")[1]: goldens[key] for key in goldens.files if key.startswith(f"{model}.")}
        found = runner.run(model, {"image": golden_inputs(model, goldens["photo"])})
    assert expected
    for name, golden in expected.items():
        values = found[name][:, :: KEPT_ROWS.get(model, 1)]
        assert values.shape == golden.shape
        assert np.abs(values - golden).max() < 1e-3 * np.ptp(golden)


def test_the_mesh_tells_a_face_from_noise(runner, noise):
    with np.load(GOLDENS) as goldens:
        face = runner.run("face_mesh", {"image": golden_inputs("face_mesh", goldens["photo"])})
    assert face["presence"].min() > 0.95
    assert runner.run("face_mesh", noise("face_mesh"))["presence"].item() < 0.05


@pytest.mark.parametrize("model", registry.cards())
def test_a_batch_of_eight_gives_what_eight_runs_give(runner, noise, model):
    inputs = noise(model, batch=8)
    together = runner.run(model, inputs)
    for index in range(8):
        alone = runner.run(model, {name: array[index : index + 1] for name, array in inputs.items()})
        for name in together:
            assert np.abs(together[name][index] - alone[name][0]).max() <= 1e-5 * max(1.0, np.ptp(alone[name]))


def test_an_array_that_is_a_view_with_strides_is_read_rightly(runner, noise):
    inputs = noise("face_descriptor")
    turned = np.ascontiguousarray(inputs["image"].transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert not turned.flags.c_contiguous
    expected = runner.run("face_descriptor", inputs)["embedding"]
    np.testing.assert_array_equal(runner.run("face_descriptor", {"image": turned})["embedding"], expected)


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"picture": np.zeros((1, 192, 192, 3), np.float32)},
        {"image": np.zeros((1, 192, 192, 3), np.float64)},
        {"image": np.zeros((1, 128, 128, 3), np.float32)},
        {"image": np.zeros((192, 192, 3), np.float32)},
        {"image": np.zeros((0, 192, 192, 3), np.float32)},
        {"image": np.zeros((33, 192, 192, 3), np.float32)},
    ],
    ids=["nothing", "other name", "doubles", "other size", "no batch axis", "empty batch", "batch too large"],
)
def test_tensors_that_do_not_fit_the_contract_are_refused(runner, inputs):
    with pytest.raises(ModelError) as caught:
        runner.run("face_mesh", inputs)
    assert caught.value.code == "input_invalid"


def test_a_model_that_was_not_built_says_how_to_build_it(tmp_path, noise):
    with pytest.raises(ModelError, match="models build") as caught:
        LocalRunner(tmp_path).run("face_mesh", noise("face_mesh"))
    assert caught.value.code == "model_missing"


def test_a_model_file_with_one_changed_bit_is_never_loaded(tmp_path, models_dir, noise):
    path = Path(shutil.copy(models_dir / "face_mesh.onnx", tmp_path))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        LocalRunner(tmp_path).run("face_mesh", noise("face_mesh"))
    assert caught.value.code == "model_hash_mismatch"


def test_threads_that_meet_at_the_first_use_load_the_model_once_and_agree(models_dir, noise, caplog):
    runner = LocalRunner(models_dir)
    inputs = noise("blazeface_short")
    with caplog.at_level("INFO"), ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: runner.run("blazeface_short", inputs)["regressors"], range(8)))
    assert all(np.array_equal(result, results[0]) for result in results)
    assert sum("model blazeface_short on" in record.getMessage() for record in caplog.records) == 1


class SlowToOpen(LocalRunner):
    """Counts its loads, each of which is drawn out by a random moment, so that racing threads meet in it."""

    def __init__(self, models_dir: Path, seed: int) -> None:
        super().__init__(models_dir)
        self.opened: list[str] = []
        self._moments = random.Random(seed)

    def _open(self, card):
        self.opened.append(card.name)
        time.sleep(self._moments.random() * 0.002)
        return super()._open(card)


def test_in_two_hundred_races_no_model_is_loaded_twice_and_every_answer_is_right(models_dir, noise):
    inputs = noise("blazeface_short")
    expected = LocalRunner(models_dir).run("blazeface_short", inputs)["regressors"]
    with ThreadPoolExecutor(4) as pool:
        for seed in range(200):
            runner = SlowToOpen(models_dir, seed)
            start = threading.Barrier(4)

            def race(number: int, runner=runner, start=start):
                start.wait()
                if number == 3:
                    runner.evict(60)  # of what is in use right now: nothing
                return runner.run("blazeface_short", inputs)["regressors"]

            for result in pool.map(race, range(4)):
                np.testing.assert_array_equal(result, expected)
            assert runner.opened == ["blazeface_short"], seed


def test_a_model_that_nobody_used_is_freed_and_one_that_is_pinned_is_not(models_dir, noise):
    runner = LocalRunner(models_dir)
    runner.load("blazeface_short", pin=True)
    runner.run("face_mesh", noise("face_mesh"))
    assert runner.evict(3600) == []
    assert runner.evict(0) == ["face_mesh"]
    assert [model.name for model in runner.loaded()] == ["blazeface_short"]
    assert runner.device("face_mesh") is None
    assert runner.run("face_mesh", noise("face_mesh"))["presence"].shape == (1, 1)


def test_the_memory_of_batches_goes_long_before_the_model(models_dir, noise):
    runner = LocalRunner(models_dir)
    frame = runner.frame("face_mesh", 1)
    runner.release("face_mesh", frame)
    runner.let_go(3600)
    assert runner.frame("face_mesh", 1).memory is frame.memory
    runner.release("face_mesh", frame)
    runner.let_go(0)
    assert runner.frame("face_mesh", 1).memory is not frame.memory
    assert [model.name for model in runner.loaded()] == ["face_mesh"]


def test_a_batch_whose_model_is_freed_meanwhile_still_runs_to_its_end(models_dir, noise):
    runner = LocalRunner(models_dir)
    frame = runner.frame("face_mesh", 1)
    frame.inputs["image"][:1] = noise("face_mesh")["image"]
    assert runner.evict(0) == ["face_mesh"]
    assert runner.execute("face_mesh", frame, 1)["presence"].shape == (1, 1)
    runner.release("face_mesh", frame)


@pytest.mark.parametrize("model", registry.cards())
def test_bound_memory_gives_what_a_plain_run_gives(runner, models_dir, noise, model):
    bound = LocalRunner(models_dir, bind=True)
    for size in (3, 1, 3):
        inputs = noise(model, size, seed=size)
        frame = bound.frame(model, size)
        for name, array in inputs.items():
            frame.inputs[name][:size] = array
        found = bound.execute(model, frame, size)
        for name, expected in runner.run(model, inputs).items():
            np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-5 * max(1.0, np.ptp(expected)))
        bound.release(model, frame)


def test_memory_that_runs_out_in_the_runtime_is_recognised_by_its_words():
    # A graph that asks for 2^50 bytes: the error is the runtime's own.
    shape = onnx.helper.make_tensor("shape", onnx.TensorProto.INT64, [2], [1 << 24, 1 << 24])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Expand", ["x", "shape"], ["y"])],
        "huge",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [shape],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    with pytest.raises(Exception) as caught:
        session.run(None, {"x": np.zeros((1, 1), np.float32)})
    assert is_out_of_memory(str(caught.value))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc((void**)&p, size)", True),
        ("Available memory of 1024 is smaller than requested bytes of 4096", True),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED", True),
        ("std::bad_alloc", True),
        ("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input", False),
    ],
)
def test_only_errors_of_memory_are_taken_for_such(text, expected):
    assert is_out_of_memory(text) is expected


def test_a_graph_with_a_fixed_batch_is_run_singly(models_dir, noise, monkeypatch):
    inputs = noise("face_mesh", 3)
    expected = LocalRunner(models_dir).run("face_mesh", inputs)
    single = replace(registry.card("face_mesh"), batches=False)
    monkeypatch.setattr(registry, "card", lambda name: single)
    for name, array in LocalRunner(models_dir).run("face_mesh", inputs).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-4)


def test_submitting_is_running(runner, noise):
    pending = runner.submit("face_mesh", noise("face_mesh"))
    expected = runner.run("face_mesh", noise("face_mesh"))
    np.testing.assert_array_equal(pending.result()["landmarks"], expected["landmarks"])


@pytest.mark.skipif(not NO_GPU, reason="this machine has an NVIDIA device")
def test_a_required_device_that_is_not_there_is_an_error_and_not_a_silent_fall_back(models_dir):
    runner = LocalRunner(models_dir, providers=ProviderPolicy("require", ("cuda",)))
    with pytest.raises(ModelError) as caught:
        runner.load("blazeface_short")
    assert caught.value.code == "provider_unavailable"


@pytest.mark.skipif(not NO_GPU, reason="this machine has an NVIDIA device")
def test_a_preferred_device_that_is_not_there_is_logged_and_the_device_in_effect_is_told(models_dir, caplog):
    runner = LocalRunner(models_dir, providers=ProviderPolicy("prefer", ("cuda",)))
    assert runner.load("blazeface_short").device == "cpu"
    assert "does not run on cuda" in caplog.text


@pytest.mark.skipif(NO_GPU, reason="needs an NVIDIA device")
def test_a_gpu_answers_as_the_cpu_does_and_counts_the_nodes_it_left_to_it(runner, models_dir, noise):
    gpu = LocalRunner(models_dir, providers=ProviderPolicy("require", ("cuda",)))
    for model in registry.cards():
        assert gpu.load(model).device == "cuda"
        inputs = noise(model, batch=2)
        for name, expected in runner.run(model, inputs).items():
            assert np.abs(gpu.run(model, inputs)[name] - expected).max() < 1e-3 * np.ptp(expected)


@pytest.mark.parametrize("text", ["", "cuda", "prefer", "prefer:", "want:cpu", "prefer:cpu,abacus"])
def test_a_malformed_provider_policy_is_refused(text):
    with pytest.raises(ValueError, match="provider policy"):
        ProviderPolicy.parse(text)


def test_a_provider_policy_is_read_from_its_setting():
    assert ProviderPolicy.parse("prefer:tensorrt, cuda") == ProviderPolicy("prefer", ("tensorrt", "cuda"))


def test_only_one_module_names_a_provider():
    repository = Path(__file__).parents[3]
    rooms = [repository / name for name in ("worker", "webapp", "watermark", "consent")]
    naming = {path.name for room in rooms for path in room.rglob("*.py") if "ExecutionProvider" in path.read_text()}
    assert naming == {"opening.py"}
