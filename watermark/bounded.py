"""A bound in time for calls that have none of their own: a dripping server, a hardware module that hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, work: Callable[[], T], late: Callable[[str], Exception]) -> T:
    """What `work` returns or raises; `late(words)` is raised after `seconds`.

    Nothing can end a thread from outside: late work goes on by itself, and its result is thrown away.
    """
    returned: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(work())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True, name="bounded")
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    if not returned:
        raise late(f"no whole answer within {seconds:g} s")
    return returned[0]
