"""The engine from the other side: start it, connect to it, run models through it.

Light on purpose (numpy and the standard library): the media child imports this and must not load a model runtime.
"""

import contextlib
import fcntl
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self, get_args

import numpy as np
from numpy.typing import NDArray

from worker.inference import registry, wire
from worker.inference.arena import Allocator, Arena, layout
from worker.inference.endpoint import dial, owner
from worker.inference.types import ModelError, ModelErrorCode
from worker.inference.wire import ArenaRequest, ProtocolError, Request, RunRequest, StatusRequest

ARENA_SIZE: Final = 64 * 1024 * 1024  # bytes; holds the largest batch of every built-in model
ANSWER_SECONDS: Final = 120.0  # the slowest run plus the load of its model on a busy machine
HEALTH_SECONDS: Final = 10.0  # a live engine answers "status" within this
START_SECONDS: Final = 120.0
END_SECONDS: Final = 15.0
IDLE_EXIT_SECONDS: Final = 1800.0
LOG_LIMIT: Final = 4 * 1024 * 1024  # bytes
# The engine needs no secret of its starter; what it needs from the environment is named here.
_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH", "TMPDIR", "VIRTUAL_ENV")
_ENVIRONMENT_PREFIXES: Final = ("CUDA_", "NVIDIA_", "ORT_")


class EngineClient:
    """A connection to the engine; implements `ModelRunner`. Threads may share it, processes may not."""

    def __init__(self, sock: socket.socket) -> None:
        """Takes the connected socket over. Raises ModelError "engine_failed" if the engine does not answer."""
        self._sock = sock
        self._sock.settimeout(ANSWER_SECONDS)
        self._numbers = itertools.count(1)
        self._send_lock = threading.Lock()
        self._state = threading.Condition()
        self._answers: dict[int, dict[str, Any]] = {}
        self._reading = False
        self._problem: str | None = None
        self._arena, descriptor = Arena.create(ARENA_SIZE)
        self._allocator = Allocator(ARENA_SIZE)
        try:
            self._ask(ArenaRequest(next(self._numbers), ARENA_SIZE), descriptor)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(descriptor)

    @classmethod
    def from_socket(cls, sock: socket.socket) -> Self:
        """A client on a socket that another process connected and handed down."""
        return cls(sock)

    def run(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See `ModelRunner.run`. The results are the caller's own. Raises ModelError."""
        card = registry.card(model)
        batch = registry.check_inputs(card, inputs)
        input_places, middle = layout(card.contract.inputs, batch)
        output_places, size = layout(card.contract.outputs, batch, middle)
        base = self._allocator.take(size)
        try:
            request = RunRequest(
                next(self._numbers),
                model,
                batch,
                {name: base + offset for name, offset in input_places.items()},
                {name: base + offset for name, offset in output_places.items()},
            )
            for name, shape in card.contract.inputs.items():
                self._arena.view(request.inputs[name], batch, shape)[:] = inputs[name]
            self._ask(request)
            return {
                name: np.array(self._arena.view(request.outputs[name], batch, shape))
                for name, shape in card.contract.outputs.items()
            }
        finally:
            self._allocator.give_back(base, size)

    def status(self) -> dict[str, Any]:
        """The engine's health: pid, uptime_seconds, model_set, providers in use, models with counts, clients."""
        status: dict[str, Any] = self._ask(StatusRequest(next(self._numbers)))["status"]
        return status

    def close(self) -> None:
        """End the connection; the engine frees what belongs to it."""
        with self._state:
            self._problem = self._problem or "the connection was closed here"
            self._state.notify_all()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, request: Request, descriptor: int | None = None) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        try:
            with self._send_lock:
                wire.send(self._sock, wire.encode_request(request), descriptor)
        except OSError as error:
            self._fail(error)
        answer = self._wait(request.id)
        if answer.get("ok") is True:
            return answer
        raise ModelError(_known_code(answer), str(answer.get("message", "The engine refused without a reason.")))

    def _wait(self, number: int) -> dict[str, Any]:
        """The answer to request `number`. One waiting thread reads for all, so no reader thread is needed."""
        while True:
            with self._state:
                while self._reading and number not in self._answers and self._problem is None:
                    self._state.wait()
                if number in self._answers:
                    return self._answers.pop(number)
                if self._problem is not None:
                    raise self._broken()
                self._reading = True
            try:
                self._read_answer()
            finally:
                with self._state:
                    self._reading = False
                    self._state.notify_all()

    def _read_answer(self) -> None:
        try:
            frame = wire.receive(self._sock)
        except (OSError, ProtocolError) as error:
            self._fail(error)
            return
        if frame is None:
            self._fail("it ended")
            return
        header, descriptors = frame
        wire.close_all(descriptors)
        number = header.get("id")
        if isinstance(number, int):
            with self._state:
                self._answers[number] = header
        else:
            self._fail(str(header.get("message", "it answered without a number")))

    def _fail(self, problem: object) -> None:
        with self._state:
            self._problem = self._problem or str(problem) or type(problem).__name__
            self._state.notify_all()

    def _broken(self) -> ModelError:
        return ModelError(
            "engine_failed",
            f"The inference engine stopped answering ({self._problem}). No file was changed. Start the step again; "
            "a new engine is started by itself.",
        )


def connect(path: Path) -> EngineClient:
    """Connect to the engine at this socket path. Raises ModelError ("engine_unavailable", "engine_failed")."""
    try:
        sock = dial(path, HEALTH_SECONDS)
    except OSError as error:
        raise ModelError(
            "engine_unavailable",
            f"No inference engine listens ({error.strerror or error}). No file was changed. Start the step again; "
            "the engine is started by itself.",
        ) from error
    return EngineClient(sock)


