"""What the kernel says of processes, for tests that kill them."""

from __future__ import annotations

import time
from pathlib import Path


def children(process: str | int) -> list[str]:
    """The ids of a process's children; none if it is gone. "self" is the test's own process."""
    try:
        tasks = list(Path(f"/proc/{process}/task").iterdir())
        return [pid for task in tasks for pid in (task / "children").read_text().split()]
    except OSError:
        return []


def media_children() -> list[str]:
    """The ids of all media children that this process's fork servers have started and that still run."""
    servers = [pid for pid in children("self") if "worker.media.forkserver" in _command(pid)]
    return [pid for server in servers for pid in children(server)]


def alive(process: str | int) -> bool:
    """Whether the process runs; one that has ended and only waits to be collected does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def ends(process: str | int, seconds: float = 10.0) -> bool:
    """Whether the process ends within so many seconds."""
    deadline = time.monotonic() + seconds
    while alive(process) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(process)


def _command(process: str) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""
