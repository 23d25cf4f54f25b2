"""Memory that was freed goes back to the system, not only to the allocator."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Let the C library return what is free inside its heap (malloc_trim(3)); some milliseconds. Nothing with others.

    Between many arrays of a few hundred kilobytes that came and went, glibc keeps 100 to 200 MB after one film is read.
    """
    with suppress(OSError, AttributeError):  # musl has no such function, and no such habit
        ctypes.CDLL(None).malloc_trim(0)
