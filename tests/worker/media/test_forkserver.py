"""The fork server: one process per caller, no media in it, nothing left of a call, and gone with its caller."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.worker.processes import ends
from worker.media import forkserver
from worker.media.errors import MediaError
from worker.media.forkserver import ForkServer
from worker.media.sandbox import Child, call

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Return a function that runs a piece of code in a child of a fork server of this test's own."""
    (tmp_path / "tests_forked.py").write_text(
        "def run(payload, channel):\n"
        "    scope = {'payload': payload, 'channel': channel}\n"
        "    exec(payload['code'], scope)\n"
        "    return scope.get('result', {})\n"
    )
    monkeypatch.setattr(forkserver, "SERVER", ForkServer([tmp_path]))

    def start(body: str, **options: object) -> dict:
        options.setdefault("reads", [tmp_path])
        return call("tests_forked:run", {"code": body}, timeout=30, **options)  # type: ignore[arg-type]

    return start


def test_two_calls_have_one_parent_and_are_two_processes(run):
    where = "import os; result = {'parent': os.getppid(), 'own': os.getpid(), 'leads': os.getpgid(0) == os.getpid()}"
    first, second = run(where), run(where)
    assert first["parent"] == second["parent"] != os.getpid()
    assert first["own"] != second["own"]
    assert first["leads"]
    assert second["leads"]


def test_what_one_call_leaves_behind_in_memory_is_not_there_in_the_next(run):
    run("import json; json.planted = 'a face'")
    assert run("import json; result = {'planted': hasattr(json, 'planted')}") == {"planted": False}


def test_a_child_keeps_to_the_cores_that_the_caller_has_now(run):
    cores = os.sched_getaffinity(0)
    ask = "import os; result = {'cores': sorted(os.sched_getaffinity(0))}"
    assert run(ask) == {"cores": sorted(cores)}
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert run(ask) == {"cores": [min(cores)]}
    finally:
        os.sched_setaffinity(0, cores)


def test_children_draw_different_random_numbers(run):
    draw = "import random, numpy, tempfile; result = {'drawn': [random.random(), numpy.random.default_rng().random()]}"
    assert not set(run(draw)["drawn"]) & set(run(draw)["drawn"])


def test_the_server_keeps_one_thread_whatever_it_has_loaded(run):
    count = "import os; result = {'threads': len(os.listdir(f'/proc/{os.getppid()}/task'))}"
    with pytest.raises(Exception, match="no_such_entry"):
        call("worker.pipeline.child:no_such_entry", {}, timeout=120)
    with pytest.raises(Exception, match="no_such_entry"):
        call("worker.media.entries:no_such_entry", {}, timeout=60)
    assert run(count) == {"threads": 1}


def test_a_server_that_was_killed_is_replaced(run):
    parent = "import os; result = {'parent': os.getppid()}"
    first = run(parent)["parent"]
    os.kill(first, signal.SIGKILL)
    second = run(parent)["parent"]
    assert second != first


def test_a_child_whose_server_is_killed_dies_and_the_caller_is_told(run, tmp_path):
    with Child("worker.media.child:serve_calls", {}, reads=[tmp_path]) as child:
        parent = child.ask("tests_forked:run", {"code": "import os; result = {'parent': os.getppid()}"}, 20)["parent"]
        os.kill(parent, signal.SIGKILL)
        assert ends(parent)
        with pytest.raises(MediaError) as raised:
            child.ask("worker.media.child:report_isolation", {"isolation": {}}, 20)
    assert raised.value.code == "child_died"


def test_no_descriptor_of_a_call_stays_with_the_server_or_reaches_another_child(run, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("a stranger's picture")
    parent = run("import os; result = {'parent': os.getppid()}")["parent"]
    before = len(os.listdir(f"/proc/{parent}/fd"))
    see = (
        "import os\nresult = {'open': []}\n"
        "for name in os.listdir('/proc/self/fd'):\n"
        "    try: result['open'].append(os.readlink(f'/proc/self/fd/{name}'))\n"
        "    except OSError: pass"
    )
    with secret.open() as file:
        with Child("worker.media.child:serve_calls", {}, fds=[file.fileno()]):
            other = run(see)["open"]
        assert str(secret) in run(see, fds=[file.fileno()])["open"]
    assert str(secret) not in other
    # Its log, its connection to the caller, and whatever the libraries keep open; no connection of another child.
    assert sum(path.startswith("socket:") for path in other) == 1
    for _ in range(8):
        run("", fds=[0])
    # One call may just be ending, before and after.
    assert len(os.listdir(f"/proc/{parent}/fd")) <= before + 1


def test_many_threads_start_children_at_once_and_each_gets_its_own_answer(run):
    answers: dict[int, dict] = {}

    def ask(number: int) -> None:
        answers[number] = run(f"result = {{'number': {number}}}")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: {"number": number} for number in range(12)}


def test_a_caller_that_forks_gets_a_server_of_its_own_and_leaves_its_parents_alone(tmp_path):
    script = (
        "import os, sys\nfrom worker.media.sandbox import call, Child\n"
        "def parent():\n"
        "    with Child('worker.media.child:report_isolation', {}) as child:\n"
        "        return int(open(f'/proc/{child.pid}/stat').read().rsplit(')', 1)[1].split()[1])\n"
        "before = parent()\n"
        "if os.fork() == 0:\n"
        "    print('other', parent() != before, flush=True); os._exit(0)\n"
        "os.wait()\nprint('same', parent() == before, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["other", "True", "same", "True"], done.stderr


def test_the_server_ends_with_its_caller(tmp_path):
    script = (
        "import time\nfrom worker.media.sandbox import Child\n"
        "child = Child('worker.media.child:serve_calls', {})\n"
        "print(open(f'/proc/{child.pid}/stat').read().rsplit(')', 1)[1].split()[1], flush=True)\ntime.sleep(60)\n"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}
    )
    assert caller.stdout is not None
    server = int(caller.stdout.readline())
    caller.kill()
    caller.wait()
    assert ends(server)
