"""Run a chain of stages, each in its own thread, over a stream of items.

Queues between stages are bounded, so a slow stage holds the fast ones back and memory does not depend on the length.
One thread per stage keeps the order. An error or the wish to stop ends every stage within a quarter of a second.
The heavy parts (codecs, OpenCV, model calls) release the interpreter lock, which is what makes the overlap real.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from worker.media.codec_time import thread_ends

Item = TypeVar("Item")

_TICK: Final = 0.25
"""Seconds between two looks at whether the caller wants to stop."""
_END: Final[Any] = object()
_STOPPED: Final[Any] = object()


@dataclass(frozen=True)
class Stage(Generic[Item]):
    """`work` changes an item in place or returns another one; `name` is the key of its timer.

    `depth` bounds the items that wait for it; None: as the chain's.
    """

    name: str
    work: Callable[[Item], Item]
    depth: int | None = None


@dataclass
class StageTimes:
    """Seconds a stage worked and waited for input, and the processor time of its own thread.

    Low use with long waits names the slower neighbour; `busy` well above `cpu` means work in a library's threads, or
    a machine that is shared.
    """

    busy: float = 0.0
    cpu: float = 0.0
    waiting: float = 0.0
    items: int = 0


class ChainStoppedError(Exception):
    """Another stage failed or the caller wants to stop; only ever seen inside a stage."""


class _Belt:
    """What waits between two stages: at most `depth` items, from one thread to one other, in order.

    Both ends sleep until there is something to do or the chain ends: threads that look about now and then took 5 ms of
    processor time a frame where a frame takes half a second of inference. The queues are those written in C.
    """

    def __init__(self, depth: int) -> None:
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._places: queue.SimpleQueue[bool] = queue.SimpleQueue()
        for _ in range(depth):
            self._places.put(True)

    def put(self, item: Any) -> None:
        """Wait for a place. Raises ChainStoppedError when the chain ends first."""
        if not self._places.get():
            raise ChainStoppedError
        self._items.put(item)

    def get(self) -> Any:
        """Wait for an item; `_END` is the last one. Raises ChainStoppedError when the chain ends first."""
        item = self._items.get()
        if item is _STOPPED:
            raise ChainStoppedError
        self._places.put(True)
        return item

    def stop(self) -> None:
        """Wake whoever waits at either end."""
        self._places.put(False)
        self._items.put(_STOPPED)


class _State:
    """Whether the chain is ending, and why."""

    def __init__(self, belts: Sequence[_Belt]) -> None:
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self._lock = threading.Lock()
        self._belts = belts

    def fail(self, error: BaseException) -> None:
        """End every stage; the first error that is not of the ending itself is kept."""
        with self._lock:
            if self.error is None and not isinstance(error, ChainStoppedError):
                self.error = error
            if self.stop.is_set():
                return
            self.stop.set()
        for belt in self._belts:
            belt.stop()


class Stages(Generic[Item]):
    """A chain: `source` named `source_name`, then `stages`, then the last of them consumes.

    `depth` is how many items may wait before each stage. `raise_if_stopped` is asked between items.
    """

    def __init__(
        self,
        source_name: str,
        stages: Sequence[Stage[Item]],
        *,
        depth: int = 2,
        raise_if_stopped: Callable[[], None] | None = None,
    ) -> None:
        self._source_name = source_name
        self._stages = tuple(stages)
        self._asked = raise_if_stopped
        self._belts = tuple(_Belt(stage.depth or depth) for stage in self._stages)
        self._state = _State(self._belts)
        self.times: dict[str, StageTimes] = {name: StageTimes() for name in (source_name, *(s.name for s in stages))}

    def raise_if_stopped(self) -> None:
        """For waits inside a stage: raises ChainStoppedError when the chain is ending, or the caller's own error."""
        if self._state.stop.is_set():
            raise ChainStoppedError
        if self._asked is not None:
            self._asked()

    def run(self, source: Iterable[Item]) -> None:
        """Feed every item of `source` through all stages. Raises the first error of any stage, once all have ended."""
        threads = [threading.Thread(target=self._guard, args=(self._feed, source, self._belts[0]), daemon=True)]
        for number, stage in enumerate(self._stages):
            following = self._belts[number + 1] if number + 1 < len(self._belts) else None
            arguments = (self._serve, stage, self._belts[number], following)
            threads.append(threading.Thread(target=self._guard, args=arguments, daemon=True))
        for thread in threads:
            thread.start()
        for thread in threads:
            while True:
                thread.join(_TICK)
                if not thread.is_alive():
                    break
                self._look()
        if self._state.error is not None:
            raise self._state.error

    def _look(self) -> None:
        """End the chain if the caller wants it to."""
        try:
            self.raise_if_stopped()
        except BaseException as error:
            self._state.fail(error)

    def _guard(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except BaseException as error:
            self._state.fail(error)
        finally:
            thread_ends()

    def _feed(self, source: Iterable[Item], out: _Belt) -> None:
        times = self.times[self._source_name]
        items = iter(source)
        try:
            while True:
                self.raise_if_stopped()
                begin, used = time.perf_counter(), time.thread_time()
                item = next(items, _END)
                times.busy += time.perf_counter() - begin
                times.cpu += time.thread_time() - used
                if item is _END:
                    break
                times.items += 1
                out.put(item)
        finally:
            if isinstance(items, Iterator) and hasattr(items, "close"):
                items.close()
        out.put(_END)

    def _serve(self, stage: Stage[Item], inbox: _Belt, out: _Belt | None) -> None:
        times = self.times[stage.name]
        while True:
            self.raise_if_stopped()
            begin = time.perf_counter()
            item = inbox.get()
            middle, used = time.perf_counter(), time.thread_time()
            times.waiting += middle - begin
            if item is _END:
                break
            result = stage.work(item)
            times.busy += time.perf_counter() - middle
            times.cpu += time.thread_time() - used
            times.items += 1
            if out is not None:
                out.put(result)
        if out is not None:
            out.put(_END)
