"""The engine process: holds the models of one machine and runs them for every job.

    python -m worker.inference.engine --socket PATH --models DIR [--idle-exit SECONDS] [--preload NAME,...]

A client is a connection on the Unix socket (see `wire`) and may be hostile: nothing it sends can do more than end its
own connection. A thread per client reads its requests; all runs go through the `batcher`, whose threads run and answer.
"""

import argparse
import contextlib
import fcntl
import functools
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
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import Any, Final, Protocol

from worker.inference import gate_models, registry, wire
from worker.inference import packs as detector_packs
from worker.inference.arena import Arena
from worker.inference.batcher import Batcher, Executor
from worker.inference.devices import LoadedModel
from worker.inference.endpoint import bind, lock_path
from worker.inference.graph_cache import GraphCache
from worker.inference.importing import cache_of, import_folder
from worker.inference.precision import POLICY_PATH, read_policies
from worker.inference.pretend import DEVICE as PRETEND
from worker.inference.pretend import PretendDevice, read_table
from worker.inference.sessions import LocalRunner, ProviderPolicy
from worker.inference.store import ModelStore
from worker.inference.types import ModelError, Service
from worker.inference.wire import ArenaRequest, FrameReader, Layout, ProtocolError, RunRequest, StatusRequest
from worker.inference.work_queues import Work

log = logging.getLogger("imprimatur.engine")

MAX_CLIENTS: Final = 256
FRAME_SECONDS: Final = 30.0  # a begun frame must end, and an answer must be taken, within this
MAX_LOGGED_FAILURES: Final = 5  # of one client, which could else fill the disk with them
PIPELINED_FOR: Final = 64  # runs of a client that once handed in a second one before it had the first
UNLOAD_SECONDS: Final = 1800.0
DRAIN_SECONDS: Final = 10.0  # runs that are open when the engine is told to stop may take this long
_NO_WAIT: Final = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)  # added once: these are enumerations, which is slow
_CREDENTIALS: Final = struct.Struct("3i")


class _Models(Executor, Protocol):
    """What the engine needs of its executor beyond running batches."""

    def loaded(self) -> list[LoadedModel]: ...

    def evict(self, unused_for: float) -> list[str]: ...


class _Engine:
    """The models, their batcher and their counters, shared by all clients."""

    def __init__(self, executor: _Models) -> None:
        self.batcher: Final = Batcher(executor)
        self.models: Final = executor.models
        self._executor = executor
        self._layouts: dict[tuple[str, int], Layout] = {}
        self._started = time.monotonic()

    def layout(self, model: str, batch: int) -> Layout:
        """The layout of a run of a registered model."""
        layout = self._layouts.get((model, batch))
        if layout is None:
            layout = self._layouts[model, batch] = wire.layout(self._executor.models.card(model).contract, batch)
        return layout

    def evict(self, unused_for: float) -> None:
        """Free models that were not used for so many seconds."""
        self._executor.evict(unused_for)

    def status(self, clients: int) -> dict[str, Any]:
        status = self.batcher.status()
        loaded = self._executor.loaded()
        providers = sorted({model.device for model in loaded})
        pretend = self._executor.status() if isinstance(self._executor, PretendDevice) else None
        return {
            "pid": os.getpid(),
            "uptime_seconds": time.monotonic() - self._started,
            # No result of a pretend device may ever be taken for one of the models.
            "model_set": self.models.id({m.name: m.precision for m in loaded}) if pretend is None else PRETEND,
            "gate": {name: card.sha256 for name, card in self.models.gate.items()},
            "cards": self.models.to_json(),  # of an operator's models: whoever sends a job has to know them
            "device": ",".join(providers) if pretend is None else PRETEND,
            "providers": providers,
            "models": [{**asdict(model), **self.batcher.model_status(model.name)} for model in loaded],
            "clients": clients,
            **status,
            **({} if pretend is None else {"pretend": pretend}),
        }


