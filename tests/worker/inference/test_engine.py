"""One engine serves all jobs of a machine; neither a dying nor a hostile client touches the others, and it heals."""

import multiprocessing
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from worker.inference import client as client_module
from worker.inference import registry, wire
from worker.inference.arena import Arena
from worker.inference.client import EngineClient, connect, ensure_engine, stop_engine
from worker.inference.endpoint import dial, owner
from worker.inference.sessions import LocalRunner
from worker.inference.types import ModelError

REPOSITORY = Path(__file__).parents[3]
SPAWN = multiprocessing.get_context("spawn")


def run_many(path: str, seed: int) -> list[np.ndarray]:
    """The life of one client process: a few runs with inputs of its own."""
    generator = np.random.default_rng(seed)
    with connect(Path(path)) as client:
        return [
            client.run("face_mesh", {"image": generator.random((1, 192, 192, 3), np.float32)})["landmarks"]
            for _ in range(6)
        ]


def ensure_pid(home: str, models: str) -> int:
    with connect(ensure_engine(Path(home), models_dir=Path(models))) as client:
        return int(client.status()["pid"])


def python(code: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, **options)


@pytest.mark.parametrize("model", registry.cards())
def test_a_run_through_the_engine_gives_exactly_what_a_local_run_gives(engine, models_dir, noise, model):
    local = LocalRunner(models_dir)
    with connect(engine) as client:
        for batch in (1, 3):
            inputs = noise(model, batch)
            expected = local.run(model, inputs)
            found = client.run(model, inputs)
            assert set(found) == set(expected)
            for name in expected:
                np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5)


def test_results_belong_to_the_caller_and_do_not_change_with_the_next_run(engine, noise):
    with connect(engine) as client:
        first = client.run("face_descriptor", noise("face_descriptor", seed=1))["embedding"]
        kept = first.copy()
        client.run("face_descriptor", noise("face_descriptor", seed=2))
        np.testing.assert_array_equal(first, kept)


def test_four_client_processes_in_parallel_get_their_own_right_answers(engine, models_dir):
    with ProcessPoolExecutor(4, mp_context=SPAWN) as pool:
        answers = list(pool.map(run_many, [str(engine)] * 4, range(4)))
    local = LocalRunner(models_dir)
    for seed, found in enumerate(answers):
        generator = np.random.default_rng(seed)
        for landmarks in found:
            expected = local.run("face_mesh", {"image": generator.random((1, 192, 192, 3), np.float32)})
            np.testing.assert_allclose(landmarks, expected["landmarks"], rtol=1e-5, atol=1e-4)


def test_threads_that_share_a_client_get_their_own_right_answers(engine, models_dir, noise):
    local = LocalRunner(models_dir)
    with connect(engine) as client, ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda s: client.run("blazeface_short", noise("blazeface_short", 2, s)), range(24)))
    for seed, outputs in enumerate(found):
        expected = local.run("blazeface_short", noise("blazeface_short", 2, seed))
        np.testing.assert_allclose(outputs["regressors"], expected["regressors"], rtol=1e-5, atol=1e-4)


def test_callers_that_start_it_at_once_share_one_engine(home, models_dir, start_engine):
    with ProcessPoolExecutor(4, mp_context=SPAWN) as pool:
        pids = set(pool.map(ensure_pid, [str(home)] * 4, [str(models_dir)] * 4))
    assert len(pids) == 1
    assert pids == {owner(start_engine())}


