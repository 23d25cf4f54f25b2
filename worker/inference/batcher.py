"""Collects the items of all clients by model, runs them in batches, and lets no client or job starve another.

A request is cut into pieces where it must be and joined with other clients' pieces where that pays (see `batching`).
Every device has a lane: threads that close a batch, gather its items, run it and hand the results out. A lane of a
GPU keeps two batches in flight, so that the next one is assembled and copied while the first is computed.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from numpy.typing import NDArray

from worker.inference.batching import ModelPolicy
from worker.inference.executor import Executor
from worker.inference.lane import Lane
from worker.inference.registry import MAX_BATCH
from worker.inference.types import ModelError, OutOfMemoryError, Service
from worker.inference.work_queues import Piece, Work, WorkQueues, halves

log = logging.getLogger(__name__)

_INTERACTIVE_IN_A_ROW: Final = 3  # then offline work gets a turn, or many photos would stop every video
_INLINE_SECONDS: Final = 0.010  # a run that its reader carries out itself keeps it from reading for so long at most
_SPLIT_SECONDS: Final = 0.001  # what takes less is not worth a second run
_LOADERS: Final = 2


@dataclass
class Counts:
    """What was done for one model. `runs` counts requests, `batches` runs of the device by size.

    `cpu_seconds` is processor time of the threads that ran it: with one thread a run, all that the model itself took.
    """

    runs: int = 0
    items: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    batches: dict[int, int] = field(default_factory=dict)


@dataclass
class _Batch:
    lane: Lane
    model: str
    pieces: list[Piece]
    ended: bool = False  # whether the device is done with it


class Batcher:
    """Takes work from any thread; see the module."""

    def __init__(self, executor: Executor, clock: Callable[[], float] = time.monotonic) -> None:
        self._executor = executor
        self._clock = clock
        self._lock = threading.Lock()
        self._queues = WorkQueues()
        self._policies: dict[str, ModelPolicy] = {}
        self._counts: dict[str, Counts] = {}
        self._assembly: dict[str, float] = {}  # seconds to gather one item
        self._lanes: dict[str, Lane] = {}
        self._loading: set[str] = set()
        self._loaders = ThreadPoolExecutor(_LOADERS, thread_name_prefix="loader")
        self._open = 0
        self._failures = 0
        self._interactive_in_a_row = 0
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether any work is not done yet."""
        return self._open > 0

    def submit(self, work: Work, *, inline: bool = False) -> bool:
        """Take work in. With `inline` the caller may carry it out itself, if nothing else waits; whether it did."""
        with self._lock:
            work.came = now = self._clock()
            work.left = work.count
            self._open += 1
            policy = self._policies.get(work.model) or self._policy(work.model)
            policy.arrived(work.service, now)
            device = self._executor.device(work.model)
            if device is None:
                self._queues.add(work)
                self._load(work.model)
                return False
            lane = self._lanes.get(device) or self._lane(device)
            if not (inline and self._queues.empty and self._may_run_inline(lane, policy, work, now)):
                self._queues.add(work)
                lane.came()
                return False
            work.taken = work.count
            batch = self._begin(lane, work.service, work.model, [Piece(work, 0, work.count)], now)
        self._carry_out(batch)
        return True

    def forget(self, client: object) -> None:
        """Drop what a client still has queued; `done` is not called for it."""
        with self._lock:
            self._open -= sum(not work.left for work in self._queues.drop_client(client))

    def close(self) -> None:
        """End the lanes' threads as soon as they are free; queued work stays undone."""
        with self._lock:
            self._closed = True
            for lane in self._lanes.values():
                lane.wake_all()
        self._loaders.shutdown(wait=False, cancel_futures=True)

    def status(self) -> dict[str, Any]:
        """Plain values: failures, queues (items by class and model), lanes by device."""
        with self._lock:
            now = self._clock()
            return {
                "failures": self._failures,
                "queues": self._queues.depths(),
                "lanes": {name: lane.status(now) for name, lane in self._lanes.items()},
            }

    def model_status(self, model: str) -> dict[str, Any]:
        """What was done for one model, which may be nothing: counts, milliseconds by batch size, the largest batch."""
        with self._lock:
            counts, policy = self._counts.get(model, Counts()), self._policy(model)
            return {
                "runs": counts.runs,
                "items": counts.items,
                "seconds": round(counts.seconds, 6),
                "cpu_seconds": round(counts.cpu_seconds, 6),
                "batches": {str(size): count for size, count in sorted(counts.batches.items())},
                "latency_ms": {str(size): round(1000 * took, 3) for size, took in policy.curve.measured().items()},
                "largest_batch": policy.most,
            }

    def _policy(self, model: str) -> ModelPolicy:
        if model not in self._policies:
            self._policies[model] = ModelPolicy(MAX_BATCH if self._executor.models.card(model).batches else 1)
        return self._policies[model]

    def _lane(self, device: str) -> Lane:
        if device not in self._lanes:
            lane = self._lanes[device] = Lane(self._executor.lane(device), self._lock)
            for number in range(lane.shape.threads):
                # Daemon threads: a run that hangs in a driver must not keep a stopped engine alive.
                threading.Thread(
                    target=self._serve, args=(device, lane), name=f"{device}-{number}", daemon=True
                ).start()
        return self._lanes[device]

    # Loading: in threads of its own, so that what is loaded already goes on running.

    def _load(self, model: str) -> None:
        if model not in self._loading and not self._closed:
            self._loading.add(model)
            self._loaders.submit(self._load_now, model)

    def _load_now(self, model: str) -> None:
        error: ModelError | None = None
        try:
            self._executor.load(model)
        except ModelError as problem:
            error = problem
        except Exception as problem:
            log.exception("loading %s failed", model)
            error = ModelError("engine_failed", f"The model {model} could not be loaded. ({problem})")
        ended: list[Work] = []
        with self._lock:
            self._loading.discard(model)
            if error is not None:
                works = self._queues.drop_model(model)
                for work in works:
                    work.error = work.error or error
                ended = self._ended(works)
            elif (device := self._executor.device(model)) is not None:
                self._lane(device).came()
        for work in ended:
            work.done(work.error)

    # Closing batches: all with the lock held.

    def _serve(self, device: str, lane: Lane) -> None:
        while True:
            with self._lock:
                batch = self._next(device, lane)
            if batch is None:
                return
            self._carry_out(batch)
            del batch  # its client's memory must not be held until there is another

    def _next(self, device: str, lane: Lane) -> _Batch | None:
        """Wait until a batch of this lane is due and close it; None when the batcher is closed."""
        while lane.watched and not self._closed:
            lane.turn.wait()
        lane.watched = True  # one thread watches the queues, the others wait for their turn
        try:
            while not self._closed:
                delay: float | None = None
                if lane.room:
                    batch, delay = self._choose(device, lane)
                    if batch is not None:
                        return batch
                lane.wait(delay)
            return None
        finally:
            lane.watched = False
            if lane.room and not self._queues.empty:
                lane.turn.notify()

    def _choose(self, device: str, lane: Lane) -> tuple[_Batch | None, float | None]:
        """The batch that is due now, or the seconds until one may be (None: nothing waits)."""
        now = self._clock()
        soonest: float | None = None
        busy = lane.free_in(now) > 0
        for service in self._order():
            for leader, model in self._queues.turns(service):
                place = self._executor.device(model)
                if place is None:
                    self._load(model)  # it was evicted
                if place != device:
                    continue
                delay = self._delay(lane, service, model, now)
                if delay <= 0:
                    return self._close(lane, service, model, leader, now), None
                if busy:
                    return None, delay  # a full batch behind this one must not slip in only because it is full
                soonest = delay if soonest is None else min(soonest, delay)
        return None, soonest

    def _order(self) -> tuple[Service, Service]:
        if self._interactive_in_a_row >= _INTERACTIVE_IN_A_ROW:
            return "offline", "interactive"
        return "interactive", "offline"

    def _delay(self, lane: Lane, service: Service, model: str, now: float) -> float:
        policy, queued = self._policies[model], self._queues.count(service, model)
        assembly = self._assembly.get(model, 0.0) * min(queued, policy.target(service))
        oldest = self._queues.oldest(service, model)
        return policy.delay(service, now, queued, oldest, free_in=lane.free_in(now), assembly=assembly)

    def _close(self, lane: Lane, service: Service, model: str, leader: object, now: float) -> _Batch:
        policy, queued = self._policies[model], self._queues.count(service, model)
        size = min(policy.target(service), queued)
        if not lane.shape.serial:
            # Several cores: everyone gets a share instead of one running all while the others look on.
            size = min(size, -(-queued // lane.room))
        return self._begin(lane, service, model, self._queues.take(service, model, leader, size), now)

    def _begin(self, lane: Lane, service: Service, model: str, pieces: list[Piece], now: float) -> _Batch:
        size = sum(piece.count for piece in pieces)
        self._interactive_in_a_row = self._interactive_in_a_row + 1 if service == "interactive" else 0
        lane.begin(pieces, self._policies[model].curve.predict(size) or 0.0, now)
        return _Batch(lane, model, pieces)

    def _may_run_inline(self, lane: Lane, policy: ModelPolicy, work: Work, now: float) -> bool:
        """Whether this work, while nothing is queued, is one batch that can begin at once, and short."""
        expected = policy.curve.predict(work.count)
        if expected is None or expected > _INLINE_SECONDS or not lane.room:
            return False
        if lane.shape.serial:
            if lane.in_flight or policy.delay(work.service, now, work.count, now) > 0:
                return False
        elif work.count > 1 and expected > _SPLIT_SECONDS:
            return False  # the other cores shall have a share
        return work.count <= policy.target(work.service) or expected <= _SPLIT_SECONDS

    # Running: without the lock.

    def _carry_out(self, batch: _Batch) -> None:
        try:
            self._run(batch, batch.pieces)
        finally:
            if not batch.ended:  # no run of all of it succeeded
                with self._lock:
                    self._end_run(batch, self._clock())

    def _end_run(self, batch: _Batch, now: float) -> None:
        """The device is done with this batch: the next may be closed while the results are handed out."""
        batch.ended = True
        batch.lane.end(batch.pieces, now)
        if not self._queues.empty:
            batch.lane.came()

    def _run(self, batch: _Batch, pieces: list[Piece]) -> None:
        """Gather, run, hand out. Memory that runs out halves the batch; a failure is tried again client by client."""
        parts: list[list[Piece]] = []
        error: ModelError | None = None
        try:
            parts = self._try_run(batch, pieces)
        except ModelError as problem:
            error = problem
        except Exception as problem:
            log.exception("a batch of %s failed in the engine itself", batch.model)
            error = ModelError("engine_failed", f"The inference engine failed. ({problem})")
        if not parts:
            self._finish(pieces, error)
        for part in parts:
            self._run(batch, part)

    def _try_run(self, batch: _Batch, pieces: list[Piece]) -> list[list[Piece]]:
        """Run the pieces together; gives the parts that must be run instead, if that could not be done."""
        model, size = batch.model, sum(piece.count for piece in pieces)
        began = self._clock()
        frame = self._executor.frame(model, size)
        try:
            for name, array in frame.inputs.items():
                _gather(array, name, pieces)
            gathered = self._clock()
            used = time.thread_time()
            outputs = self._executor.execute(model, frame, size)
            self._account(batch, pieces, began, gathered, time.thread_time() - used)
            for name in self._executor.models.card(model).contract.outputs:
                _scatter(outputs[name], name, pieces)
            return []
        except OutOfMemoryError as problem:
            with self._lock:
                self._policies[model].ran_out_of_memory(size)
            log.warning("no room for %d items of %s at once: %s", size, model, problem)
            if size == 1:
                raise ModelError(
                    "engine_failed", f"The device has no room for one run of {model} now; try again. ({problem})"
                ) from problem
            return halves(pieces)
        except ModelError:
            parts: dict[int, list[Piece]] = {}
            for piece in pieces:
                parts.setdefault(id(piece.work.client), []).append(piece)
            if len(parts) == 1:
                raise
            return list(parts.values())
        finally:
            self._executor.release(model, frame)

    def _account(self, batch: _Batch, pieces: list[Piece], began: float, gathered: float, cpu: float) -> None:
        size = sum(piece.count for piece in pieces)
        with self._lock:
            now = self._clock()
            seconds = batch.lane.computed(gathered, now)
            self._policies[batch.model].ran(size, seconds)
            per_item = (gathered - began) / size
            self._assembly[batch.model] = 0.8 * self._assembly.get(batch.model, per_item) + 0.2 * per_item
            counts = self._counts.setdefault(batch.model, Counts())
            counts.items += size
            counts.seconds += seconds
            counts.cpu_seconds += cpu
            counts.batches[size] = counts.batches.get(size, 0) + 1
            if pieces is batch.pieces:
                self._end_run(batch, now)

    def _finish(self, pieces: list[Piece], error: ModelError | None) -> None:
        with self._lock:
            for piece in pieces:
                work = piece.work
                work.left -= piece.count
                if error is not None:
                    work.error = work.error or error
                    self._queues.drop_work(work)  # need not be run to its end
            ended = self._ended({id(piece.work): piece.work for piece in pieces}.values())
        for work in ended:
            work.done(work.error)

    def _ended(self, works: Iterable[Work]) -> list[Work]:
        """Those that are at their end, counted."""
        ended = [work for work in works if not work.left]
        for work in ended:
            self._open -= 1
            if work.error is not None:
                self._failures += 1
            else:
                self._counts[work.model].runs += 1
        return ended


def _gather(batch: NDArray[Any], name: str, pieces: list[Piece]) -> None:
    at = 0
    for piece in pieces:
        batch[at : at + piece.count] = piece.work.inputs[name][piece.start : piece.start + piece.count]
        at += piece.count


def _scatter(batch: NDArray[Any], name: str, pieces: list[Piece]) -> None:
    at = 0
    for piece in pieces:
        piece.work.outputs[name][piece.start : piece.start + piece.count] = batch[at : at + piece.count]
        at += piece.count
