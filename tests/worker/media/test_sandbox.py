"""The media child: what it may not do, and what the caller sees when it dies, hangs, eats memory or is stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.worker.processes import alive, ends
from worker.media import folders, forkserver
from worker.media.errors import ChildError, MediaError
from worker.media.forkserver import ForkServer
from worker.media.sandbox import Child, Limits, call, isolation

SMALL = Limits(memory=1 << 30, cpu_seconds=30, file_size=1 << 20)
ROOT = Path(__file__).resolve().parents[3]

# A hostile decoder is played by code that the child is made to run: `exec` is the payload's own, not the product's.
HOSTILE = "tests_child:run"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Return a function that runs a piece of code in a child, as a taken-over decoder would."""
    module = tmp_path / "code" / "tests_child.py"
    module.parent.mkdir()
    module.write_text(
        "def run(payload, channel):\n"
        "    scope = {'payload': payload, 'channel': channel}\n"
        "    exec(payload['code'], scope)\n"
        "    return scope.get('result', {})\n"
    )
    monkeypatch.setattr(forkserver, "SERVER", ForkServer([module.parent]))

    def start(body: str, **options: object) -> dict:
        options.setdefault("timeout", 20)
        options.setdefault("limits", SMALL)
        reads = [module.parent, *options.pop("reads", [])]  # type: ignore[misc]
        return call(HOSTILE, {"code": body}, reads=reads, **options)  # type: ignore[arg-type]

    start.folder = module.parent  # type: ignore[attr-defined]
    return start


def test_the_environment_of_the_child_holds_nothing_of_the_callers_but_its_device(run, monkeypatch):
    monkeypatch.setenv("IMPRIMATUR_SECRET_KEY", "do-not-pass")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    seen = run("import os; result = dict(os.environ)")
    assert "do-not-pass" not in str(seen)
    assert set(seen) <= {"PATH", "LANG", "LC_CTYPE", "HOME", "TMPDIR", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"}
    assert seen["CUDA_VISIBLE_DEVICES"] == "1", "the worker's own device"


def test_arrays_travel_back_unchanged(run):
    reply = run(
        "import numpy as np\nfrom worker.media.child import Reply\n"
        "result = Reply({'n': 2}, [np.arange(12, dtype='float32').reshape(3, 4), np.zeros((0, 3), 'uint8')])"
    )
    assert reply["n"] == 2
    assert np.array_equal(reply["arrays"][0], np.arange(12, dtype=np.float32).reshape(3, 4))
    assert reply["arrays"][1].shape == (0, 3)


def test_an_array_of_another_size_than_it_claims_is_not_believed(run):
    with pytest.raises(MediaError) as caught:
        run(
            "import os, json, array, socket\n"
            "fd = os.memfd_create('x'); os.write(fd, b'123')\n"
            "claim = {'shape': [1000, 1000], 'dtype': 'uint8'}\n"
            "line = json.dumps({'result': {}, 'arrays': [claim]}).encode() + b'\\n'\n"
            "channel._link._sock.sendmsg([line], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [fd]))])\n"
            "import time; time.sleep(20)"
        )
    assert caught.value.code == "child_died"


def test_a_killed_child_is_a_typed_refusal_and_the_caller_lives_on(run):
    with pytest.raises(MediaError) as caught:
        run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert caught.value.code == "child_died"
    assert run("result = {'well': True}")["well"]


def test_a_crashing_decoder_is_a_typed_refusal(run):
    with pytest.raises(MediaError) as caught:
        run("import ctypes; ctypes.string_at(8)")
    assert caught.value.code == "child_died"


def test_a_hanging_child_is_ended_when_its_time_is_up(run):
    begin = time.monotonic()
    with pytest.raises(MediaError) as caught:
        run("import time; time.sleep(60)", timeout=1)
    assert caught.value.code == "child_timeout"
    assert time.monotonic() - begin < 30  # it would sleep a minute


def test_a_child_that_burns_processor_time_is_ended(run):
    with pytest.raises(MediaError) as caught:
        run("while True: pass", limits=Limits(memory=1 << 30, cpu_seconds=1))
    assert caught.value.code == "child_timeout"


@pytest.mark.parametrize("body", ["x = bytearray(4 << 30)", "import numpy as np; x = np.ones(1 << 30)"])
def test_a_child_that_eats_memory_is_a_typed_refusal(run, body):
    with pytest.raises(MediaError) as caught:
        run(body)
    assert caught.value.code == "child_out_of_memory"


def test_a_file_beyond_its_limit_is_reported_as_no_room(run):
    with pytest.raises(MediaError) as caught:
        run("open('big', 'wb').write(bytes(2 << 20))")
    assert caught.value.code == "disk_full"


def test_a_stopped_child_gets_a_moment_to_clean_up_and_then_dies(run):
    for body in (
        "import time\nwhile True:\n    channel.raise_if_stopped(); time.sleep(.01)",
        "import time; time.sleep(60)",
    ):
        begin = time.monotonic()
        with pytest.raises(MediaError) as caught:
            run(body, should_stop=lambda: True)
        assert caught.value.code == "canceled"
        assert time.monotonic() - begin < 30  # it would sleep a minute, or for ever


def test_an_error_of_another_package_keeps_its_code_and_name(run):
    with pytest.raises(ChildError) as caught:
        run("class FaceGone(Exception):\n    code = 'no_face'\n    message = 'None.'\nraise FaceGone()")
    assert (caught.value.code, caught.value.message) == ("no_face", "None.")
    assert caught.value.kind.endswith("FaceGone")


def test_messages_arrive_in_order_before_the_result(run):
    seen: list[int] = []
    run("for i in range(500): channel.send({'i': i})", on_message=lambda message: seen.append(message["i"]))
    assert seen == list(range(500))


def test_the_child_has_no_network(run):
    if isolation()["network"] != "none":
        pytest.skip("this kernel does not let a process leave the network")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        reply = run(
            "import socket\ntry:\n"
            f"    socket.create_connection(('127.0.0.1', {port}), 2); result = {{'reached': True}}\n"
            "except OSError as error:\n    result = {'reached': False}"
        )
    assert reply == {"reached": False}


def test_the_child_reads_and_writes_only_what_it_was_granted(run, tmp_path):
    if not isolation()["files"]:
        pytest.skip("this kernel has no Landlock")
    key, mine = tmp_path / "master.key", tmp_path / "granted"
    key.write_text("secret")
    mine.mkdir()
    probe = (
        "import os\nresult = {}\n"
        f"key, home, mine = {str(key)!r}, {str(tmp_path)!r}, {str(mine)!r}\n"
        "for name, act in (('key', lambda: open(key).read()), ('home', lambda: os.listdir(home)),\n"
        "    ('out', lambda: open(home + '/x', 'w')), ('mine', lambda: open(mine + '/x', 'w').close()),\n"
        "    ('parent', lambda: open(f'/proc/{os.getppid()}/environ', 'rb').read()),\n"
        "    ('kill', lambda: os.kill(os.getppid(), 0)), ('shadow', lambda: open('/etc/shadow').read())):\n"
        "    try: act(); result[name] = True\n"
        "    except OSError: result[name] = False"
    )
    reply = run(probe, writes=[mine])
    assert reply.pop("mine")
    kill_scoped = isolation()["files"] >= 6
    assert not reply.pop("kill") or not kill_scoped
    assert not any(reply.values()), reply


def test_the_child_starts_threads_but_no_process(run):
    if not isolation()["system_calls"]:
        pytest.skip("this processor or kernel has no system-call filter of ours")
    reply = run(
        "import os, subprocess, threading, socket\nresult = {}\n"
        "thread = threading.Thread(target=lambda: result.update(thread=True)); thread.start(); thread.join()\n"
        "pair = socket.socketpair(); pair[0].send(b'x'); result['pair'] = pair[1].recv(1) == b'x'\n"
        "for name, act in (('fork', os.fork), ('spawn', lambda: subprocess.run(['/bin/true'])),\n"
        "    ('exec', lambda: os.execv('/bin/true', ['true'])), ('inet', lambda: socket.socket(socket.AF_INET)),\n"
        "    ('packet', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))):\n"
        "    try: act(); result[name] = True\n"
        "    except OSError: result[name] = False"
    )
    assert reply.pop("thread")
    assert reply.pop("pair")
    assert not any(reply.values()), reply


def test_the_child_cannot_gain_privileges(run):
    reply = run(
        "result = dict(line.split(':\\t') for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)"
    )
    assert reply["NoNewPrivs"] == "1"


def test_the_child_ends_with_its_parent(tmp_path):
    script = (
        "import sys, time, os\nfrom worker.media.sandbox import Child\n"
        "child = Child('worker.media.entries:sample_frames', {'container': 'mov', 'count': 1}, fds=[])\n"
        "print(child.pid, flush=True)\ntime.sleep(60)"
    )
    stuck = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}
    )
    assert stuck.stdout is not None
    child = int(stuck.stdout.readline())
    stuck.send_signal(signal.SIGKILL)
    stuck.wait()
    assert ends(child, 5)