def ensure_engine(
    home: Path,
    *,
    models_dir: Path | None = None,
    providers: str | None = None,
    threads: int = 1,
    idle_exit: float = IDLE_EXIT_SECONDS,
) -> Path:
    """The socket path of this home's live engine; starts one if none answers.

    Callers take turns by a file lock, so there is one engine. It outlives its starter and ends after `idle_exit`
    seconds without a client. An engine that hangs is killed and replaced. The options count when one is started; a
    live engine is taken as it is. Without `models_dir` and `providers` the
    environment variables IMPRIMATUR_MODELS and IMPRIMATUR_PROVIDERS count, then `home`/models and "auto".
    IMPRIMATUR_PRECISION may name a file that stands over the shipped precision.toml.
    Raises ModelError ("engine_unavailable", "provider_unavailable").
    """
    socket_path = _socket_path(home)
    if _answers(socket_path):
        return socket_path
    socket_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _start_lock(socket_path):
        if not _answers(socket_path):  # another caller may have been quicker
            _end(socket_path, signal.SIGKILL)  # alive but deaf, or already gone
            models = models_dir or Path(os.environ.get("IMPRIMATUR_MODELS") or home / "models")
            policy = providers or os.environ.get("IMPRIMATUR_PROVIDERS") or "auto"
            _start(socket_path, home / "logs" / "engine.log", models, policy, threads=threads, idle_exit=idle_exit)
    return socket_path


def stop_engine(home: Path) -> None:
    """End this home's engine, letting open runs finish; returns when it is gone. Nothing happens if none runs."""
    socket_path = _socket_path(home)
    if not socket_path.parent.exists():
        return
    with _start_lock(socket_path):
        if not _end(socket_path, signal.SIGTERM):
            _end(socket_path, signal.SIGKILL)


def _known_code(answer: Mapping[str, Any]) -> ModelErrorCode:
    codes: tuple[ModelErrorCode, ...] = get_args(ModelErrorCode)
    return next((code for code in codes if code == answer.get("code")), "engine_failed")


def _socket_path(home: Path) -> Path:
    return home.absolute() / "run" / "engine.sock"


def _answers(socket_path: Path) -> bool:
    try:
        sock = dial(socket_path, HEALTH_SECONDS)
    except OSError:
        return False
    with sock:
        try:
            wire.send(sock, wire.encode_request(StatusRequest(0)))
            frame = wire.receive(sock)
        except (OSError, ProtocolError):
            return False
    return frame is not None and frame[0].get("ok") is True


def _start(socket_path: Path, log_path: Path, models: Path, policy: str, *, threads: int, idle_exit: float) -> None:
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if log_path.stat().st_size > LOG_LIMIT:
            log_path.replace(log_path.with_suffix(".log.1"))
    ready, ready_writer = os.pipe()
    command = [
        *(sys.executable, "-m", "worker.inference.engine", "--ready-fd", str(ready_writer)),
        *("--socket", str(socket_path), "--models", str(models.absolute()), "--providers", policy),
        *("--threads", str(threads), "--idle-exit", str(idle_exit)),
        *(f"--precision={Path(path).absolute()}" for path in filter(None, [os.environ.get("IMPRIMATUR_PRECISION")])),
    ]
    try:
        with log_path.open("ab") as log_file:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                pass_fds=[ready_writer],
                cwd=Path(__file__).parents[2],
                env=_engine_environment(),
                start_new_session=True,  # a signal to the starter's group is not for the engine
            )
    except OSError as error:
        os.close(ready)
        raise _start_error(str(error), log_path) from error
    finally:
        os.close(ready_writer)
    # If the engine ends before its starter does, somebody must collect its exit status.
    threading.Thread(target=process.wait, name="engine-reaper", daemon=True).start()
    with os.fdopen(ready, "rb", buffering=0) as reader:
        report = _read_report(reader.fileno())
    if report is None:
        process.kill()
        raise _start_error("it was not ready in time or ended before", log_path)
    if report.get("ok") is not True:
        raise _start_error(str(report.get("message")), log_path, _known_code(report))


def _read_report(descriptor: int) -> dict[str, Any] | None:
    """The engine's one line, or None if it ended (or took too long) without one."""
    data = b""
    deadline = time.monotonic() + START_SECONDS
    while not data.endswith(b"\n"):
        readable, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        part = os.read(descriptor, 4096) if readable else b""
        if not part:
            return None
        data += part
    report: dict[str, Any] = json.loads(data)
    return report


def _start_error(problem: str, log_path: Path, code: ModelErrorCode = "engine_unavailable") -> ModelError:
    return ModelError(
        code,
        f"The inference engine could not be started: {problem}. No file was changed. Its log {log_path.name} under "
        "the logs folder says more.",
    )


def _engine_environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_PREFIXES)
    }


def _end(socket_path: Path, signal_number: signal.Signals) -> bool:
    """Signal the engine, if there is one; whether it is gone within END_SECONDS."""
    pid = owner(socket_path)
    if pid is None:
        return True
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal_number)
    deadline = time.monotonic() + END_SECONDS
    while owner(socket_path) == pid:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@contextlib.contextmanager
def _start_lock(socket_path: Path) -> Iterator[None]:
    with Path(f"{socket_path}.start").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # freed by the kernel however this process ends
        yield
