"""The engine from the other side: run models through a connection to it. `client` starts one.

Light on purpose (numpy and the standard library): the media child imports this and must not load a model runtime.
"""

import contextlib
import itertools
import os
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from worker.inference import registry, wire
from worker.inference.arena import Allocator, Arena
from worker.inference.endpoint import reach
from worker.inference.registry import ModelCard, ModelSet
from worker.inference.types import ModelError, ModelErrorCode, Service
from worker.inference.wire import ArenaRequest, Layout, ProtocolError, RunRequest, StatusRequest

T = TypeVar("T")

ARENA_SIZE: Final = wire.MAX_ARENA  # bytes; only what is used of it takes memory
ANSWER_SECONDS: Final = 120.0  # the slowest run plus the load of its model on a busy machine
HEALTH_SECONDS: Final = 10.0  # a live engine answers "status" within this


class _Asked:
    """A request that was sent; its answer comes to `take`, in whatever thread reads it."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] | None = None

    def take(self, answer: dict[str, Any]) -> None:
        self.answer = answer


class EngineRun(_Asked):
    """A run that was handed in; a `Pending`."""

    def __init__(self, client: "EngineClient", outputs: dict[str, NDArray[Any]]) -> None:
        """`outputs` are views into the shared memory, which is lent until the answer comes."""
        super().__init__()
        self._client = client
        self._outputs = outputs

    def take(self, answer: dict[str, Any]) -> None:
        """Copy the results out, so that their place is free for the next run although nobody asked for them yet."""
        if answer.get("ok") is True:
            self._outputs = {name: np.array(view) for name, view in self._outputs.items()}
        super().take(answer)

    def result(self) -> dict[str, NDArray[Any]]:
        """See `Pending.result`."""
        self._client.wait(self)
        return self._outputs


class EngineClient:
    """A connection to the engine; implements `ModelRunner`. Threads may share it, processes may not.

    Many runs may be open at once. No thread of its own reads the answers: one of those that wait reads for all.
    """

    def __init__(
        self, sock: socket.socket, service: Service = "interactive", models: ModelSet = registry.BUILTIN
    ) -> None:
        """Takes the connected socket over. `models` are those that the engine was started with.

        `service` says whether somebody waits for the results (see `batching`).

        Raises ModelError "engine_failed" if the engine does not answer.
        """
        self._sock = sock
        self.models: Final = models
        self._sock.settimeout(ANSWER_SECONDS)
        self._reader = wire.FrameReader(sock, limit=wire.MAX_ANSWER)
        self._numbers = itertools.count(1)
        self._send_lock = threading.Lock()
        self._state = threading.Lock()
        self._changed = threading.Condition(self._state)  # an answer came, room was made, or nobody reads
        self._open: dict[int, tuple[_Asked, int, int]] = {}  # with offset and bytes of its place in the arena
        self._reading = False
        self._waiting = 0
        self._problem: str | None = None
        self._arena, descriptor = Arena.create(ARENA_SIZE)
        self._allocator = Allocator(ARENA_SIZE)
        self._layouts: dict[tuple[str, int], Layout] = {}
        try:
            self._ask(ArenaRequest(next(self._numbers), ARENA_SIZE, service), descriptor)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(descriptor)

    @classmethod
    def from_socket(
        cls, sock: socket.socket, service: Service = "interactive", models: ModelSet = registry.BUILTIN
    ) -> Self:
        """A client on a socket that another process connected and handed down."""
        return cls(sock, service, models)

    def run(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See `ModelRunner.run`. The results are the caller's own. Raises ModelError."""
        return self.submit(model, inputs).result()

    def submit(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> EngineRun:
        """See `ModelRunner.submit`. Waits only while `wire.MAX_OPEN` runs are open or the shared memory is full."""
        card = self.models.card(model)
        batch = registry.check_inputs(card, inputs)
        layout = self._layouts.get((model, batch))
        if layout is None:
            layout = self._layouts[model, batch] = wire.layout(card.contract, batch)
        number = next(self._numbers)
        at, run = self._until(lambda: self._begin(number, card, batch, layout))
        try:
            for name, place in self._arena.inputs(card.contract, layout, at, batch).items():
                place[:] = inputs[name]
        except BaseException:
            with self._state:
                self._end(number)
            raise
        self._send(wire.encode_frame(wire.encode_request(RunRequest(number, model, batch, at))))
        return run

    def status(self) -> dict[str, Any]:
        """The engine's health: pid, uptime_seconds, model_set, device, providers in use, clients, failures, queues and

        lanes (how busy each device is), and per model where it runs and what was done with it.
        """
        status: dict[str, Any] = self._ask(StatusRequest(next(self._numbers)))["status"]
        return status

    def installed(self) -> ModelSet:
        """The models that the engine was started with, without their files. Raises ModelError."""
        return ModelSet.from_json(str(self.status()["cards"]))

    def close(self) -> None:
        """End the connection; the engine frees what belongs to it."""
        self._fail("the connection was closed here")
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def wait(self, asked: _Asked) -> None:
        """Wait for the answer to something that was sent. Raises ModelError if it is a refusal or none comes."""
        answer = asked.answer or self._until(lambda: asked.answer)
        if answer.get("ok") is not True:
            raise ModelError(known_code(answer), str(answer.get("message", "The engine refused without a reason.")))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, number: int, card: ModelCard, batch: int, layout: Layout) -> tuple[int, EngineRun] | None:
        """Take room for a run and count it as open, if there is any. Called with the state's lock."""
        if self._problem is not None:
            raise self._broken()
        if len(self._open) >= wire.MAX_OPEN:
            return None
        at = self._allocator.take(layout.size)
        if at is None:
            return None
        run = EngineRun(self, self._arena.outputs(card.contract, layout, at, batch))
        self._open[number] = run, at, layout.size
        return at, run

    def _end(self, number: int) -> None:
        """Forget a request and free its place. Called with the state's lock."""
        _, at, size = self._open.pop(number)
        if size:
            self._allocator.give_back(at, size)

    def _ask(self, request: StatusRequest | ArenaRequest, descriptor: int | None = None) -> dict[str, Any]:
        """Send a request that is no run and wait for its answer."""
        asked = _Asked()
        with self._state:
            self._open[request.id] = asked, 0, 0
        self._send(wire.encode_frame(wire.encode_request(request)), descriptor)
        self.wait(asked)
        assert asked.answer is not None
        return asked.answer

    def _send(self, data: bytes, descriptor: int | None = None) -> None:
        """Send; where that fails, whoever waits is told so."""
        try:
            with self._send_lock:
                wire.send_bytes(self._sock, data, descriptor)
        except OSError as error:
            self._fail(error)

    def _until(self, attempt: Callable[[], T | None]) -> T:
        """What `attempt` gives, called with the state's lock; as long as that is None, answers are read."""
        while True:
            with self._state:
                while (found := attempt()) is None:
                    if self._problem is not None:
                        raise self._broken()
                    if not self._reading:
                        break
                    self._waiting += 1
                    self._changed.wait()
                    self._waiting -= 1
                else:
                    return found
                self._reading = True
            try:
                self._read_answers()
            finally:
                with self._state:
                    self._reading = False
                    if self._waiting:
                        self._changed.notify_all()

    def _read_answers(self) -> None:
        """Wait for an answer; take it and those that came with it."""
        try:
            while True:
                header = self._reader.read()
                if header is None:
                    self._fail("it ended")
                    return
                self._take(header)
                if not self._reader.buffered:
                    return
        except (OSError, ProtocolError) as error:
            self._fail(error)

    def _take(self, header: dict[str, Any]) -> None:
        number = header.get("id")
        with self._state:
            entry = self._open.get(number) if isinstance(number, int) else None
        if entry is None or not isinstance(number, int):
            self._fail(str(header.get("message", "it answered what was not asked")))
            return
        entry[0].take(header)
        with self._state:
            self._end(number)

    def _fail(self, problem: object) -> None:
        with self._state:
            self._problem = self._problem or str(problem) or type(problem).__name__
            self._changed.notify_all()

    def _broken(self) -> ModelError:
        return ModelError(
            "engine_failed",
            f"The inference engine stopped answering ({self._problem}). No file was changed. Start the step again; "
            "a new engine is started by itself.",
        )


def connect(path: Path, service: Service = "interactive", models: ModelSet = registry.BUILTIN) -> EngineClient:
    """Connect to the engine at this socket path; `service` and `models` as in EngineClient.

    Raises ModelError ("engine_unavailable", "engine_failed")."""
    return EngineClient(reach(path, HEALTH_SECONDS), service, models)


def known_code(answer: Mapping[str, Any]) -> ModelErrorCode:
    """The error code of a refusal; "engine_failed" if it is none that is known."""
    codes: tuple[ModelErrorCode, ...] = get_args(ModelErrorCode)
    return next((code for code in codes if code == answer.get("code")), "engine_failed")
