"""A busy worker keeps the house in order: with every process at a long job, mails, leases and the ledger would wait."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections

from consent import ledger
from webapp.jobs import upkeep

logger = logging.getLogger(__name__)

EVERY_SECONDS = 5.0  # the scheduler's own ticks, where a process is free for them, come each second


@contextmanager
def upkeep_meanwhile(every: float = EVERY_SECONDS) -> Iterator[None]:
    """Run `upkeep.tick` and the ledger's sequencer each `every` seconds in a thread while the block works.

    Their errors are logged, never raised.
    """
    done = threading.Event()

    def rounds() -> None:
        try:
            while not done.wait(every):
                try:
                    upkeep.tick()
                    ledger.sequence()
                except Exception:
                    logger.exception("A round of upkeep failed; the next one tries again.")
                    connections.close_all()
        finally:
            connections.close_all()

    thread = threading.Thread(target=rounds, name="upkeep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=60)
