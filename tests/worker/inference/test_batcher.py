"""The batcher on real sessions and on the pretend device: right results, fair turns, a device that is kept busy."""

import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from itertools import accumulate

import numpy as np
import pytest

from worker.inference import registry
from worker.inference.batcher import Batcher
from worker.inference.lane import Lane, LaneShape
from worker.inference.pretend import PretendDevice, PretendModel, made_from
from worker.inference.sessions import LocalRunner
from worker.inference.types import ModelError
from worker.inference.work_queues import Work

WAIT = 60.0


class Run:
    """One request to a batcher, with arrays of its own, and its end."""

    def __init__(self, inputs: Mapping[str, np.ndarray], model: str, client: object = "ada", service="offline") -> None:
        card = registry.card(model)
        count = len(next(iter(inputs.values())))
        self.outputs = {n: np.full((count, *s), np.nan, np.float32) for n, s in card.contract.outputs.items()}
        self.ends: list[ModelError | None] = []
        self.ended = threading.Event()
        self.work = Work(client, service, model, count, inputs, self.outputs, self._done)

    def _done(self, error: ModelError | None) -> None:
        self.ends.append(error)
        self.ended.set()

    def wait(self) -> "Run":
        assert self.ended.wait(WAIT), "it never ended"
        return self


class Gate:
    """The clock of a pretend device that stands still, with all its runs, until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert self.opened.wait(WAIT)
        self.now += seconds


def held(gate: Gate, *models: str) -> PretendDevice:
    """A pretend device that stands still, with these models loaded."""
    device = PretendDevice({model: PretendModel({1: 1.0}) for model in models}, clock=gate, sleep=gate.sleep)
    for model in models:
        device.load(model)
    return device


@pytest.fixture
def batcher_of():
    made = []

    def make(executor, clock=time.monotonic) -> Batcher:
        made.append(Batcher(executor, clock))
        return made[-1]

    yield make
    for batcher in made:
        batcher.close()


def closed_by(batcher: Batcher) -> list[list[Work]]:
    """The batches, each with the work of every item, in the order in which the batcher closes them.

    When results are handed out depends on which of its threads the machine lets run.
    """
    order: list[list[Work]] = []
    begin = batcher._begin

    def recorded(lane, service, model, pieces, now):
        order.append([piece.work for piece in pieces for _ in range(piece.count)])
        return begin(lane, service, model, pieces, now)

    batcher._begin = recorded
    return order


def pretend(**milliseconds: Mapping[int, float]) -> PretendDevice:
    return PretendDevice({model: PretendModel(table) for model, table in milliseconds.items()})


@pytest.mark.parametrize("model", registry.cards())
def test_items_of_many_requests_in_one_batch_answer_as_each_does_alone(models_dir, noise, batcher_of, model):
    alone = LocalRunner(models_dir)
    batcher = batcher_of(LocalRunner(models_dir, slots=1))
    policy = batcher._policy(model)
    for size in (1, 2, 4, 8, 16):  # what a GPU would have measured, so that batches are made at all
        for _ in range(3):
            policy.ran(size, 0.010 + 0.0001 * size)
    runs = [Run(noise(model, batch, seed), model, seed % 3) for seed, batch in enumerate((1, 2, 1, 5, 1, 1, 3))]
    for run in runs:
        batcher.submit(run.work)
    for run in runs:
        assert run.wait().ends == [None]
        for index in range(run.work.count):
            expected = alone.run(model, {name: array[index : index + 1] for name, array in run.work.inputs.items()})
            for name, array in expected.items():
                assert np.abs(run.outputs[name][index] - array[0]).max() <= 1e-4 * max(1.0, np.ptp(array))
    assert max(int(size) for size in batcher.model_status(model)["batches"]) > 1


@pytest.mark.parametrize("seed", range(8))
def test_with_random_delays_every_item_is_answered_once_with_its_own_result(batcher_of, seed):
    generator = random.Random(seed)
    batcher = batcher_of(pretend(face_mesh={1: 0.3, 8: 0.6}, blazeface_short={1: 0.1, 32: 0.2}))
    runs: list[Run] = []

    def client(number: int) -> None:
        own = random.Random((seed, number).__hash__())
        for _ in range(12):
            model = own.choice(["face_mesh", "blazeface_short"])
            shape = registry.card(model).contract.inputs["image"]
            image = np.random.default_rng(own.randrange(1 << 30)).random((own.randint(1, 6), *shape), np.float32)
            run = Run({"image": image}, model, number, own.choice(["interactive", "offline"]))
            runs.append(run)
            batcher.submit(run.work, inline=own.random() < 0.3)
            time.sleep(own.random() * 0.002)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(generator.randint(2, 4))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for run in runs:
        assert run.wait().ends == [None]
        expected = made_from(run.work.inputs["image"])
        for array in run.outputs.values():
            np.testing.assert_array_equal(
                array.reshape(len(array), -1).T, np.broadcast_to(expected, array.reshape(len(array), -1).T.shape)
            )
    assert not batcher.busy
    status = [batcher.model_status(model) for model in ("face_mesh", "blazeface_short")]
    assert sum(one["items"] for one in status) == sum(run.work.count for run in runs)
    assert sum(one["runs"] for one in status) == len(runs)
    assert sum(int(size) * n for one in status for size, n in one["batches"].items()) == sum(r.work.count for r in runs)


def test_memory_that_runs_out_halves_the_batch_and_is_remembered(batcher_of, noise):
    device = PretendDevice({"blazeface_short": PretendModel({1: 1.0, 32: 2.0}, largest_batch=5)})
    batcher = batcher_of(device)
    policy = batcher._policy("blazeface_short")
    for size in (1, 2, 4, 8, 16, 32):
        for _ in range(3):
            policy.ran(size, 0.010 + 0.0001 * size)
    runs = [Run(noise("blazeface_short", 32, seed), "blazeface_short") for seed in range(2)]
    for run in runs:
        batcher.submit(run.work)
    for run in runs:
        assert run.wait().ends == [None]
        found = run.outputs["classificators"][:, 0, 0]
        np.testing.assert_array_equal(found, made_from(run.work.inputs["image"]))
    status = batcher.model_status("blazeface_short")
    assert status["largest_batch"] <= 5
    assert max(map(int, status["batches"])) <= 5
    assert status["items"] == 64


def test_a_model_that_has_no_room_for_a_single_item_is_an_error_and_the_next_request_is_tried_again(batcher_of, noise):
    batcher = batcher_of(PretendDevice({"blazeface_short": PretendModel({1: 1.0}, largest_batch=0)}))
    for _ in range(2):
        run = Run(noise("blazeface_short", 3), "blazeface_short")
        batcher.submit(run.work)
        (error,) = run.wait().ends
        assert error.code == "engine_failed"
        assert "no room" in error.message
    assert batcher.status()["failures"] == 2
    assert not batcher.busy


class Choosy(PretendDevice):
    """A device whose runs fail while an item of a certain kind is in the batch, as a graph may on strange numbers."""

    def execute(self, model, frame, size):
        if (frame.inputs["image"][:size].reshape(size, -1)[:, 0] < 0).any():
            raise ModelError("engine_failed", "strange numbers")
        return super().execute(model, frame, size)


def test_only_the_client_whose_item_makes_a_batch_fail_is_told_of_it(batcher_of, noise):
    batcher = batcher_of(Choosy({"blazeface_short": PretendModel({1: 5.0, 32: 6.0})}))
    policy = batcher._policy("blazeface_short")
    for size in (1, 2, 4, 8, 16, 32):
        for _ in range(3):
            policy.ran(size, 0.010 + 0.0001 * size)
    runs = [Run(noise("blazeface_short", 2, seed), "blazeface_short", seed) for seed in range(5)]
    runs[3].work.inputs["image"][1] = -1.0
    for run in runs:
        batcher.submit(run.work)
    codes = [run.wait().ends[0] and run.ends[0].code for run in runs]
    assert codes == [None, None, None, "engine_failed", None]


def test_a_model_that_cannot_be_loaded_fails_all_that_waits_for_it_and_nothing_else(batcher_of, noise):
    batcher = batcher_of(pretend(blazeface_short={1: 1.0}))
    bad = [Run(noise("face_mesh", seed=seed), "face_mesh", seed) for seed in range(3)]
    good = Run(noise("blazeface_short"), "blazeface_short")
    for run in [*bad, good]:
        batcher.submit(run.work)
    assert good.wait().ends == [None]
    assert [run.wait().ends[0].code for run in bad] == ["model_missing"] * 3


def test_what_a_client_that_left_had_queued_is_not_run(batcher_of, noise):
    gate = Gate()
    device = held(gate, "blazeface_short", "face_mesh")
    batcher = batcher_of(device)
    left = [Run(noise("blazeface_short", seed=seed), "blazeface_short", "gone") for seed in range(40)]
    for run in left:
        batcher.submit(run.work)
    batcher.forget("gone")
    other = Run(noise("face_mesh"), "face_mesh", "ada")
    batcher.submit(other.work)
    gate.opened.set()
    assert other.wait().ends == [None]
    assert device.status()["runs"] <= 3  # two may have been in flight
    assert batcher.status()["queues"] == {"interactive": {}, "offline": {}}


def test_an_item_of_a_photo_does_not_wait_behind_the_queue_of_a_video(batcher_of, noise):
    gate = Gate()
    batcher = batcher_of(held(gate, "blazeface_short", "face_mesh"), gate)
    video = [Run(noise("blazeface_short", seed=seed), "blazeface_short", "video") for seed in range(30)]
    photo = Run(noise("face_mesh"), "face_mesh", "photo", "interactive")
    batches = closed_by(batcher)
    for run in [*video, photo]:
        batcher.submit(run.work)
    gate.opened.set()
    photo.wait()
    assert [work for batch in batches for work in batch].index(
        photo.work
    ) <= 3  # two were in flight, one may have been closed behind them


def test_a_stream_of_photos_does_not_stop_a_video(batcher_of, noise):
    gate = Gate()
    batcher = batcher_of(held(gate, "blazeface_short", "face_mesh"), gate)
    batches = closed_by(batcher)
    runs = [Run(noise("face_mesh", seed=seed), "face_mesh", seed, "interactive") for seed in range(60)]
    runs += [Run(noise("blazeface_short", seed=seed), "blazeface_short", "video") for seed in range(5)]
    for run in runs:
        batcher.submit(run.work)
    gate.opened.set()
    for run in runs:
        run.wait()
    order = [work.service for batch in batches for work in batch]
    assert order.index("offline") < 8
    assert max(index for index, service in enumerate(order) if service == "offline") < 40


def test_four_clients_with_unlike_appetites_get_alike_shares_of_a_busy_device(batcher_of, noise):
    gate = Gate()
    batcher = batcher_of(held(gate, "blazeface_short"), gate)
    batches = closed_by(batcher)
    runs = [
        Run(noise("blazeface_short", seed=seed), "blazeface_short", client)
        for client, depth in enumerate((40, 20, 20, 20))
        for seed in range(depth)
    ]
    for run in runs:
        batcher.submit(run.work)
    gate.opened.set()
    for run in runs:
        run.wait()
    ends = accumulate(len(batch) for batch in batches)
    whole = [batch for batch, end in zip(batches, ends, strict=True) if end <= 60]
    assert sum(len(batch) for batch in whole) > 28  # a batch holds at most 32
    shares = Counter(work.client for batch in whole for work in batch)
    assert max(shares.values()) - min(shares.values()) <= 4


def test_two_batches_are_in_flight_and_no_third(batcher_of, noise, wait_until):
    gate = Gate()
    batcher = batcher_of(held(gate, "blazeface_short"))
    runs = [Run(noise("blazeface_short", seed=seed), "blazeface_short") for seed in range(9)]
    for run in runs:
        batcher.submit(run.work)
    wait_until(lambda: batcher.status()["lanes"]["pretend"]["in_flight"] == 2)
    assert batcher.status()["queues"]["offline"] == {"blazeface_short": 7}
    gate.opened.set()
    for run in runs:
        assert run.wait().ends == [None]


def test_a_deep_queue_of_a_device_that_gains_from_batches_is_run_in_large_ones(batcher_of, noise):
    device = pretend(face_mesh={1: 15.7, 8: 28.0})
    device.load("face_mesh")
    batcher = batcher_of(device)
    runs = [Run(noise("face_mesh", 4, seed), "face_mesh", seed % 2) for seed in range(40)]
    for run in runs:
        batcher.submit(run.work)
    for run in runs:
        run.wait()
    batches = {int(size): n for size, n in batcher.model_status("face_mesh")["batches"].items()}
    assert max(batches) >= 8
    assert sum(size * n for size, n in batches.items()) == 160


def test_a_lane_counts_only_the_seconds_its_device_worked():
    lane = Lane(LaneShape(2, serial=True), threading.Lock())
    first, second = [1], [2]
    lane.begin(first, 0.010, 5.0)
    lane.begin(second, 0.010, 5.002)
    assert lane.free_in(5.004) == pytest.approx(0.016)
    assert not lane.room
    assert lane.computed(5.001, 5.011) == pytest.approx(0.010)
    lane.end(first, 5.011)
    assert lane.free_in(5.011) == pytest.approx(0.010)
    assert lane.computed(5.003, 5.021) == pytest.approx(0.010)  # it waited for the first until 5.011
    lane.end(second, 5.021)
    assert lane.free_in(5.03) == 0
    status = lane.status(5.04)
    assert status["busy_seconds"] == pytest.approx(0.020)
    assert status["busy_share"] == pytest.approx(0.5)