def test_leaving_the_context_kills_the_child_and_removes_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Child("worker.media.child:report_isolation", {}) as child:
        assert list(tmp_path.iterdir())
        pid = child.pid
    assert not alive(pid)
    assert not list(tmp_path.iterdir())


def test_the_folder_of_a_killed_parent_is_swept_and_those_in_use_or_new_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    script = (
        "import os, signal; from worker.media.sandbox import Child\n"
        "with Child('worker.media.child:report_isolation', {}) as child:\n"
        "    next(iter(child.messages(20)), None)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}, check=False
    )
    (left,) = tmp_path.iterdir()
    (left / "plain").write_bytes(b"a stranger's picture")
    monkeypatch.setattr(folders.PrivateFolder, "_swept_at", -folders.SWEEP_SECONDS)
    with Child("worker.media.child:report_isolation", {}) as first:
        assert left.exists()  # too young: it might not be locked yet
        used = first._folder.path
        young = tmp_path / f"{folders.PREFIX}young"
        young.mkdir()
        foreign = tmp_path / "somebody-elses"
        foreign.mkdir()
        for folder in (left, used, foreign):
            os.utime(folder, (0, 0))
        assert call("worker.media.child:report_isolation", {}, timeout=20)
        assert left.exists()  # once a minute is enough
        monkeypatch.setattr(folders.PrivateFolder, "_swept_at", time.monotonic() - folders.SWEEP_SECONDS)
        assert call("worker.media.child:report_isolation", {}, timeout=20)
        assert sorted(tmp_path.iterdir()) == sorted([used, young, foreign])
