"""The private folder of a media child: gone with the child, and swept later if its parent was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final

PREFIX: Final = "imprimatur-media-"
SWEEP_SECONDS: Final = 60.0


class PrivateFolder:
    """A new folder (0700) that is locked as long as this process lives and removed by `close`.

    Making one removes those of killed processes in the same place first, at most once a minute.
    """

    _swept_at: ClassVar[float] = -SWEEP_SECONDS

    def __init__(self) -> None:
        if time.monotonic() - PrivateFolder._swept_at >= SWEEP_SECONDS:
            PrivateFolder._swept_at = time.monotonic()
            sweep()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = _lock(self.path)

    def close(self) -> None:
        """Remove the folder and give its lock back; what cannot be removed now, a later sweep removes."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def sweep() -> int:
    """Remove the folders whose process is gone, in the system's folder for temporary files; how many."""
    count = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another process sweeps too, or it is somebody else's
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            if time.time() - found.st_mtime < SWEEP_SECONDS:  # it may be about to be locked
                continue
            lock = _lock(folder)
            if lock is not None:
                try:
                    shutil.rmtree(folder, ignore_errors=True)
                    count += 1
                finally:
                    os.close(lock)
    return count


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock and loses it with the process; None if another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
