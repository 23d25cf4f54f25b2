"""Processor time of the processes of a run, what other programs took meanwhile, and what a GPU used.

Processor time holds on a busy machine where the clock does not. Where the clock cannot be avoided, because overlap is
what is measured, `Reading.cores_left` says how much of the machine there was for us.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from worker.inference.endpoint import owner
from worker.media.sandbox import processor_seconds

_BUSY: Final = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, steal of /proc/stat (proc(5))
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Reading:
    """Seconds between two moments: by the clock, and of processor time by process.

    `children` are the media children that ended in between, with their start; `others` are programs of somebody else.
    """

    wall: float
    caller: float
    children: float
    engine: float
    others: float
    cores: int

    @property
    def cores_left(self) -> float:
        """How many cores other programs left to us, on average. Of one run, not of a difference of two."""
        return min(self.cores, max(0.1, self.cores - self.others / self.wall)) if self.wall > 0 else float(self.cores)

    def minus(self, other: Reading) -> Reading:
        """What this took beyond `other`: a longer run less a shorter one."""
        return Reading(
            self.wall - other.wall,
            self.caller - other.caller,
            self.children - other.children,
            self.engine - other.engine,
            self.others - other.others,
            self.cores,
        )

    def plus(self, other: Reading) -> Reading:
        """Both, one after the other."""
        return Reading(
            self.wall + other.wall,
            self.caller + other.caller,
            self.children + other.children,
            self.engine + other.engine,
            self.others + other.others,
            self.cores,
        )


class Meter:
    """Counts from its making; `engine` is the socket of an engine to be counted too."""

    def __init__(self, engine: Path | None = None) -> None:
        self._pid = owner(engine) if engine is not None else None
        self._begin = self._now()

    def read(self) -> Reading:
        """What was used since the making."""
        wall, caller, children, engine, machine = (
            now - before for now, before in zip(self._now(), self._begin, strict=True)
        )
        others = max(0.0, machine - caller - children - engine)
        return Reading(wall, caller, children, engine, others, os.cpu_count() or 1)

    @property
    def elapsed(self) -> float:
        """Seconds by the clock since the making."""
        return time.perf_counter() - self._begin[0]

    def _now(self) -> tuple[float, float, float, float, float]:
        engine = process_seconds(self._pid) if self._pid is not None else 0.0
        return time.perf_counter(), time.process_time(), processor_seconds(), engine, _machine_seconds()


def process_seconds(pid: int) -> float:
    """Processor time of another process of ours and all its threads. Raises OSError if it is gone."""
    return time.clock_gettime(~pid << 3 | 2)  # the clock's number as clock_getcpuclockid(3) makes it


def forget_peak(pid: int) -> None:
    """Let `peak_bytes` of a process begin anew (proc(5), clear_refs). Raises OSError if it is gone."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """The largest resident set of a process (`VmHWM`, proc(5)) since `forget_peak`. Raises OSError if it is gone."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


class PeakMemory:
    """The largest resident sets while the block runs, in bytes: this process and its children, the engine, and both at
    one time. Looked at each `_LOOK` seconds; pages that processes share count in each, so a sum is an upper bound."""

    _LOOK: Final = 0.25

    def __init__(self, engine: Path) -> None:
        """`engine` is the socket of the engine to be counted."""
        self._engine = owner(engine)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak memory", daemon=True)
        self.own, self.engine, self.all = 0, 0, 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            engine = _resident([self._engine]) if self._engine is not None else 0
            own = _resident(pid for pid in _tree(os.getpid()) if pid != self._engine)
            self.own, self.engine = max(self.own, own), max(self.engine, engine)
            self.all = max(self.all, own + engine)
            if self._done.wait(self._LOOK):
                return


def _tree(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                for child in (task / "children").read_text().split():
                    yield from _tree(int(child))


def _resident(pids: Iterable[int]) -> int:
    """Resident bytes of processes together; one that has ended has none."""
    pages = 0
    for pid in pids:
        with suppress(OSError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * _PAGE


def _machine_seconds() -> float:
    """Processor time that the whole machine spent so far."""
    numbers = Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    return sum(int(numbers[index]) for index in _BUSY) / _TICKS


class Gpu:
    """The first NVIDIA device by its management library (NVML); `Gpu.find()` gives None where there is none."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._library = library
        self._handle = handle

    @classmethod
    def find(cls) -> Self | None:
        """The device, if there is one that says how much energy it used."""
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL("libnvidia-ml.so.1")
            handle = ctypes.c_void_p()
            if library.nvmlInit_v2() == 0 and library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)) == 0:
                return cls(library, handle)
        return None

    def joules(self) -> float | None:
        """Energy used since the driver was loaded; None where the device does not count it (before Volta)."""
        used = ctypes.c_ulonglong()
        if self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle, ctypes.byref(used)) != 0:
            return None
        return used.value / 1000

    def memory(self) -> int | None:
        """Bytes of the device's memory in use, by anybody."""
        found = _NvmlMemory()
        if self._library.nvmlDeviceGetMemoryInfo(self._handle, ctypes.byref(found)) != 0:
            return None
        return int(found.used)


class _NvmlMemory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]
