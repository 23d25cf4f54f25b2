"""How the hot loops of the reader are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` with numba at its first call, releasing the GIL, and keep the machine code where possible.

    numba refuses `cache=True` when neither the source folder nor the user's cache folder can be written (read-only
    image, clean environment); then the code is compiled afresh in each process instead.
    """
    # Python's check of every divisor keeps loops from being vectorised.
    try:
        return njit(cache=True, nogil=True, fastmath=True, error_model="numpy")(function)
    except RuntimeError:
        return njit(nogil=True, fastmath=True, error_model="numpy")(function)
