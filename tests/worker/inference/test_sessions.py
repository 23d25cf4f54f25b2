"""Models run in this process: only registered files, only fitting tensors, and the device is never a guess."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from worker.inference import registry
from worker.inference.sessions import LocalRunner, ProviderPolicy
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


def test_only_the_sessions_module_names_a_provider():
    repository = Path(__file__).parents[3]
    rooms = [repository / name for name in ("worker", "webapp", "watermark", "consent")]
    naming = {path.name for room in rooms for path in room.rglob("*.py") if "ExecutionProvider" in path.read_text()}
    assert naming == {"sessions.py"}
