"""Many runs open on one connection: answered by number in any order, bounded, and harmless whoever sends them."""

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from worker.inference import connection, registry, wire
from worker.inference.arena import Arena
from worker.inference.client import connect
from worker.inference.endpoint import dial
from worker.inference.pretend import made_from
from worker.inference.types import ModelError

MODELS = tuple(registry.cards())


@pytest.fixture
def pretending(start_engine, tmp_path):
    """An engine of a pretend device: fast, and every answer tells whose it is."""
    table = tmp_path / "device.toml"
    table.write_text(
        "[default]\nmilliseconds = {1 = 0.3, 32 = 1.0}\n[models.face_descriptor]\nmilliseconds = {1 = 40.0}\n"
    )
    return start_engine(pretend=table)


def check(inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> None:
    expected = made_from(inputs["image"])
    for array in outputs.values():
        for index, value in enumerate(expected):
            assert (array[index] == value).all()


def test_runs_handed_in_together_answer_each_with_its_own_whatever_the_order(pretending, noise):
    generator = random.Random(4)
    with connect(pretending, "offline") as client:
        handed_in = []
        for seed in range(300):  # more than may be open at once
            inputs = noise(generator.choice(MODELS[:3]), generator.randint(1, 5), seed)
            shape = inputs["image"].shape[1:]
            model = next(m for m in MODELS[:3] if registry.card(m).contract.inputs["image"] == shape)
            handed_in.append((inputs, client.submit(model, inputs)))
        generator.shuffle(handed_in)
        for inputs, pending in handed_in:
            check(inputs, pending.result())
        assert client.status()["queues"] == {"interactive": {}, "offline": {}}


def test_a_quick_run_overtakes_a_slow_one_that_was_handed_in_before(pretending, noise):
    order = []
    with connect(pretending) as client, ThreadPoolExecutor(2) as pool:
        slow = [client.submit("face_descriptor", noise("face_descriptor", seed=seed)) for seed in range(12)]
        quick = client.submit("face_mesh", noise("face_mesh"))
        waits = [
            pool.submit(lambda p=p, name=name: (p.result(), order.append(name)))
            for p, name in ((slow[-1], "slow"), (quick, "quick"))
        ]
        for wait in waits:
            wait.result()
    assert order == ["quick", "slow"]


def test_inputs_may_be_changed_as_soon_as_they_were_handed_in(pretending, noise):
    with connect(pretending) as client:
        inputs = noise("face_mesh", 4)
        kept = {"image": inputs["image"].copy()}
        pending = client.submit("face_mesh", inputs)
        inputs["image"][:] = 0
        check(kept, pending.result())


def test_a_result_may_be_asked_for_again_and_is_the_same(pretending, noise):
    with connect(pretending) as client:
        pending = client.submit("face_mesh", noise("face_mesh"))
        assert pending.result() is pending.result()


def test_more_than_the_shared_memory_holds_may_be_handed_in_by_one_thread_that_asks_for_nothing_yet(
    pretending, noise, monkeypatch
):
    monkeypatch.setattr(connection, "ARENA_SIZE", 4 << 20)
    with connect(pretending, "offline") as client:
        pairs = [(i, client.submit("face_mesh", i)) for i in (noise("face_mesh", 3, seed) for seed in range(40))]
        for inputs, pending in pairs:
            check(inputs, pending.result())
        client._allocator.take(4 << 20)  # all of it came back


def test_threads_that_share_a_client_and_hand_in_many_each_get_their_own(pretending, noise):
    def life(number: int) -> None:
        generator = random.Random(number)
        open_runs = []
        for step in range(40):
            inputs = noise("blazeface_short", generator.randint(1, 3), 1000 * number + step)
            open_runs.append((inputs, client.submit("blazeface_short", inputs)))
            if generator.random() < 0.4:
                given, pending = open_runs.pop(generator.randrange(len(open_runs)))
                check(given, pending.result())
        for given, pending in open_runs:
            check(given, pending.result())

    with connect(pretending, "offline") as client, ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(life, number) for number in range(4)]:
            done.result()


