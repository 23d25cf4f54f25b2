"""The engine process: holds the models of one machine and runs them for every job.

    python -m worker.inference.engine --socket PATH --models DIR [--idle-exit SECONDS]

One thread per client; a client is a connection on the Unix socket (see `wire`) and may be hostile: nothing it sends can
do more than end its own connection. All runs go through `_Engine.run`, the one place where batching would go in.
"""

import argparse
import contextlib
import fcntl
import json
import logging
import os
import resource
import selectors
import signal
import socket
import struct
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

import numpy as np

from worker.inference import registry, wire
from worker.inference.arena import Arena
from worker.inference.endpoint import bind, lock_path
from worker.inference.precision import POLICY_PATH, read_policies
from worker.inference.sessions import LocalRunner, ProviderPolicy
from worker.inference.types import ModelError
from worker.inference.wire import ArenaRequest, ProtocolError, RunRequest, StatusRequest

log = logging.getLogger("imprimatur.engine")

MAX_CLIENTS: Final = 256
FRAME_SECONDS: Final = 30.0  # a begun frame must end, and an answer must be taken, within this
MAX_LOGGED_FAILURES: Final = 5  # of one client, which could else fill the disk with them
DRAIN_SECONDS: Final = 10.0  # runs that are open when the engine is told to stop may take this long
_CREDENTIALS: Final = struct.Struct("3i")


@dataclass
class _Counts:
    runs: int = 0
    items: int = 0
    seconds: float = 0.0


class _Engine:
    """The models and their counters, shared by all client threads."""

    def __init__(self, runner: LocalRunner, slots: int) -> None:
        self._runner = runner
        # More runs at once than cores only makes each of them slower.
        self._slots = threading.BoundedSemaphore(slots)
        self._lock = threading.Lock()
        self._counts: dict[str, _Counts] = {}
        self._failures = 0
        self._open_runs = 0
        self._started = time.monotonic()

    def run(self, request: RunRequest, arena: Arena) -> None:
        """Run a checked request; the outputs are in the arena when this returns. Raises ModelError."""
        contract = registry.card(request.model).contract
        with self._lock:
            self._open_runs += 1
        try:
            with self._slots:
                started = time.monotonic()
                # Copied, because a client could change the shared numbers while they are being read.
                inputs = {
                    name: np.array(arena.view(request.inputs[name], request.batch, shape))
                    for name, shape in contract.inputs.items()
                }
                outputs = self._runner.run(request.model, inputs)
                for name, shape in contract.outputs.items():
                    arena.view(request.outputs[name], request.batch, shape)[:] = outputs[name]
                seconds = time.monotonic() - started
        except ModelError:
            with self._lock:
                self._failures += 1
            raise
        finally:
            with self._lock:
                self._open_runs -= 1
        with self._lock:
            counts = self._counts.setdefault(request.model, _Counts())
            counts.runs += 1
            counts.items += request.batch
            counts.seconds += seconds

    @property
    def busy(self) -> bool:
        return self._open_runs > 0

    def status(self, clients: int) -> dict[str, Any]:
        with self._lock:
            counts = {name: asdict(entry) for name, entry in self._counts.items()}
            failures = self._failures
        loaded = self._runner.loaded()
        return {
            "pid": os.getpid(),
            "uptime_seconds": time.monotonic() - self._started,
            "model_set": registry.model_set_id(),
            "providers": sorted({model.device for model in loaded}),
            "models": [{**asdict(model), **counts.get(model.name, asdict(_Counts()))} for model in loaded],
            "clients": clients,
            "failures": failures,
        }


