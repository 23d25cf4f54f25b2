"""How much processor time of this process its codecs took: in threads of their own, and in ours that called them.

Measured where it happens: codecs beside other work, with the caches full of that, take more than they do alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class _Spent:
    """Seconds inside calls of codecs, and of threads of ours that have ended, whatever they did."""

    called: float = 0.0
    ended: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


_spent = _Spent()


@contextmanager
def called() -> Iterator[None]:
    """Round each call of a codec."""
    begin = time.thread_time()
    try:
        yield
    finally:
        with _spent.lock:
            _spent.called += time.thread_time() - begin


def thread_ends() -> None:
    """A thread of ours says this last: what the process took beyond all of these was in threads of libraries."""
    with _spent.lock:
        _spent.ended += time.thread_time()


def codec_seconds() -> float:
    """What codecs took so far; asked from the main thread, while no other thread that does work is running."""
    with _spent.lock:
        return max(0.0, time.process_time() - time.thread_time() - _spent.ended + _spent.called)
