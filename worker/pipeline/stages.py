"""Run a chain of stages, each in its own thread, over a stream of items.

Queues between stages are bounded, so a slow stage holds the fast ones back and memory does not depend on the length.
One thread per stage keeps the order. An error or the wish to stop ends every stage within a tenth of a second.
The heavy parts (codecs, OpenCV, model calls) release the interpreter lock, which is what makes the overlap real.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from worker.media.codec_time import thread_ends

Item = TypeVar("Item")

_TICK: Final = 0.05
_END: Final[Any] = object()


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


@dataclass
class _State:
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        with self.lock:
            if self.error is None and not isinstance(error, ChainStoppedError):
                self.error = error
        self.stop.set()


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
        self._depth = depth
        self._asked = raise_if_stopped
        self._state = _State()
        self.times: dict[str, StageTimes] = {name: StageTimes() for name in (source_name, *(s.name for s in stages))}

    def raise_if_stopped(self) -> None:
        """For waits inside a stage: raises ChainStoppedError when the chain is ending, or the caller's own error."""
        if self._state.stop.is_set():
            raise ChainStoppedError
        if self._asked is not None:
            self._asked()

    def run(self, source: Iterable[Item]) -> None:
        """Feed every item of `source` through all stages. Raises the first error of any stage, once all have ended."""
        queues: list[queue.Queue[Any]] = [queue.Queue(stage.depth or self._depth) for stage in self._stages]
        threads = [threading.Thread(target=self._guard, args=(self._feed, source, queues[0]), daemon=True)]
        for number, stage in enumerate(self._stages):
            following = queues[number + 1] if number + 1 < len(queues) else None
            arguments = (self._serve, stage, queues[number], following)
            threads.append(threading.Thread(target=self._guard, args=arguments, daemon=True))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._state.error is not None:
            raise self._state.error

    def _guard(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except BaseException as error:
            self._state.fail(error)
        finally:
            thread_ends()

    def _feed(self, source: Iterable[Item], out: queue.Queue[Any]) -> None:
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
                self._put(out, item)
        finally:
            if isinstance(items, Iterator) and hasattr(items, "close"):
                items.close()
        self._put(out, _END)

    def _serve(self, stage: Stage[Item], inbox: queue.Queue[Any], out: queue.Queue[Any] | None) -> None:
        times = self.times[stage.name]
        while True:
            begin = time.perf_counter()
            item = self._get(inbox)
            middle, used = time.perf_counter(), time.thread_time()
            times.waiting += middle - begin
            if item is _END:
                break
            result = stage.work(item)
            times.busy += time.perf_counter() - middle
            times.cpu += time.thread_time() - used
            times.items += 1
            if out is not None:
                self._put(out, result)
        if out is not None:
            self._put(out, _END)

    def _put(self, out: queue.Queue[Any], item: Any) -> None:
        while True:
            self.raise_if_stopped()
            try:
                return out.put(item, timeout=_TICK)
            except queue.Full:
                continue

    def _get(self, inbox: queue.Queue[Any]) -> Any:
        while True:
            self.raise_if_stopped()
            try:
                return inbox.get(timeout=_TICK)
            except queue.Empty:
                continue