def test_a_run_that_fails_is_told_to_its_own_caller_only(start_engine, tmp_path, noise):
    table = tmp_path / "device.toml"
    table.write_text("[models.face_mesh]\nmilliseconds = {1 = 1.0}\n")
    with connect(start_engine(pretend=table)) as client:
        bad = client.submit("blazeface_short", noise("blazeface_short"))
        good = client.submit("face_mesh", noise("face_mesh"))
        for _ in range(2):
            with pytest.raises(ModelError) as caught:
                bad.result()
            assert caught.value.code == "model_missing"
        check(noise("face_mesh"), good.result())


def test_every_open_run_of_an_engine_that_dies_is_a_typed_error(pretending, noise):
    client = connect(pretending, "offline")
    pid = client.status()["pid"]
    pending = [client.submit("face_descriptor", noise("face_descriptor", seed=seed)) for seed in range(12)]
    os.kill(pid, 9)
    codes = []
    for run in pending[1:]:
        with pytest.raises(ModelError) as caught:
            run.result()
        codes.append(caught.value.code)
    assert set(codes) == {"engine_failed"}
    client.close()


def hostile(path, service: str = "offline"):
    sock = dial(path, 10.0)
    _, descriptor = Arena.create(1 << 20)
    wire.send(sock, {"op": "arena", "id": 1, "size": 1 << 20, "service": service}, descriptor)
    os.close(descriptor)
    assert wire.receive(sock) == {"id": 1, "ok": True}
    return sock


def test_a_client_that_never_takes_its_answers_is_cut_off_and_holds_nobody_up(pretending, noise, wait_until):
    with connect(pretending) as other, hostile(pretending) as sock:
        sock.settimeout(0.2)
        sent = 0
        try:
            while sent < 20_000:
                wire.send(sock, {"op": "status", "id": 7})
                sent += 1
        except OSError:
            pass  # cut off
        assert sent < 20_000
        check(noise("face_mesh"), other.run("face_mesh", noise("face_mesh")))
        wait_until(lambda: other.status()["clients"] == 1)


def test_more_open_runs_than_allowed_end_the_connection_and_what_was_queued_is_dropped(pretending, noise, wait_until):
    with connect(pretending) as other, hostile(pretending) as sock:
        run = {"op": "run", "id": 2, "model": "face_descriptor", "batch": 1, "at": 0}  # 40 ms each
        sock.sendall(wire.encode_frame(run) * (wire.MAX_OPEN + 60))
        wait_until(lambda: other.status()["clients"] == 1)
        check(noise("face_mesh"), other.run("face_mesh", noise("face_mesh")))
        wait_until(lambda: other.status()["queues"] == {"interactive": {}, "offline": {}})


def test_the_class_of_service_is_that_of_the_connection(pretending, noise):
    with connect(pretending, "interactive") as photo, connect(pretending, "offline") as video:
        for client, mine, others in ((photo, "interactive", "offline"), (video, "offline", "interactive")):
            client.run("face_descriptor", noise("face_descriptor"))  # loaded, and its time is known
            runs = [client.submit("face_descriptor", noise("face_descriptor", 20)) for _ in range(3)]
            queues = client.status()["queues"]  # asked on the same connection, so behind its runs
            assert queues[mine]["face_descriptor"] > 0
            assert queues[others] == {}
            for run in runs:
                run.result()


def test_a_client_that_waits_for_each_run_is_served_by_its_own_thread(pretending, noise):
    with connect(pretending) as client:
        for seed in range(30):
            check(noise("face_mesh", 1, seed), client.run("face_mesh", noise("face_mesh", 1, seed)))
        threads = [t for t in threading.enumerate() if "client" in t.name]
        assert threads == []  # and the client itself needs no thread
        assert client.status()["models"][0]["runs"] == 30
