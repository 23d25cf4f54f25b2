"""What a worker freed is the system's again, or kept for the next segment."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from worker.memory import give_back

GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do as they do")


def resident() -> int:
    """MiB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20


@GLIBC
def test_freed_memory_inside_the_heap_is_given_back() -> None:
    # Blocks too small for pages of their own (128 KiB), one kept at the end so that the heap cannot shrink from there.
    blocks = [bytearray(b"x" * 60_000) for _ in range(3000)]
    last = bytearray(b"x" * 60_000)
    del blocks
    before = resident()
    give_back()
    assert len(last) == 60_000
    assert resident() < before - 80


# Buffers as an encoder takes them, in a thread, freed, and taken again; tells the page faults of the second time.
_TWICE = """
import resource, threading
from worker.memory import keep_freed
{first}
def work():
    held = [bytearray(8 << 20) for _ in range(12)]
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for turn in range(2):
    before = faults()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
print(faults() - before)
"""


@GLIBC
def test_memory_that_is_kept_is_handed_out_again_without_new_pages() -> None:
    found = {}
    for first in ("pass", "keep_freed()"):
        script = _TWICE.format(first=first)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
        found[first] = int(done.stdout)
    assert found["pass"] > 5_000
    assert found["keep_freed()"] < 500
