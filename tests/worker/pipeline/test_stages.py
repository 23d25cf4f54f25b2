"""The chain of threads: order kept, queues bounded, errors and the wish to stop end it everywhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from worker.pipeline.stages import Stage, Stages


class BrokenError(Exception):
    pass


def _threads() -> int:
    return threading.active_count()


def test_items_keep_their_order_through_uneven_stages():
    seen: list[int] = []

    def uneven(item: int) -> int:
        time.sleep(0.002 * (item % 3))
        return item * 2

    def collect(item: int) -> int:
        seen.append(item)
        return item

    chain: Stages[int] = Stages("source", [Stage("uneven", uneven), Stage("collect", collect)])
    chain.run(range(100))
    assert seen == [number * 2 for number in range(100)]
    assert chain.times["collect"].items == 100
    assert chain.times["uneven"].busy > 0.1


def test_a_fast_source_waits_for_a_slow_stage():
    made = done = 0
    ahead: list[int] = []

    def source() -> Iterator[int]:
        nonlocal made
        for number in range(40):
            made += 1
            yield number

    def slow(item: int) -> int:
        nonlocal done
        time.sleep(0.002)
        done += 1
        ahead.append(made - done)
        return item

    Stages("source", [Stage("slow", slow)], depth=2).run(source())
    assert max(ahead) <= 4


@pytest.mark.parametrize("where", ["source", "first", "last"])
def test_an_error_anywhere_ends_all_and_reaches_the_caller(where):
    before = _threads()
    closed = []

    def source() -> Iterator[int]:
        try:
            for number in range(10_000):
                if where == "source" and number == 5:
                    raise BrokenError
                yield number
        finally:
            closed.append(True)

    def stage(name: str) -> Stage[int]:
        def work(item: int) -> int:
            if where == name and item == 5:
                raise BrokenError
            return item

        return Stage(name, work)

    with pytest.raises(BrokenError):
        Stages("source", [stage("first"), stage("middle"), stage("last")]).run(source())
    assert _threads() == before
    assert closed == [True]


def test_the_wish_to_stop_ends_a_chain_that_waits():
    before, stop = _threads(), threading.Event()

    def raise_if_stopped() -> None:
        if stop.is_set():
            raise BrokenError

    def stuck(item: int) -> int:
        while True:
            chain.raise_if_stopped()
            time.sleep(0.01)

    chain: Stages[int] = Stages("source", [Stage("stuck", stuck)], raise_if_stopped=raise_if_stopped)
    threading.Timer(0.1, stop.set).start()
    begin = time.monotonic()
    with pytest.raises(BrokenError):
        chain.run(range(100))
    assert time.monotonic() - begin < 20
    assert _threads() == before
