"""Taking turns between processes by a file."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Wait for the lock on the file `path`, which is made where it is missing, and hold it. Raises OSError."""
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # freed by the kernel when this process ends, however it ends
        yield