def test_the_engine_outlives_the_process_that_started_it_and_gets_none_of_its_secrets(home, models_dir, start_engine):
    starter = python(
        "import sys, os, signal; from pathlib import Path; from worker.inference.client import ensure_engine\n"
        "ensure_engine(Path(sys.argv[1]), models_dir=Path(sys.argv[2])); os.killpg(0, signal.SIGKILL)",
        home,
        models_dir,
        start_new_session=True,
        env={**os.environ, "IMPRIMATUR_MASTER_KEY": "do-not-inherit"},
    )
    starter.communicate(timeout=60)
    assert starter.returncode == -signal.SIGKILL
    pid = owner(home / "run" / "engine.sock")
    assert pid is not None
    with connect(start_engine()) as client:
        assert client.status()["pid"] == pid
    assert b"do-not-inherit" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_a_killed_engine_is_a_typed_error_for_the_open_run_and_the_next_caller_gets_a_new_one(
    start_engine, noise, wait_until
):
    path = start_engine()
    client = connect(path)
    pid = client.status()["pid"]
    os.kill(pid, signal.SIGSTOP)  # so that the run is surely open when the engine dies
    errors: list[ModelError] = []

    def run() -> None:
        try:
            client.run("face_mesh", noise("face_mesh"))
        except ModelError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: client._reading)
    os.kill(pid, signal.SIGKILL)
    thread.join(20)
    assert [error.code for error in errors] == ["engine_failed"]
    with pytest.raises(ModelError, match="Start the step again") as caught:
        client.run("face_mesh", noise("face_mesh"))
    assert caught.value.code == "engine_failed"
    client.close()

    with connect(start_engine()) as healed:
        assert healed.status()["pid"] != pid
        assert healed.run("face_mesh", noise("face_mesh"))["landmarks"].shape == (1, 478, 3)


def test_an_engine_that_hangs_is_replaced(start_engine, monkeypatch):
    monkeypatch.setattr(client_module, "HEALTH_SECONDS", 0.5)
    hung = owner(start_engine())
    os.kill(hung, signal.SIGSTOP)
    with connect(start_engine()) as client:
        assert client.status()["pid"] != hung


def test_nobody_listening_is_a_typed_error(home):
    with pytest.raises(ModelError) as caught:
        connect(home / "run" / "engine.sock")
    assert caught.value.code == "engine_unavailable"


def test_a_client_killed_in_the_middle_of_a_run_hurts_nobody(engine, noise, wait_until):
    with connect(engine) as other:
        pid = other.status()["pid"]
        os.kill(pid, signal.SIGSTOP)  # the victim's request waits, so the kill hits in the middle
        victim = python(
            "import sys; import numpy as np; from pathlib import Path; from worker.inference import client, wire\n"
            "from worker.inference.endpoint import dial; from worker.inference.arena import Arena\n"
            "sock = dial(Path(sys.argv[1]), 10); _, fd = Arena.create(1 << 26)\n"
            "wire.send(sock, {'op': 'arena', 'id': 1, 'size': 1 << 26, 'service': 'offline'}, fd)\n"
            "wire.send(sock, {'op': 'run', 'id': 2, 'model': 'face_mesh', 'batch': 32, 'at': 0})\n"
            "print('sent', flush=True); sys.stdin.read()",
            engine,
            stdin=subprocess.PIPE,
        )
        assert victim.stdout is not None
        assert victim.stdout.readline() == "sent\n"
        victim.kill()
        victim.communicate()
        os.kill(pid, signal.SIGCONT)
        assert other.run("face_mesh", noise("face_mesh"))["presence"].shape == (1, 1)
        wait_until(lambda: other.status()["clients"] == 1)
        assert other.status()["pid"] == pid


ARENA = {"op": "arena", "id": 1, "size": 1 << 20, "service": "offline"}
RUN = {"op": "run", "id": 2, "model": "face_mesh", "batch": 1, "at": 0}


def _send_raw(data: bytes):
    return lambda sock: sock.sendall(data)


def _send_headers(*headers: dict[str, object]):
    def act(sock: socket.socket) -> None:
        for header in headers:
            wire.send(sock, header)

    return act


def _with_arena(header: dict[str, object], size: int = 1 << 20, repeat: int = 1):
    def act(sock: socket.socket) -> None:
        _, descriptor = Arena.create(size)
        wire.send(sock, {**ARENA, "size": size}, descriptor)
        os.close(descriptor)
        with suppress(BrokenPipeError):  # refused before all of it was sent
            wire.send_bytes(sock, wire.encode_frame(header) * repeat)

    return act


def _unsealed_arena(sock: socket.socket) -> None:
    descriptor = os.memfd_create("hostile")
    os.ftruncate(descriptor, 1 << 20)
    wire.send(sock, ARENA, descriptor)
    os.close(descriptor)


def _regular_file_as_arena(sock: socket.socket) -> None:
    with Path(__file__).open("rb") as file:
        wire.send(sock, {**ARENA, "size": 4096}, file.fileno())


