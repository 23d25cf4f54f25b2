"""The pretend device takes the time its table says, one run after the other, and nobody gets it without asking."""

import math

import numpy as np
import pytest

from worker.inference import registry
from worker.inference.client import connect, stop_engine
from worker.inference.engine import main
from worker.inference.pretend import PretendDevice, PretendModel, made_from, read_table
from worker.inference.sessions import ProviderPolicy
from worker.inference.types import ModelError, OutOfMemoryError

TABLE = """
[models.face_mesh]
milliseconds = {1 = 15.7, 8 = 28.0}
largest_batch = 16

[default]
milliseconds = {1 = 1.0, 32 = 4.0}
"""


class PretendClock:
    """Time that passes only by sleeping, and by one hundredth too much."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += 1.01 * seconds


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "device.toml"
    path.write_text(TABLE)
    return path


@pytest.fixture
def clock() -> PretendClock:
    return PretendClock()


@pytest.fixture
def device(table, clock) -> PretendDevice:
    device = PretendDevice(read_table(table), clock=clock, sleep=clock.sleep)
    device.load("face_mesh")
    return device


def run(device: PretendDevice, size: int, seed: int = 0) -> dict[str, np.ndarray]:
    frame = device.frame("face_mesh", size)
    for array in frame.inputs.values():
        array[:size] = np.random.default_rng(seed).random(array[:size].shape, np.float32)
    outputs = {name: array.copy() for name, array in device.execute("face_mesh", frame, size).items()}
    device.release("face_mesh", frame)
    return outputs


def test_a_batch_takes_what_the_table_says_and_between_its_sizes_what_lies_between(table):
    mesh = read_table(table)["face_mesh"]
    assert mesh.seconds(1) == pytest.approx(0.0157)
    assert mesh.seconds(8) == pytest.approx(0.0280)
    assert mesh.seconds(4) == pytest.approx(0.0157 + 3 * 0.0123 / 7)
    assert mesh.seconds(15) == pytest.approx(0.0280 + 0.0123)
    assert read_table(table)["face_descriptor"].seconds(32) == pytest.approx(0.004)
    assert PretendModel({2: 10.0}).seconds(3) == pytest.approx(0.015)


def test_a_run_ends_no_sooner_than_its_time_and_being_late_costs_the_device_nothing(device, clock):
    start = clock()
    for _ in range(5):
        run(device, 8)
    assert clock() - start >= 5 * 0.028
    status = device.status()
    assert status["runs"] == 5
    assert status["busy_seconds"] == pytest.approx(5 * 0.028)
    assert status["late_seconds"] == pytest.approx(5 * 0.00028)


def test_a_run_handed_in_while_another_is_on_follows_it_without_a_gap(device, clock):
    start = clock()
    ends = []
    inner = clock.sleep

    def hand_in_another(seconds: float) -> None:
        device._sleep = inner
        run(device, 1)  # as another thread would, at the moment this one falls asleep
        ends.append(clock())

    device._sleep = hand_in_another
    run(device, 8)
    assert ends[0] - start == pytest.approx(1.01 * (0.028 + 0.0157))


def test_outputs_have_the_contracts_shape_and_follow_from_the_inputs_of_their_own_item(device):
    outputs = run(device, 3, seed=5)
    image = np.random.default_rng(5).random((3, 192, 192, 3), np.float32)
    for name, shape in registry.card("face_mesh").contract.outputs.items():
        assert outputs[name].shape == (3, *shape)
        for index in range(3):
            np.testing.assert_array_equal(outputs[name][index], np.full(shape, made_from(image)[index]))
    assert len(set(made_from(image).tolist())) == 3


def test_constant_outputs_come_from_a_file_beside_the_table(tmp_path, clock):
    shapes = registry.card("face_mesh").contract.outputs
    constants = {name: np.random.default_rng(2).random(shape, np.float32) for name, shape in shapes.items()}
    np.savez(tmp_path / "mesh.npz", **constants)
    path = tmp_path / "device.toml"
    path.write_text('[models.face_mesh]\nmilliseconds = {1 = 1}\noutputs = "mesh.npz"\n')
    device = PretendDevice(read_table(path), clock=clock, sleep=clock.sleep)
    device.load("face_mesh")
    for name, array in run(device, 2).items():
        np.testing.assert_array_equal(array, np.stack([constants[name]] * 2))


def test_a_batch_larger_than_the_table_allows_runs_out_of_memory(device):
    frame = device.frame("face_mesh", 17)
    with pytest.raises(OutOfMemoryError):
        device.execute("face_mesh", frame, 17)


def test_a_model_the_table_does_not_have_is_missing(clock):
    device = PretendDevice({}, clock=clock, sleep=clock.sleep)
    with pytest.raises(ModelError) as caught:
        device.load("face_mesh")
    assert caught.value.code == "model_missing"


@pytest.mark.parametrize(
    "text",
    [
        "milliseconds = 3",
        "[models.nothing]\nmilliseconds = {1 = 1}",
        "[models.face_mesh]\nmilliseconds = {}",
        "[models.face_mesh]\nmilliseconds = {0 = 1}",
        "[models.face_mesh]\nmilliseconds = {1 = -1}",
        "[models.face_mesh]\nmilliseconds = {1 = 1}\nspeed = 3",
        "[models",
    ],
)
def test_a_table_that_says_something_else_is_refused(tmp_path, text):
    path = tmp_path / "device.toml"
    path.write_text(text)
    with pytest.raises(ValueError):
        read_table(path)


@pytest.mark.parametrize("text", ["pretend", "prefer:pretend", "require:pretend", "prefer:cpu,pretend"])
def test_no_provider_setting_can_choose_the_pretend_device(text):
    with pytest.raises(ValueError, match="provider policy"):
        ProviderPolicy.parse(text)


def test_the_environment_cannot_choose_it_either(start_engine, monkeypatch):
    monkeypatch.setenv("IMPRIMATUR_PROVIDERS", "pretend")
    with pytest.raises(ModelError) as caught:
        start_engine(providers=None)
    assert caught.value.code == "engine_unavailable"


def test_it_cannot_be_asked_for_beside_a_real_provider(tmp_path, table, models_dir):
    with pytest.raises(SystemExit):
        main(
            [
                "--socket",
                str(tmp_path / "s"),
                "--models",
                str(models_dir),
                "--providers",
                "auto",
                "--pretend",
                str(table),
            ]
        )


def test_a_pretending_engine_is_never_taken_for_a_real_one_nor_the_other_way_round(start_engine, table, home):
    start_engine(pretend=table)
    with pytest.raises(ModelError, match="pretend") as caught:
        start_engine()
    assert caught.value.code == "engine_unavailable"
    stop_engine(home)
    start_engine()
    with pytest.raises(ModelError, match="pretend"):
        start_engine(pretend=table)


def test_the_status_of_a_pretending_engine_says_so_everywhere(start_engine, table, noise, home):
    with connect(start_engine(pretend=table)) as client:
        client.run("face_mesh", noise("face_mesh"))
        status = client.status()
    assert status["device"] == "pretend"
    assert status["model_set"] == "pretend"
    assert status["providers"] == ["pretend"]
    assert status["pretend"]["runs"] == 1
    assert math.isclose(status["pretend"]["busy_seconds"], 0.0157)
    assert "PRETENDING" in (home / "logs" / "engine.log").read_text()
