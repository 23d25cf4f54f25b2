"""Work that PostgreSQL undid to break a deadlock is done again, so that nobody outside learns of it.

Everybody locks consents before jobs and in order of their ids, so deadlocks are rare; they are not impossible, because
which consents hang together can change while somebody waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import OperationalError, transaction

TRIES = 8
PAUSE = 0.02  # seconds, doubled each time: the others must get out of the way
BROKEN = frozenset({"40P01", "40001"})  # PostgreSQL: deadlock_detected, serialization_failure

Given = ParamSpec("Given")
Result = TypeVar("Result")


def survives_deadlocks(act: Callable[Given, Result]) -> Callable[Given, Result]:
    """Do `act` again if its transaction was undone. Inside somebody's transaction the error is theirs to handle."""

    @wraps(act)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        for left in reversed(range(TRIES)):
            try:
                return act(*args, **kwargs)
            except OperationalError as error:
                undone = getattr(error.__cause__, "sqlstate", "") in BROKEN
                if not undone or not left or transaction.get_connection().in_atomic_block:
                    raise
                time.sleep(PAUSE * 2 ** (TRIES - 1 - left))
        raise AssertionError("the last try returns or raises")

    return run
