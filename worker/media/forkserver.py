"""Start media children without starting Python: one process per caller holds the libraries and forks for every call.

An interpreter, NumPy, OpenCV, FFmpeg and the C2PA library take 0.3 to 2 seconds to import; a fork of a process that
has them takes 10 milliseconds. The fork server is started with a clean environment, imports our own modules and
nothing else, and never sees a byte of media: what a child parses stays in the child. It keeps one thread, because
only then is a fork whole, ends when its caller does, and takes its children along.

One packet asks for a child: JSON, with the descriptors the child shall have. Each child has a socket of its own to
the caller, through which the server tells its id and how it ended, and through which it can be killed: only the
server, the parent, can tell a process from a later one with the same number.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

_ROOT: Final = Path(__file__).resolve().parents[2]
_BOOT: Final = (
    "import sys; sys.path[:0] = sys.argv[2:]; from worker.media.forkserver import serve; serve(int(sys.argv[1]))"
)
_MOST_BYTES: Final = 64 * 1024
_MOST_DESCRIPTORS: Final = 32
_IDLE_SECONDS: Final = 900.0
_START_SECONDS: Final = 60.0
"""A first call waits for the imports on a busy machine."""


class ForkServerError(OSError):
    """No child could be started."""


class Process:
    """A child that the fork server started. Threads may share it.

    `on_end` gets the processor time of the server and all its ended children, in seconds, when the end is known.
    """

    def __init__(self, status: socket.socket, on_end: Callable[[float], None]) -> None:
        self._on_end = on_end
        self._status = status
        self._code: int | None = None
        self._lock = threading.Lock()
        self._text = b""
        line = self._line(_START_SECONDS)
        if not line:
            status.close()
            raise ForkServerError("The fork server ended before it started the process.")
        self.pid: Final = int(line)

    def kill(self) -> None:
        """End the process and its group, now; nothing happens if it has ended."""
        with contextlib.suppress(OSError):
            self._status.send(b"k")

    def wait(self, timeout: float) -> int:
        """The exit code, negative for a signal; -SIGKILL if the server went too. Raises TimeoutError."""
        with self._lock:
            if self._code is None:
                line = self._line(timeout)
                if line is None:
                    raise TimeoutError
                code, _, seconds = line.partition(b" ")
                self._code = int(code) if code else -signal.SIGKILL
                self._on_end(float(seconds or 0))
            return self._code

    def close(self) -> None:
        """Forget the process; one that still runs is killed."""
        self.kill()
        self._status.close()

    def _line(self, timeout: float) -> bytes | None:
        """The next line; empty when the server has gone, None when there is none in time."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._text:
            self._status.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                part = self._status.recv(256)
            except TimeoutError:
                return None
            except OSError:
                part = b""
            if not part:
                return b""
            self._text += part
        line, _, self._text = self._text.partition(b"\n")
        return line


class ForkServer:
    """The caller's end of its fork server, which is started at the first `start` and again whenever it has gone.

    `also` are folders beside the house's own from which targets are imported. `seconds` is the processor time of the
    server and its ended children, as far as known.
    """

    def __init__(self, also: Sequence[Path] = ()) -> None:
        self.seconds = 0.0
        self._also = tuple(also)
        self._lock = threading.Lock()
        self._control: socket.socket | None = None

    def start(
        self,
        target: str,
        *,
        link: int,
        log: int,
        fds: Sequence[int],
        folder: str,
        environment: Mapping[str, str],
        compiled: Path | None = None,
    ) -> Process:
        """Fork a child that serves one call of `target` on the socket `link`, in `folder`, writing to `log`.

        `environment` is the child's whole environment. `fds` come to the child in this order under numbers of its own.
        `compiled` is where numba keeps machine code, for the imports of the target's `preload()`; the first call with
        one counts. Raises ForkServerError.
        """
        request = {
            "target": target,
            "folder": folder,
            "environment": dict(environment),
            "compiled": str(compiled) if compiled else None,
            # A process of the caller's own would keep to the caller's cores; the server may know older ones.
            "cores": sorted(os.sched_getaffinity(0)),
        }
        data = json.dumps(request).encode()
        with self._lock:
            for attempt in (0, 1):
                # A server that ended for idleness, or was killed, is noticed by the attempt to use it.
                try:
                    return self._ask(data, [link, log, *fds])
                except OSError as error:
                    self._drop()
                    if attempt:
                        raise ForkServerError(f"The fork server does not work: {error}") from error
        raise AssertionError

    def forget(self) -> None:
        """In a process that was forked off the caller: the server is the parent's, not ours."""
        self._lock = threading.Lock()
        self._drop()

    def _note(self, seconds: float) -> None:
        self.seconds = max(self.seconds, seconds)

    def _drop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None

    def _ask(self, data: bytes, fds: Sequence[int]) -> Process:
        if self._control is None:
            self._control = _start_server(self._also)
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                rights = array.array("i", [theirs.fileno(), *fds])
                self._control.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            except BaseException:
                ours.close()
                raise
        return Process(ours, self._note)