class _Client:
    """One connection. Its thread reads requests until it closes or breaks the protocol; who runs them, answers them."""

    def __init__(self, server: "_Server", sock: socket.socket, number: int) -> None:
        self._server = server
        self._sock = sock
        self._number = number
        self._reader = FrameReader(sock, timeout=FRAME_SECONDS)
        self._send_lock = threading.Lock()
        self._arena: Arena | None = None
        self._service: Service = "interactive"
        self._open = 0
        self._failures = 0
        # A client that hands in one run after the other is best served by this thread itself, without waking another.
        # One that hands in more beforehand is not: its next request must be read while the first is computed.
        self._pipelined = 0
        self._inline = False

    def serve(self) -> None:
        try:
            while (header := self._reader.read()) is not None:
                self._answer(header)
        except ProtocolError as error:
            log.warning("client %d refused: %s", self._number, error)
            self._send({"ok": False, "code": "input_invalid", "message": f"Refused: {error}."})
        except OSError as error:
            log.info("client %d lost: %s", self._number, error)
        except Exception:
            log.exception("client %d ended by an error in the engine", self._number)
        finally:
            self._server.engine.batcher.forget(self)
            self._reader.close()
            with self._send_lock:
                self._sock.close()
            self._server.forget(self)

    def hang_up(self) -> None:
        """Called from any thread: wakes `serve` out of its wait."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def _answer(self, header: dict[str, Any]) -> None:
        request = wire.decode_request(header)
        match request:
            case RunRequest():
                self._run(request)
            case StatusRequest():
                self._send({"id": request.id, "ok": True, "status": self._server.status()})
            case ArenaRequest():
                if self._arena is not None or len(self._reader.descriptors) != 1:
                    raise ProtocolError("one arena with one descriptor is expected")
                self._arena = Arena.accept(self._reader.descriptors[0], request.size)
                self._service = request.service
                self._reader.close()  # a mapping outlives its descriptor
                self._send({"id": request.id, "ok": True})
        if self._reader.descriptors and not self._reader.buffered:
            raise ProtocolError("a descriptor that was not asked for")

    def _run(self, request: RunRequest) -> None:
        arena, engine = self._arena, self._server.engine
        if arena is None:
            raise ProtocolError("a run before the arena")
        card = engine.models.cards().get(request.model)
        if card is None:
            raise ProtocolError("a model that is not registered")
        layout = engine.layout(request.model, request.batch)
        wire.check_place(request, layout.size, arena.size)
        with self._send_lock:
            self._open += 1
            alone = self._open == 1
        if self._open > wire.MAX_OPEN:
            raise ProtocolError(f"more than {wire.MAX_OPEN} open runs")
        contract, batch, at = card.contract, request.batch, request.at
        work = Work(
            client=self,
            service=self._service,
            model=request.model,
            count=batch,
            inputs={name: arena.view(at + layout.inputs[name], batch, s) for name, s in contract.inputs.items()},
            outputs={name: arena.view(at + layout.outputs[name], batch, s) for name, s in contract.outputs.items()},
            done=functools.partial(self._ended, request.id),
        )
        self._inline = alone and not self._pipelined and not self._reader.buffered
        self._pipelined = max(0, self._pipelined - 1)
        engine.batcher.submit(work, inline=self._inline)
        self._inline = False

    def _ended(self, number: int, error: ModelError | None) -> None:
        """Called by whichever thread carried the run out."""
        if self._inline:
            try:
                if self._reader.ready:
                    self._pipelined = PIPELINED_FOR
            except OSError:
                return  # the reading thread will see it as well
        with self._send_lock:
            self._open -= 1
        if error is None:
            self._send_bytes(wire.encode_success(number))
            return
        self._failures += 1
        if self._failures <= MAX_LOGGED_FAILURES:
            log.warning("client %d: %s: %s", self._number, error.code, error.message)
        self._send({"id": number, "ok": False, "code": error.code, "message": error.message})

    def _send(self, header: dict[str, Any]) -> None:
        self._send_bytes(wire.encode_frame(header))

    def _send_bytes(self, data: bytes) -> None:
        """Send without ever waiting, for a client that does not take its answers must not keep others from a device.

        MAX_OPEN answers fit into the socket, so only such a client can fill it; it is cut off.
        """
        with self._send_lock:
            try:
                sent = self._sock.send(data, _NO_WAIT)
            except BlockingIOError:
                sent = 0
            except OSError:
                return  # it is gone, as the reading thread will see
        if sent < len(data):
            log.warning("client %d does not take its answers", self._number)
            self.hang_up()


class _Server:
    """Accepts clients until told to stop or idle for too long."""

    def __init__(
        self, listener: socket.socket, engine: _Engine, idle_exit: float | None, unload_after: float = UNLOAD_SECONDS
    ) -> None:
        self.engine: Final = engine
        self._listener = listener
        self._idle_exit = idle_exit
        self._unload_after = unload_after
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
            self.engine.evict(self._unload_after)
            for key, _ in selector.select(self._seconds_to_wait()):
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

    def _seconds_to_wait(self) -> float:
        """Until models may have to be freed, or the engine to end; a client that comes or leaves ends the wait."""
        if self._idle_exit is None or self._clients:
            return self._unload_after / 4
        return min(self._unload_after / 4, max(0.0, self._last_use + self._idle_exit - time.monotonic()))

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
        while self.engine.batcher.busy and time.monotonic() < deadline:
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
        executor, device = _executor(options)
        listener = bind(options.socket)
    except (ModelError, ValueError, OSError) as error:
        code = error.code if isinstance(error, ModelError) else "engine_unavailable"
        log.error("cannot start: %s", error)
        _report(options.ready_fd, {"ok": False, "code": code, "message": str(error)})
        return 1
    server = _Server(listener, _Engine(executor), options.idle_exit, options.unload_after)
    log.info("engine ready, model set %s, %s", executor.models.id(), device)
    _report(options.ready_fd, {"ok": True})
    server.serve()
    options.socket.unlink(missing_ok=True)
    log.info("engine ended")
    return 0


def _executor(options: argparse.Namespace) -> tuple[PretendDevice | LocalRunner, str]:
    """What runs the models, with everything loaded that must be before the engine is ready; and words for the log."""
    cores = len(os.sched_getaffinity(0))
    models = registry.BUILTIN
    if options.operator_models is not None:
        try:
            models = ModelStore(options.operator_models, cache_of(options.models)).models(threads=cores)
        except ModelError as error:  # the built-in set still works
            log.error("the operator's models are left out: %s", error)
    if options.extra_models is not None:
        models = import_folder(options.extra_models, cache_of(options.models), threads=cores)
    if options.pretend is not None:
        log.warning("PRETENDING: no model is run, every answer is made up; for measuring only")
        return PretendDevice(read_table(options.pretend, models), models=models), "pretend device"
    policy = ProviderPolicy.parse(options.providers or "auto")
    packs = detector_packs.present(options.gate_packs) if options.gate_packs is not None else registry.BUILTIN
    models = models.with_gate(gate_models.present(options.models), packs)
    if options.memory_limit is not None:
        policy = replace(policy, memory_limit=options.memory_limit << 20)
    cache = GraphCache(options.cache) if options.cache is not None else None
    if cache is not None:
        cache.sweep()
    runner = LocalRunner(
        options.models,
        threads=options.threads,
        providers=policy,
        cache=cache,
        slots=max(1, cores // options.threads),
        models=models,
        precisions=read_policies(POLICY_PATH, *options.precision),
    )
    own = [name for name in models.cards() if name not in models.gate]  # a job can do without those of the gate
    names = own if options.preload == "all" else [n for n in options.preload.split(",") if n]
    for name in names:
        runner.load(name, pin=True)
    if policy.mode == "require":
        for name in own:
            runner.load(name)
    return runner, f"{cores} cores, providers {options.providers or 'auto'}"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m worker.inference.engine", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True, help="the Unix socket to listen on")
    parser.add_argument("--models", type=Path, required=True, help="the folder of the built-in model set")
    own = parser.add_mutually_exclusive_group()
    own.add_argument("--operator-models", type=Path, metavar="DIR", help="the folder of installed models")
    own.add_argument("--extra-models", type=Path, metavar="DIR", help="a folder of files that nobody pinned")
    parser.add_argument("--gate-packs", type=Path, metavar="DIR", help="the folder of installed detector packs")
    parser.add_argument("--idle-exit", type=float, metavar="SECONDS", help="end after so long without a client")
    parser.add_argument("--threads", type=int, default=1, help="threads of one run (default 1)")
    device = parser.add_mutually_exclusive_group()
    device.add_argument(
        "--providers", help="auto (default), require:DEVICE or prefer:DEVICE,... of cpu, cuda, tensorrt"
    )
    device.add_argument(
        "--pretend", type=Path, metavar="TABLE", help="run NO model: wait as a device would (for measuring only)"
    )
    parser.add_argument("--memory-limit", type=int, metavar="MIB", help="of a device's memory, for each model")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep optimised graphs and compiled engines here")
    parser.add_argument("--preload", default="", metavar="NAME,...", help="load before ready, never unload; or: all")
    parser.add_argument("--unload-after", type=float, default=UNLOAD_SECONDS, metavar="SECONDS", help="without use")
    parser.add_argument(
        "--precision", type=Path, action="append", default=[], help="a TOML file over the shipped precision.toml"
    )
    parser.add_argument("--ready-fd", type=int, help="a descriptor that gets one JSON line when ready or failed")
    options = parser.parse_args(arguments)
    if options.threads < 1 or (options.idle_exit is not None and options.idle_exit < 0):
        parser.error("--threads must be at least 1 and --idle-exit not negative")
    if options.unload_after <= 0 or (options.memory_limit is not None and options.memory_limit < 1):
        parser.error("--unload-after and --memory-limit must be positive")
    return options


def _report(descriptor: int | None, message: dict[str, Any]) -> None:
    if descriptor is not None:
        with contextlib.suppress(OSError):  # whoever started us may be gone
            os.write(descriptor, json.dumps(message).encode("utf-8") + b"\n")
            os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
