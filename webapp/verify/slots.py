"""At most so many verifications at once on one machine, whatever number of server processes it runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

RETRY_SECONDS = 10


@dataclass(frozen=True)
class Pool:
    """So many at once of one kind of work."""

    name: str
    count: int


LOOKS = Pool("verify", 2)
FETCHES = Pool("fetch", 4)


class BusyError(Exception):
    """All slots are taken."""

    code = "busy"
    status = 429
    retry_after = RETRY_SECONDS

    def __init__(self) -> None:
        super().__init__(
            "Too many files are being checked at the moment; yours was not looked at and not kept. "
            f"Try again in {RETRY_SECONDS} seconds."
        )


@contextlib.contextmanager
def slot(pool: Pool = LOOKS) -> Iterator[None]:
    """Hold one of the pool's slots for the length of a `with` block; a process that dies gives its slot back.

    Raises BusyError at once when none is free: waiting would only move the queue into our memory.
    """
    folder = Path(settings.HOME) / "run"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(pool.count):
        descriptor = os.open(folder / f"{pool.name}-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        try:
            yield
        finally:
            os.close(descriptor)
        return
    raise BusyError
