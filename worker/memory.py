"""Where memory goes that was freed: back to the system, or kept for the next who asks."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Final

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of mallopt(3)
_LARGEST: Final = 32 << 20  # more than that glibc maps apart in any case
_NEVER: Final = 2**31 - 1


def give_back() -> None:
    """Let the C library return what is free inside its heap (malloc_trim(3)); some milliseconds. Nothing with others.

    Between many arrays of a few hundred kilobytes that came and went, glibc keeps 100 to 200 MB after one film is read.
    """
    with suppress(OSError, AttributeError):  # musl has no such function, and no such habit
        ctypes.CDLL(None).malloc_trim(0)


def keep_freed() -> None:
    """Let the C library keep what is freed, of all threads together, and hand it out again. For a process that works
    through one file and ends; call it before the threads that do it are started. Nothing with another library.

    An encoder takes some 200 MB and a new one is opened every 48 frames: fresh pages for each, which the kernel clears
    and a virtual machine asks its host for, cost 3 ms of processor time a frame at 1080p.
    """
    with suppress(OSError, AttributeError):
        set_option = ctypes.CDLL(None).mallopt
        for option, value in ((_TRIM_THRESHOLD, _NEVER), (_MMAP_THRESHOLD, _LARGEST), (_ARENA_MAX, 1)):
            set_option(option, value)
