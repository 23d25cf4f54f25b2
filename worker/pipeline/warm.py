"""Machine code of the compiled loops: made once per installation, loaded once per fork server, never by a child.

A child may write nowhere that outlives it, so it can keep no compiler cache, and it must not: a decoder that was taken
over would plant code for the next job. The fork server, which sees no media, compiles or loads the loops before it
forks (`preload` of `worker.pipeline.child`), and every child has them in memory from the start.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np

_ROOM: Final = Path(__file__).resolve().parents[1] / "faces"


def compiled_code(folder: Path) -> Path | None:
    """The folder below `folder` for the machine code of this version, made where it is missing; older ones are removed.

    None when it cannot be made: each fork server then compiles for itself, which costs time and nothing else.
    """
    target = folder / f"compiled-{_stamp()}"
    if target.is_dir():
        return target
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    for old in folder.glob("compiled-*"):
        if old != target:
            shutil.rmtree(old, ignore_errors=True)
    return target


def compile_loops() -> None:
    """Swap a made-up face and paste a square, so that all that is compiled is compiled, or loaded where it was kept."""
    from worker.faces.align import square
    from worker.faces.atlas import LAYOUT
    from worker.faces.landmarks import box_of, pose_of
    from worker.faces.neural.paste import Paster
    from worker.faces.swap import MeshSwapper, prepare_source
    from worker.faces.types import Face

    extent = LAYOUT.max(0) - LAYOUT.min(0)
    points = np.zeros((478, 3), np.float32)
    points[: len(LAYOUT), :2] = (LAYOUT - LAYOUT.min(0)) / extent * (200, 260) + (100, 80)
    skin = np.random.default_rng(0).normal((190, 140, 120), 6, (420, 400, 3))
    picture = np.clip(skin, 0, 255).astype(np.uint8)
    face = Face(box_of(points), 1.0, points, pose_of(points), None)
    swapper = MeshSwapper([prepare_source(picture, face)])
    # Once inside the picture, once cut by its border, once in layers as all blends but the plain one want them: the
    # compiler tells a part of a picture from all of it.
    for shift in (0, -180):
        swapper.swap(picture.copy(), points + np.array([shift, 0, 0], np.float32))
    swapper.layers(picture, points)
    # Within the picture, and over its whole width.
    for side in (64.0, 1000.0):
        Paster(64).paste(picture, square(np.array([200.0, 210.0]), side, 0.0, 64), picture[:64, :64].copy())


def _stamp() -> str:
    """Everything the machine code depends on; the compiler itself checks the processor once more."""
    digest = hashlib.sha256(f"{sys.version} {platform.machine()} {version('numba')} {_ROOM}".encode())
    for file in sorted(_ROOM.rglob("*.py")):
        status = file.stat()
        digest.update(f"{file.name} {status.st_mtime_ns} {status.st_size}".encode())
    return digest.hexdigest()[:16]
