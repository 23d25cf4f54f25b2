"""The engine's connections: a thread per client reads its requests, all runs go through the `batcher`.

A client (see `wire`) may be hostile: nothing it sends can do more than end its own connection.
"""

import contextlib
import functools
import logging
import os
import selectors
import signal
import socket
import struct
import threading
import time
from dataclasses import asdict
from types import FrameType
from typing import Any, Final, Protocol

from worker.inference import wire
from worker.inference.arena import Arena
from worker.inference.batcher import Batcher
from worker.inference.devices import LoadedModel
from worker.inference.executor import Executor
from worker.inference.pretend import DEVICE as PRETEND
from worker.inference.pretend import PretendDevice
from worker.inference.types import ModelError, Service
from worker.inference.wire import ArenaRequest, FrameReader, Layout, ProtocolError, RunRequest, StatusRequest
from worker.inference.work_queues import Work

log = logging.getLogger("imprimatur.engine")

MAX_CLIENTS: Final = 256
FRAME_SECONDS: Final = 30.0  # a begun frame must end, and an answer must be taken, within this
MAX_LOGGED_FAILURES: Final = 5  # of one client, which could else fill the disk with them
PIPELINED_FOR: Final = 64  # runs of a client that once handed in a second one before it had the first
UNLOAD_SECONDS: Final = 1800.0
IDLE_SECONDS: Final = 60.0  # without a batch, after which the memory of a model's batches is given back
DRAIN_SECONDS: Final = 10.0  # runs that are open when the engine is told to stop may take this long
_NO_WAIT: Final = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)  # added once: these are enumerations, which is slow
_CREDENTIALS: Final = struct.Struct("3i")


class _Models(Executor, Protocol):
    """What the engine needs of its executor beyond running batches."""

    def loaded(self) -> list[LoadedModel]: ...

    def evict(self, unused_for: float) -> list[str]: ...

    def let_go(self, unused_for: float) -> None: ...


class Engine:
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

    def evict(self, unused_for: float, idle_for: float) -> None:
        """Free models that were not used for `unused_for` seconds, and long before, the memory of batches."""
        self._executor.evict(unused_for)
        self._executor.let_go(idle_for)

    def status(self, clients: int) -> dict[str, Any]:
        """As `EngineClient.status` gives it."""
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

    def __init__(self, server: "Server", sock: socket.socket, number: int) -> None:
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
        work = Work(
            client=self,
            service=self._service,
            model=request.model,
            count=request.batch,
            inputs=arena.inputs(card.contract, layout, request.at, request.batch),
            outputs=arena.outputs(card.contract, layout, request.at, request.batch),
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


class Server:
    """Accepts clients until told to stop or idle for too long."""

    def __init__(
        self, listener: socket.socket, engine: Engine, idle_exit: float | None, unload_after: float = UNLOAD_SECONDS
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
        """Take connections until told to stop or idle for too long, then let open runs end."""
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signal_number, self.stop)
        selector = selectors.DefaultSelector()
        selector.register(self._listener, selectors.EVENT_READ)
        selector.register(self._wake_reader, selectors.EVENT_READ)
        number = 0
        while not self._stopping and not self._idle_too_long():
            # A film is analysed by one client and made by the next: when none is left, the next needs other memory.
            self.engine.evict(self._unload_after, IDLE_SECONDS if self._clients else 0.0)
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
        """See `Engine.status`."""
        with self._lock:
            clients = len(self._clients)
        return self.engine.status(clients)

    def forget(self, client: _Client) -> None:
        """A client is gone."""
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
        """Until something may have to be freed, or the engine to end; a client that comes or leaves ends the wait."""
        soon = min(self._unload_after, IDLE_SECONDS) / 4
        if self._idle_exit is None or self._clients:
            return soon
        return min(soon, max(0.0, self._last_use + self._idle_exit - time.monotonic()))

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
