"""Starts the parts of one machine as child processes, watches them and stops them all together.

Used by `serve` (web + worker) and `demo` (worker only). The parts are what production runs in containers; this is
only the parent that a developer's terminal talks to.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from django.conf import settings

GRACE_SECONDS = 12.0
START_SECONDS = 60.0


class PartEndedError(RuntimeError):
    """A part of the house ended although nobody asked it to."""


@dataclass(frozen=True)
class Part:
    """One long-running child: its name, its command and where its log goes (None: this terminal)."""

    name: str
    command: list[str]
    log: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def web_part(host: str, port: int) -> Part:
    """The web server (ASGI)."""
    return Part(
        "web",
        [sys.executable, "-m", "uvicorn", "webapp.asgi:application", "--host", host, "--port", str(port)]
        + ["--log-level", "warning", "--no-server-header", "--no-access-log", "--timeout-graceful-shutdown", "5"],
    )


def worker_part(*, log: Path | None = None, processes: int = 2, queues: Sequence[str] = ()) -> Part:
    """Celery prefork worker with the scheduler inside: right for one machine, two schedulers would be harmless.

    Without `queues` it takes all of them.
    """
    run = settings.HOME / "run"
    run.mkdir(parents=True, exist_ok=True)
    return Part(
        "worker",
        [sys.executable, "-m", "celery", "-A", "webapp.celery", "worker", "--beat", "--loglevel", "WARNING"]
        + [
            "--concurrency",
            str(processes),
            "--schedule",
            str(run / "schedule"),
            "--without-mingle",
            "--without-gossip",
            *(["--queues", ",".join(queues)] if queues else []),
        ],
        log,
    )


def offline_parts() -> list[Part]:
    """Workers for long videos alone: one process per CUDA device with an engine of its own, else one per four cores.

    Apart from the others, so that a photo never waits for a film; together they share each film by its segments.
    """
    command = [sys.executable, "-m", "celery", "-A", "webapp.celery", "worker", "--loglevel", "WARNING"]
    command += ["--queues", "offline", "--without-mingle", "--without-gossip", "--hostname"]
    found = devices()
    if not found:
        processes = max(1, len(os.sched_getaffinity(0)) // 4)
        return [Part("offline", [*command, "offline@%h", "--concurrency", str(processes)])]
    return [
        Part(
            f"offline-{device}",
            [*command, f"offline-{number}@%h", "--concurrency", "1"],
            environment={"CUDA_VISIBLE_DEVICES": device, "IMPRIMATUR_DEVICE": str(number)},
        )
        for number, device in enumerate(found)
    ]


def devices() -> list[str]:
    """The CUDA devices of this machine as CUDA_VISIBLE_DEVICES names them; that variable, where set, chooses."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() and name.strip() != "-1"]
    numbers = (path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
    return sorted((number for number in numbers if number.isdigit()), key=int)


class House:
    """The running parts. Each part leads a process group of its own, so a Ctrl-C reaches only this parent."""

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start every part; a part that cannot start is told by `check`."""
        environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "webapp.settings", "PYTHONUNBUFFERED": "1"}
        for part in self.parts:
            log = None
            if part.log:
                part.log.parent.mkdir(parents=True, exist_ok=True)
                log = part.log.open("ab")
            self.children[part.name] = subprocess.Popen(
                part.command,
                cwd=settings.BASE_DIR,
                env={**environment, **part.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT if log else None,
                start_new_session=True,
            )
            if log:
                log.close()

    def check(self) -> None:
        """Raise PartEndedError as soon as one part has ended."""
        for part in self.parts:
            code = self.children[part.name].poll()
            if code is not None:
                where = f"; its log is {part.log}" if part.log else ""
                raise PartEndedError(
                    f"The {part.name} process ended with status {code}{where}. Jobs wait in the database."
                )

    def stop(self) -> None:
        """Ask every part to end, wait, then insist. Running jobs keep their lease and go on at the next start."""
        for child in self.children.values():
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    child.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for child in self.children.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.1, deadline - time.monotonic()))
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


@contextlib.contextmanager
def running(parts: list[Part]) -> Iterator[House]:
    """Run the parts for the length of a `with` block; the engine process of this home is stopped with them."""
    from worker.inference.client import stop_engine

    house = House(parts)

    def leave(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        house.start()
        yield house
    finally:
        # A second Ctrl-C while parts are ending must not leave any behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        house.stop()
        for home in (settings.HOME, *(settings.HOME / "devices").glob("*")):
            stop_engine(home)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, previous)