ATTACKS = {
    "endless header": _send_raw(struct.pack(">I", 0xFFFFFFFF)),
    "not JSON": _send_raw(struct.pack(">I", 4) + b"\xff{}\0"),
    "half a frame": lambda sock: (sock.sendall(b"\0\0"), sock.shutdown(socket.SHUT_WR)),
    "unknown request": _send_headers({"op": "shutdown", "id": 1}),
    "run before arena": _send_headers(RUN),
    "no descriptor": _send_headers(ARENA),
    "unsealed memory": _unsealed_arena,
    "a file as memory": _regular_file_as_arena,
    "unknown model": _with_arena({**RUN, "model": "../../etc/passwd"}),
    "outside the arena": _with_arena({**RUN, "at": (1 << 20) - 64}),
    "before the arena": _with_arena({**RUN, "at": -64}),
    "between two numbers": _with_arena({**RUN, "at": 2}),
    "batch too large": _with_arena({**RUN, "batch": 1 << 40}),
    "second arena": _with_arena({**ARENA, "id": 2}),
    "no class of service": _with_arena({**ARENA, "id": 2, "service": "now"}),
    # Many times as many, for some end while others are read.
    "more open runs than allowed": _with_arena({**RUN, "batch": 1}, repeat=32 * wire.MAX_OPEN),
}


def test_a_hostile_client_is_cut_off_and_the_others_do_not_notice(engine, noise, wait_until):
    with connect(engine) as other:
        expected = other.run("face_mesh", noise("face_mesh"))["landmarks"]
        pid = other.status()["pid"]
        for name, attack in ATTACKS.items():
            with dial(engine, 10.0) as sock:
                attack(sock)
                reader = wire.FrameReader(sock)
                while (answer := reader.read()) is not None and answer["ok"]:
                    pass  # an arena that was still in order
                assert (answer or {}).get("code") == "input_invalid", name
                with suppress(ConnectionResetError):  # how it ends where something sent was not read any more
                    assert sock.recv(1) == b"", name
            np.testing.assert_array_equal(other.run("face_mesh", noise("face_mesh"))["landmarks"], expected)
        wait_until(lambda: other.status()["clients"] == 1)
        assert other.status()["pid"] == pid


def test_a_client_cannot_shrink_its_memory_under_a_run(engine, noise):
    with dial(engine, 10.0) as sock:
        _, descriptor = Arena.create(1 << 20)
        wire.send(sock, ARENA, descriptor)
        assert wire.receive(sock)["ok"]
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)
        os.close(descriptor)


def test_a_socket_handed_down_is_all_a_child_process_needs(engine, noise):
    sock = dial(engine, 10.0)
    child = python(
        "import sys, socket; import numpy as np; from worker.inference.client import EngineClient\n"
        "client = EngineClient.from_socket(socket.socket(fileno=int(sys.argv[1])))\n"
        "image = np.random.default_rng(0).random((1, 192, 192, 3), np.float32)\n"
        "print(float(client.run('face_mesh', {'image': image})['landmarks'].sum()))\n"
        "assert 'onnxruntime' not in sys.modules and 'django' not in sys.modules",
        sock.fileno(),
        pass_fds=[sock.fileno()],
    )
    sock.close()
    printed, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    with connect(engine) as client:
        assert float(printed) == pytest.approx(client.run("face_mesh", noise("face_mesh"))["landmarks"].sum(), rel=1e-4)


def test_the_status_tells_what_is_loaded_and_how_often_it_ran(engine, noise):
    with connect(engine) as client:
        assert client.status()["providers"] == []
        client.run("face_mesh", noise("face_mesh", 3))
        client.run("face_mesh", noise("face_mesh", 2))
        status = client.status()
    assert status["providers"] == ["cpu"]
    assert status["model_set"] == registry.model_set_id()
    (model,) = status["models"]
    assert (model["name"], model["runs"], model["items"], model["cpu_fallback_nodes"]) == ("face_mesh", 2, 5, 0)


