"""Where the engine listens: a Unix socket at a path of any length, and the lock that says which process owns it.

A socket address holds 107 bytes; a home folder may be deeper. Then the address goes through the folder's descriptor.
"""

import contextlib
import fcntl
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from worker.inference.types import ModelError

_LONGEST_ADDRESS: Final = 107
_BACKLOG: Final = 64
_FLOCK: Final = struct.Struct("@hhqqi0q")  # struct flock of 64-bit Linux


def bind(path: Path) -> socket.socket:
    """A listening, non-blocking socket at `path` for this user only; replaces a stale one. Raises OSError."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)  # the socket file is never open to others, not even for a moment
        try:
            with _address(path) as address:
                listener.bind(address)
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def dial(path: Path, timeout: float) -> socket.socket:
    """A socket connected to the listener at `path`, with this time-out in seconds. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        deadline = time.monotonic() + timeout
        with _address(path) as address:
            while True:
                try:
                    sock.connect(address)
                    break
                except BlockingIOError:  # the queue of unaccepted connections is full: a busy engine, not a dead one
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)
    except BaseException:
        sock.close()
        raise
    return sock


def reach(path: Path, timeout: float) -> socket.socket:
    """As `dial`, for whoever needs a running engine: raises ModelError "engine_unavailable" instead."""
    try:
        return dial(path, timeout)
    except OSError as error:
        raise ModelError(
            "engine_unavailable",
            f"No inference engine listens ({error.strerror or error}). No file was changed. Start the step again; "
            "the engine is started by itself.",
        ) from error


def lock_path(path: Path) -> Path:
    """The file on which the engine of the socket `path` holds a record lock as long as it lives."""
    return Path(f"{path}.lock")


def owner(path: Path) -> int | None:
    """The process id of the engine of the socket `path`, or None if there is none.

    Asked from the kernel (F_GETLK), so an engine that hangs is found and no stale file can name a stranger's process.
    """
    question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        with lock_path(path).open("r+b") as lock:
            kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(lock, fcntl.F_GETLK, question))
    except FileNotFoundError:
        return None
    return None if kind == fcntl.F_UNLCK else int(pid)


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
