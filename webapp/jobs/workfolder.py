"""Plain bytes exist only in a folder of one start of one task, which nobody outlives.

The folder's lock is held by the process; whatever death it dies, the lock goes with it and `upkeep.sweep_folders`
removes what is left.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

LOCK_FILE = "lock"


def root() -> Path:
    """Where the folders of all running tasks lie."""
    return Path(settings.WORK_DIR) / "tasks"


@contextmanager
def work_folder(name: str) -> Iterator[Path]:
    """A new private folder (0700), gone with everything in it when the block ends, however it ends."""
    folder = root() / f"{name}-{secrets.token_hex(6)}"
    folder.mkdir(parents=True, mode=0o700)
    descriptor = -1
    try:
        hidden = folder / f".{LOCK_FILE}"
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        hidden.rename(folder / LOCK_FILE)  # the sweeper never sees a lock that is not held yet
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if descriptor >= 0:
            os.close(descriptor)
