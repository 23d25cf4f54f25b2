"""Machine code of the compiled loops, made once per installation and handed to every media child.

A child may write nowhere that outlives it, so it can keep no compiler cache, and compiling takes it a second. It
cannot be given a shared cache to write either: a decoder that was taken over would plant code for the next job. So a
child that sees no media compiles once into a folder of its own, and every job's child gets a private copy.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from worker.media.errors import ChildError, MediaError
from worker.media.sandbox import Limits, call

_ROOM: Final = Path(__file__).resolve().parents[1] / "faces"
_SECONDS: Final = 120.0


def compiled_code(folder: Path) -> Path | None:
    """Return the folder of machine code below `folder`, making it first where it is missing or out of date.

    None when it cannot be made: the children then compile for themselves, which costs time and nothing else.
    """
    target = folder / f"compiled-{_stamp()}"
    if target.is_dir():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "compiled.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.is_dir():
                _make(folder, target)
    except (OSError, MediaError, ChildError):
        return None
    return target


def compile_entry(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Entry of the child: run one swap of a made-up face, with the compiler's cache in payload["folder"]."""
    os.environ["NUMBA_CACHE_DIR"] = str(payload["folder"])  # read when numba is imported, below
    import numpy as np

    from worker.faces.atlas import LAYOUT
    from worker.faces.landmarks import box_of, pose_of
    from worker.faces.swap import MeshSwapper, prepare_source
    from worker.faces.types import Face

    extent = LAYOUT.max(0) - LAYOUT.min(0)
    points = np.zeros((478, 3), np.float32)
    points[: len(LAYOUT), :2] = (LAYOUT - LAYOUT.min(0)) / extent * (200, 260) + (100, 80)
    skin = np.random.default_rng(0).normal((190, 140, 120), 6, (420, 400, 3))
    picture = np.clip(skin, 0, 255).astype(np.uint8)
    face = Face(box_of(points), 1.0, points, pose_of(points), None)
    MeshSwapper([prepare_source(picture, face)]).swap(picture.copy(), points)
    return {}


def _make(folder: Path, target: Path) -> None:
    part = Path(tempfile.mkdtemp(prefix="compiled-", suffix=".part", dir=folder))
    try:
        call(
            "worker.pipeline.warm:compile_entry",
            {"folder": str(part)},
            limits=Limits(cpu_seconds=int(_SECONDS)),
            timeout=_SECONDS,
            writes=[part],
        )
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for old in folder.glob("compiled-*"):
        if old != target and old.is_dir() and not old.name.endswith(".part"):
            shutil.rmtree(old, ignore_errors=True)


def _stamp() -> str:
    """Everything the machine code depends on; the compiler itself checks the processor once more."""
    digest = hashlib.sha256(f"{sys.version} {platform.machine()} {version('numba')} {_ROOM}".encode())
    for file in sorted(_ROOM.glob("*.py")):
        status = file.stat()
        digest.update(f"{file.name} {status.st_mtime_ns} {status.st_size}".encode())
    return digest.hexdigest()[:16]