def test_models_that_are_preloaded_are_there_before_the_first_client_and_stay(start_engine, noise, wait_until):
    path = start_engine(options=("--preload", "face_mesh,blazeface_short", "--unload-after", "0.2"))
    with connect(path) as client:
        assert [model["name"] for model in client.status()["models"]] == ["face_mesh", "blazeface_short"]
        client.run("face_descriptor", noise("face_descriptor"))
        wait_until(lambda: len(client.status()["models"]) == 2)
        assert [model["name"] for model in client.status()["models"]] == ["face_mesh", "blazeface_short"]
        assert client.run("face_descriptor", noise("face_descriptor"))["embedding"].shape == (1, 128)


def test_the_status_has_what_a_metrics_page_needs(engine, noise):
    with connect(engine, "offline") as client:
        for _ in range(3):
            client.run("blazeface_short", noise("blazeface_short"))
        status = client.status()
    assert status["device"] == "cpu"
    assert status["queues"] == {"interactive": {}, "offline": {}}
    (model,) = status["models"]
    assert model["batches"] == {"1": 3}
    assert model["latency_ms"]["1"] > 0
    assert model["largest_batch"] == registry.MAX_BATCH
    lane = status["lanes"]["cpu"]
    assert lane["in_flight"] == 0
    assert lane["busy_seconds"] > 0
    assert 0 < lane["busy_share"] <= 1


def test_an_engine_that_starts_again_finds_its_graphs(start_engine, home, noise):
    graphs = home / "cache" / "graphs"
    with connect(start_engine()) as client:
        client.run("face_mesh", noise("face_mesh"))
    (graph,) = graphs.iterdir()
    made = graph.stat().st_ino
    stop_engine(home)
    with connect(start_engine()) as client:
        client.run("face_mesh", noise("face_mesh"))
    assert [path.stat().st_ino for path in graphs.iterdir()] == [made]


def test_a_model_error_of_the_engine_reaches_the_caller_with_its_code_and_the_connection_lives(
    start_engine, tmp_path, noise
):
    with connect(start_engine(models_dir=tmp_path / "empty")) as client:
        for _ in range(2):
            with pytest.raises(ModelError, match="models build") as caught:
                client.run("face_mesh", noise("face_mesh"))
            assert caught.value.code == "model_missing"
        assert client.status()["failures"] == 2


def test_an_engine_without_clients_ends_after_its_idle_time(start_engine, wait_until):
    path = start_engine(idle_exit=0.3)
    with connect(path) as client:
        pid = client.status()["pid"]
    wait_until(lambda: owner(path) is None)
    assert not path.exists()
    with connect(start_engine()) as client:
        assert client.status()["pid"] != pid


def test_stopping_lets_the_engine_go_and_stopping_again_is_nothing(home, engine):
    assert owner(engine) is not None
    stop_engine(home)
    assert owner(engine) is None
    stop_engine(home)


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has an NVIDIA device")
def test_an_engine_whose_required_device_is_missing_does_not_start(start_engine):
    with pytest.raises(ModelError) as caught:
        start_engine(providers="require:cuda")
    assert caught.value.code == "provider_unavailable"


def test_a_home_folder_deeper_than_a_socket_address_works(tmp_path, models_dir):
    home = tmp_path / ("deep" * 20) / ("folder" * 10)
    home.mkdir(parents=True)
    try:
        with connect(ensure_engine(home, models_dir=models_dir)) as client:
            assert client.status()["clients"] >= 1
    finally:
        stop_engine(home)


def test_the_socket_and_its_folder_are_for_this_user_only(engine):
    assert engine.stat().st_mode & 0o777 == 0o600
    assert engine.parent.stat().st_mode & 0o777 == 0o700


def test_the_log_tells_of_the_start_and_of_refused_clients(home, engine, wait_until):
    with dial(engine, 10.0) as sock:
        wire.send(sock, {"op": "nonsense", "id": 1})
        answer = wire.receive(sock)
    assert answer is not None
    assert answer["message"] == "Refused: not a known request."
    log = home / "logs" / "engine.log"
    wait_until(lambda: "refused" in log.read_text())
    assert "engine ready" in log.read_text()


def test_a_client_object_after_close_refuses_to_run(engine, noise):
    client: EngineClient = connect(engine)
    client.close()
    with pytest.raises(ModelError) as caught:
        client.run("face_mesh", noise("face_mesh"))
    assert caught.value.code == "engine_failed"
