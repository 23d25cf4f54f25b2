"""What a worker freed is the system's again."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from worker.memory import give_back


def resident() -> int:
    """MiB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries give back by themselves")
def test_freed_memory_inside_the_heap_is_given_back() -> None:
    # Blocks too small for pages of their own (128 KiB), one kept at the end so that the heap cannot shrink from there.
    blocks = [bytearray(b"x" * 60_000) for _ in range(3000)]
    last = bytearray(b"x" * 60_000)
    del blocks
    before = resident()
    give_back()
    assert len(last) == 60_000
    assert resident() < before - 80
