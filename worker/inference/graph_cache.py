"""Optimised graphs and compiled engines on disk, so that a process that starts again does not make them again.

An entry is named by a digest of everything it depends on: the model's bytes, the device, the runtime's version, the
processor's instructions and the options. A changed one of these is another name, so nothing is ever stale; what is no
longer used is deleted by age. An entry carries the digest of its own bytes and is renamed into place whole.
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

DIGEST_SIZE: Final = 32
MAX_AGE: Final = 90 * 86400.0  # seconds without use


class GraphCache:
    """A folder of entries; several processes may share it. Errors of the disk cost time only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def key(self, model_sha256: str, device: str, runtime: str, options: Mapping[str, str | int]) -> str:
        """The name of the entry for exactly these circumstances."""
        facts = {
            "model": model_sha256,
            "device": device,
            "runtime": runtime,
            "options": dict(sorted(options.items())),
            "processor": _processor(),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode("utf-8")).hexdigest()

    def read(self, key: str) -> bytes | None:
        """The graph of an entry; None if there is none or it is not whole (then it is removed)."""
        path = self._path(key)
        try:
            stored = path.read_bytes()
            os.utime(path)  # for the deletion by age
        except OSError:
            return None
        digest, data = stored[:DIGEST_SIZE], stored[DIGEST_SIZE:]
        if hashlib.sha256(data).digest() == digest:
            return data
        self.drop(key)
        return None

    def write(self, key: str, graph: Path) -> None:
        """Store the graph in a file under this key. A disk that refuses is no error: it is made again next time."""
        with contextlib.suppress(OSError):
            data = graph.read_bytes()
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, name = tempfile.mkstemp(dir=self._folder, prefix=".part-")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(hashlib.sha256(data).digest())
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(name, self._path(key))
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise

    def drop(self, key: str) -> None:
        """Remove an entry that turned out useless."""
        with contextlib.suppress(OSError):
            self._path(key).unlink(missing_ok=True)

    def folder(self, key: str) -> Path:
        """A folder for a compiler that keeps its own files (and writes them atomically). Raises OSError."""
        path = self._folder / f"{key}.compiled"
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.utime(path)
        return path

    def sweep(self, now: float | None = None) -> int:
        """Delete what was not used for MAX_AGE and what a killed process left half-written; the number of entries."""
        oldest = (time.time() if now is None else now) - MAX_AGE
        swept = 0
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                with contextlib.suppress(OSError):
                    age_limit = oldest if not path.name.startswith(".part-") else oldest + MAX_AGE - 3600
                    if path.stat().st_mtime < age_limit:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
                        swept += 1
        return swept

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.graph"


def _processor() -> str:
    """The machine's kind and instructions: the runtime lays weights out for them."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return f"{platform.machine()} {hashlib.sha256(line.encode('utf-8')).hexdigest()[:16]}"
    return f"{platform.machine()} {platform.processor()}"
