"""The engine from the other side: start it, connect to it, run models through it (`connection`), stop it.

Light on purpose (numpy and the standard library): the media child imports this and must not load a model runtime.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from worker.inference import wire
from worker.inference.connection import EngineClient, connect, known_code
from worker.inference.endpoint import dial, owner
from worker.inference.file_lock import held
from worker.inference.types import ModelError, ModelErrorCode
from worker.inference.wire import ProtocolError, StatusRequest

__all__ = ["EngineClient", "connect", "ensure_engine", "stop_engine"]

HEALTH_SECONDS: Final = 10.0  # a live engine answers "status" within this
START_SECONDS: Final = 120.0
END_SECONDS: Final = 15.0
IDLE_EXIT_SECONDS: Final = 1800.0
LOG_LIMIT: Final = 4 * 1024 * 1024  # bytes
# The engine needs no secret of its starter; what it needs from the environment is named here.
_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH", "TMPDIR", "VIRTUAL_ENV")
_ENVIRONMENT_PREFIXES: Final = ("CUDA_", "NVIDIA_", "ORT_")


def ensure_engine(
    home: Path,
    *,
    models_dir: Path | None = None,
    operator_models: Path | None = None,
    extra_models: Path | None = None,
    gate_packs: Path | None = None,
    providers: str | None = None,
    threads: int = 1,
    idle_exit: float = IDLE_EXIT_SECONDS,
    pretend: Path | None = None,
    options: Sequence[str] = (),
) -> Path:
    """The socket path of this home's live engine; starts one if none answers.

    Callers take turns by a file lock, so there is one engine. It outlives its starter and ends after `idle_exit`
    seconds without a client. An engine that hangs is killed and replaced. The options count when one is started; a
    live engine is taken as it is. Without `models_dir` and `providers` the environment variables IMPRIMATUR_MODELS
    and IMPRIMATUR_PROVIDERS count, then `home`/models and "auto". `operator_models` is the folder of
    installed models (see `store`), by default that of IMPRIMATUR_OPERATOR_MODELS, then `home`/operator-models. Instead
    of it `extra_models` names a folder of files that nobody installed or pinned, for measuring: import it first, so
    that the start finds all in the cache. `gate_packs` is the folder of detector packs, by default that of
    IMPRIMATUR_GATE_PACKS, then `home`/gate-packs. IMPRIMATUR_PRECISION may name a file that stands over precision.toml.
    `pretend` is the table of a pretend device, for measuring (see `pretend`); `options` are further arguments of the
    engine's command line.
    Raises ModelError ("engine_unavailable", "provider_unavailable").
    """
    socket_path = _socket_path(home)
    if _answers(socket_path, pretend):
        return socket_path
    socket_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with held(Path(f"{socket_path}.start")):
        if not _answers(socket_path, pretend):  # another caller may have been quicker
            _end(socket_path, signal.SIGKILL)  # alive but deaf, or already gone
            models = models_dir or Path(os.environ.get("IMPRIMATUR_MODELS") or home / "models")
            policy = providers or os.environ.get("IMPRIMATUR_PROVIDERS") or "auto"
            own = operator_models or Path(os.environ.get("IMPRIMATUR_OPERATOR_MODELS") or home / "operator-models")
            more = ["--operator-models", str(own.absolute())]
            if extra_models is not None:
                more = ["--extra-models", str(extra_models.absolute())]
            packs = gate_packs or Path(os.environ.get("IMPRIMATUR_GATE_PACKS") or home / "gate-packs")
            more += ["--gate-packs", str(packs.absolute())]
            named = os.environ.get("IMPRIMATUR_PRECISION")
            precision = [f"--precision={Path(named).absolute()}"] if named else []
            device = ["--providers", policy] if pretend is None else ["--pretend", str(pretend.absolute())]
            command = [
                *("--socket", str(socket_path), "--models", str(models.absolute()), *device),
                *("--cache", str(home.absolute() / "cache" / "graphs")),
                *("--threads", str(threads), "--idle-exit", str(idle_exit), *precision, *more, *options),
            ]
            _start(command, home / "logs" / "engine.log")
    return socket_path


def stop_engine(home: Path) -> None:
    """End this home's engine, letting open runs finish; returns when it is gone. Nothing happens if none runs."""
    socket_path = _socket_path(home)
    if not socket_path.parent.exists():
        return
    with held(Path(f"{socket_path}.start")):
        if not _end(socket_path, signal.SIGTERM):
            _end(socket_path, signal.SIGKILL)


def _socket_path(home: Path) -> Path:
    return home.absolute() / "run" / "engine.sock"


def _answers(socket_path: Path, pretend: Path | None) -> bool:
    """Whether a live engine is there. ModelError if it pretends and should not, or the other way round."""
    try:
        sock = dial(socket_path, HEALTH_SECONDS)
    except OSError:
        return False
    with sock:
        try:
            wire.send(sock, wire.encode_request(StatusRequest(0)))
            answer = wire.receive(sock)
        except (OSError, ProtocolError):
            return False
    if answer is None or answer.get("ok") is not True:
        return False
    if (answer["status"].get("device") == "pretend") != (pretend is not None):
        raise ModelError(
            "engine_unavailable",
            "The inference engine of this home folder was started to measure with a pretend device (or is a real one "
            "where a pretend one is wanted), so it is not used. No file was changed. Stop that engine first.",
        )
    return True


def _start(options: list[str], log_path: Path) -> None:
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if log_path.stat().st_size > LOG_LIMIT:
            log_path.replace(log_path.with_suffix(".log.1"))
    ready, ready_writer = os.pipe()
    command = [sys.executable, "-m", "worker.inference.engine", "--ready-fd", str(ready_writer), *options]
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
        raise _start_error(str(report.get("message")), log_path, known_code(report))


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