class _Client:
    """One connection, served by its own thread until it closes or breaks the protocol."""

    def __init__(self, server: "_Server", sock: socket.socket, number: int) -> None:
        self._server = server
        self._sock = sock
        self._number = number
        self._arena: Arena | None = None
        self._failures = 0

    def serve(self) -> None:
        try:
            while (frame := wire.receive(self._sock, FRAME_SECONDS)) is not None:
                self._answer(*frame)
        except ProtocolError as error:
            log.warning("client %d refused: %s", self._number, error)
            with contextlib.suppress(OSError):
                self._send({"ok": False, "code": "input_invalid", "message": f"Refused: {error}."})
        except OSError as error:
            log.info("client %d lost: %s", self._number, error)
        except Exception:
            log.exception("client %d ended by an error in the engine", self._number)
        finally:
            self._sock.close()
            self._server.forget(self)

    def hang_up(self) -> None:
        """Called from another thread: wakes `serve` out of its wait."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def _answer(self, header: dict[str, Any], descriptors: list[int]) -> None:
        try:
            request = wire.decode_request(header)
            if descriptors and not isinstance(request, ArenaRequest):
                raise ProtocolError("a descriptor that was not asked for")
            match request:
                case StatusRequest():
                    self._send({"id": request.id, "ok": True, "status": self._server.status()})
                case ArenaRequest():
                    if self._arena is not None or len(descriptors) != 1:
                        raise ProtocolError("one arena with one descriptor is expected")
                    self._arena = Arena.accept(descriptors[0], request.size)
                    self._send({"id": request.id, "ok": True})
                case RunRequest():
                    self._run(request)
        finally:
            wire.close_all(descriptors)  # a mapping outlives its descriptor

    def _run(self, request: RunRequest) -> None:
        if self._arena is None:
            raise ProtocolError("a run before the arena")
        if request.model not in registry.cards():
            raise ProtocolError("a model that is not registered")
        wire.check_places(request, registry.cards()[request.model], self._arena.size)
        try:
            self._server.engine.run(request, self._arena)
        except ModelError as error:
            self._failures += 1
            if self._failures <= MAX_LOGGED_FAILURES:
                log.warning("client %d: %s: %s", self._number, error.code, error.message)
            self._send({"id": request.id, "ok": False, "code": error.code, "message": error.message})
        else:
            self._send({"id": request.id, "ok": True})

    def _send(self, header: dict[str, Any]) -> None:
        self._sock.settimeout(FRAME_SECONDS)
        try:
            wire.send(self._sock, header)
        finally:
            self._sock.settimeout(None)


class _Server:
    """Accepts clients until told to stop or idle for too long."""

    def __init__(self, listener: socket.socket, engine: _Engine, idle_exit: float | None) -> None:
        self.engine: Final = engine
        self._listener = listener
        self._idle_exit = idle_exit
        self._clients: set[_Client] = set()
        self._lock = threading.Lock()
        self._last_use = time.monotonic()
        self._stopping = False
        # A byte here ends the wait in `serve`: written by the signal module, and by a client that leaves.
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)

    def stop(self, signal_number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        self._stopping = True
        log.info("stopping on %s", signal.Signals(signal_number).name)

    def serve(self) -> None:
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signal_number, self.stop)
        selector = selectors.DefaultSelector()
        selector.register(self._listener, selectors.EVENT_READ)
        selector.register(self._wake_reader, selectors.EVENT_READ)
        number = 0
        while not self._stopping and not self._idle_too_long():
            for key, _ in selector.select(self._seconds_to_idle_exit()):
                if key.fileobj is self._wake_reader:
                    with contextlib.suppress(BlockingIOError):
                        self._wake_reader.recv(4096)
                    continue
                with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
                    sock, _ = self._listener.accept()
                    number += 1
                    self._admit(sock, number)
        self._listener.close()
        self._drain()

    def status(self) -> dict[str, Any]:
        with self._lock:
            clients = len(self._clients)
        return self.engine.status(clients)

    def forget(self, client: _Client) -> None:
        with self._lock:
            self._clients.discard(client)
            self._last_use = time.monotonic()
        with contextlib.suppress(OSError):
            self._wake_writer.send(b"\0")

    def _admit(self, sock: socket.socket, number: int) -> None:
        _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        with self._lock:
            full = len(self._clients) >= MAX_CLIENTS
        if uid != os.geteuid() or full:
            log.warning("connection of user %d refused (%d clients)", uid, len(self._clients))
            sock.close()
            return
        sock.setblocking(True)
        client = _Client(self, sock, number)
        with self._lock:
            self._clients.add(client)
        # Daemon threads: a run that hangs in a driver must not keep a stopped engine alive.
        threading.Thread(target=client.serve, name=f"client-{number}", daemon=True).start()

    def _seconds_to_idle_exit(self) -> float | None:
        if self._idle_exit is None or self._clients:
            return None  # a client that leaves wakes the wait
        return max(0.0, self._last_use + self._idle_exit - time.monotonic())

    def _idle_too_long(self) -> bool:
        with self._lock:
            if self._idle_exit is None or self._clients:
                return False
            idle = time.monotonic() - self._last_use >= self._idle_exit
        if idle:
            log.info("no client for %.0f s, ending", self._idle_exit)
        return idle

    def _drain(self) -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        while self.engine.busy and time.monotonic() < deadline:
            time.sleep(0.02)
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            client.hang_up()


def main(arguments: list[str] | None = None) -> int:
    """Run the engine until it is stopped; the exit code."""
    options = _parse(arguments)
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s UTC %(process)d %(levelname)s %(message)s"
    )
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold faces
    with lock_path(options.socket).open("a") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            _report(options.ready_fd, {"ok": False, "code": "engine_unavailable", "message": "another engine runs"})
            return 1
        return _serve(options)


def _serve(options: argparse.Namespace) -> int:
    try:
        cores = len(os.sched_getaffinity(0))
        policy = ProviderPolicy.parse(options.providers)
        precisions = read_policies(POLICY_PATH, *options.precision)
        runner = LocalRunner(options.models, threads=options.threads, providers=policy, precisions=precisions)
        if policy.mode == "require":
            for name in registry.cards():
                runner.load(name)
        listener = bind(options.socket)
    except (ModelError, ValueError, OSError) as error:
        code = error.code if isinstance(error, ModelError) else "engine_unavailable"
        log.error("cannot start: %s", error)
        _report(options.ready_fd, {"ok": False, "code": code, "message": str(error)})
        return 1
    server = _Server(listener, _Engine(runner, slots=max(1, cores // options.threads)), options.idle_exit)
    log.info("engine ready, model set %s, %d cores, providers %s", registry.model_set_id(), cores, options.providers)
    _report(options.ready_fd, {"ok": True})
    server.serve()
    options.socket.unlink(missing_ok=True)
    log.info("engine ended")
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m worker.inference.engine", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True, help="the Unix socket to listen on")
    parser.add_argument("--models", type=Path, required=True, help="the folder of the built-in model set")
    parser.add_argument("--idle-exit", type=float, metavar="SECONDS", help="end after so long without a client")
    parser.add_argument("--threads", type=int, default=1, help="threads of one run (default 1)")
    parser.add_argument(
        "--providers", default="auto", help="auto, require:DEVICE or prefer:DEVICE,... of cpu, cuda, tensorrt"
    )
    parser.add_argument(
        "--precision", type=Path, action="append", default=[], help="a TOML file over the shipped precision.toml"
    )
    parser.add_argument("--ready-fd", type=int, help="a descriptor that gets one JSON line when ready or failed")
    options = parser.parse_args(arguments)
    if options.threads < 1 or (options.idle_exit is not None and options.idle_exit < 0):
        parser.error("--threads must be at least 1 and --idle-exit not negative")
    return options


def _report(descriptor: int | None, message: dict[str, Any]) -> None:
    if descriptor is not None:
        with contextlib.suppress(OSError):  # whoever started us may be gone
            os.write(descriptor, json.dumps(message).encode("utf-8") + b"\n")
            os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