def _start_server(also: Sequence[Path]) -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-c", _BOOT, str(theirs.fileno()), str(_ROOT), *map(str, also)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                # One thread in every library, or a fork would copy locks that nobody holds any more.
                env={
                    "PATH": "/usr/bin:/bin",
                    "LANG": "C.UTF-8",
                    "OMP_NUM_THREADS": "1",
                    "OPENBLAS_NUM_THREADS": "1",
                    "MALLOC_ARENA_MAX": "2",  # every arena reserves 64 MiB of the address space
                },
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
    # The server ends by itself when our end closes; somebody must collect its exit status.
    threading.Thread(target=process.wait, name="fork-server-reaper", daemon=True).start()
    return ours


SERVER: Final = ForkServer()
os.register_at_fork(after_in_child=SERVER.forget)


# -- the server's side -----------------------------------------------------------------------------------------------


def serve(control_number: int) -> None:
    """Fork children for the process at the other end of the control socket until it goes away or is idle for long."""
    control = socket.socket(fileno=control_number)
    wake, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, socket.socket] = {}  # status sockets by process id
    prepared: set[str] = set()
    while True:
        waiting = {status.fileno(): pid for pid, status in children.items()}
        numbers = [control.fileno(), wake, *waiting]
        ready, _, _ = select.select(numbers, [], [], None if children else _IDLE_SECONDS)
        if not ready:
            return
        for one in ready:
            if one == control.fileno():
                request, fds = _receive(control)
                if request is None:
                    os._exit(0)  # the kernel kills the children: see `die_with`
                _prepare(request["target"], request["compiled"], prepared)
                _fork(request, fds, children, [control.fileno(), wake, wake_writer])
            elif one == wake:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake, 4096)
            else:
                _obey(waiting[one], children)
        _collect(children)


def _receive(control: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    data, fds, _, _ = socket.recv_fds(control, _MOST_BYTES, _MOST_DESCRIPTORS)
    return (json.loads(data) if data else None), fds


def _prepare(target: str, compiled: str | None, prepared: set[str]) -> None:
    """Import the target's module and run its `preload()`, once, so that every child has them from the start."""
    name = target.partition(":")[0]
    if name in prepared:
        return
    prepared.add(name)
    if compiled is not None:
        os.environ.setdefault("NUMBA_CACHE_DIR", compiled)  # read when numba is imported
    with contextlib.suppress(Exception):  # the child meets the same error where it can be reported
        # Intel's library takes other code by the make of the processor: a third slower than OpenCV's own on AMD's, and
        # other bits. OpenCV asks once, and threads of a child ask what it said then.
        os.environ.update(OPENCV_IPP="disabled", OPENCV_LOG_LEVEL="ERROR")  # it would warn that we did as we meant to
        import cv2

        cv2.ipp.useIPP()
        cv2.setNumThreads(1)  # no thread pool here; a child takes as many as it is allowed
        preload: Callable[[], None] | None = getattr(importlib.import_module(name), "preload", None)
        if preload is not None:
            preload()
    # A child that collects garbage shall not look through all of this again, and by looking copy its pages.
    gc.collect()
    gc.freeze()


def _fork(
    request: Mapping[str, Any], fds: list[int], children: dict[int, socket.socket], private: Sequence[int]
) -> None:
    status, link, log, *passed = fds
    parent = os.getpid()
    pid = os.fork()
    if pid:
        for number in (link, log, *passed):
            os.close(number)
        children[pid] = socket.socket(fileno=status)
        with contextlib.suppress(OSError):
            children[pid].send(b"%d\n" % pid)
        return
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in (status, *private, *(other.fileno() for other in children.values())):
            os.close(number)
        os.setsid()
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        os.chdir(request["folder"])
        os.sched_setaffinity(0, request["cores"])
        os.environ.clear()
        os.environ.update(request["environment"])
        from worker.media.child import main

        main(link, passed, parent)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(1)


def _obey(pid: int, children: Mapping[int, socket.socket]) -> None:
    """The caller asks for the child's death, or has gone."""
    with contextlib.suppress(OSError):
        children[pid].recv(16)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _used() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)


def _collect(children: dict[int, socket.socket]) -> None:
    """Reap what has ended and tell the caller how."""
    for pid in list(children):
        found, state = os.waitpid(pid, os.WNOHANG)
        if found:
            # Not earlier: until now the number was the child's and its group's alone.
            status = children.pop(pid)
            with contextlib.suppress(OSError):
                status.send(b"%d %.4f\n" % (os.waitstatus_to_exitcode(state), _used()))
            status.close()
