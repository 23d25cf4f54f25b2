"""Compiled loops: made before any media is in sight, in every child from the start, never written by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from worker.media import forkserver, sandbox
from worker.media.forkserver import ForkServer
from worker.media.sandbox import isolation
from worker.pipeline import warm

HITS = (
    "\nfrom worker.faces import blend, raster\nfrom worker.faces.neural import paste\n"
    "from numba.core.dispatcher import Dispatcher\n"
    "cells = [cell.cell_contents for module in (blend, raster, paste) for function in vars(module).values()\n"
    "         for cell in (getattr(function, '__closure__', None) or ())]\n"
    "stats = [cell.stats for cell in cells if isinstance(cell, Dispatcher)]\n"
    "result = {'hits': sum(sum(s.cache_hits.values()) for s in stats),\n"
    "          'misses': sum(sum(s.cache_misses.values()) for s in stats)}"
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Return a function that runs a piece of code in a media child with the loops compiled."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "tests_child.py").write_text(
        "from worker.pipeline.child import preload\n"
        "def run(payload, channel):\n"
        "    scope = {}\n    exec(payload['code'], scope)\n    return scope.get('result', {})\n"
    )

    def start(body: str, **options: Path) -> dict:
        monkeypatch.setattr(forkserver, "SERVER", ForkServer([folder]))
        return sandbox.call("tests_child:run", {"code": body}, timeout=60, reads=[folder], **options)  # type: ignore[arg-type]

    return start


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = warm.compiled_code(tmp_path / "home")
    assert folder is not None
    return folder


def test_the_first_fork_server_compiles_and_the_next_one_loads(code, run):
    first = run(HITS, compiled=code)
    made = {path: path.stat().st_mtime_ns for path in code.rglob("*.nbc")}
    second = run(HITS, compiled=code)
    assert first["hits"] == 0
    assert first["misses"] > 0
    assert len(made) == first["misses"]
    assert second == {"hits": first["misses"], "misses": 0}
    assert {path: path.stat().st_mtime_ns for path in code.rglob("*.nbc")} == made
    assert warm.compiled_code(code.parent) == code


def test_a_swap_in_a_child_compiles_nothing(code, run):
    swap = "from worker.pipeline.warm import compile_loops\ncompile_loops()\n"
    before, after = run(HITS, compiled=code), run(swap + HITS, compiled=code)
    assert after["hits"] == before["misses"]
    assert after["misses"] == 0


def test_a_child_cannot_change_the_code_of_the_next(code, run):
    if not isolation()["files"]:
        pytest.skip("this kernel has no Landlock")
    run("", compiled=code)
    before = {path: path.read_bytes() for path in code.rglob("*") if path.is_file()}
    assert before
    reply = run(
        "import pathlib\n"
        f"try:\n    pathlib.Path({str(next(iter(before)))!r}).write_bytes(b'x'); result = {{'planted': True}}\n"
        "except OSError:\n    result = {'planted': False}",
        compiled=code,
    )
    assert reply == {"planted": False}
    assert {path: path.read_bytes() for path in code.rglob("*") if path.is_file()} == before


def test_old_code_is_removed_when_the_source_changed(tmp_path, monkeypatch):
    old = tmp_path / "compiled-0123"
    old.mkdir()
    new = warm.compiled_code(tmp_path)
    assert new is not None
    assert not old.exists()


def test_a_home_that_cannot_be_written_costs_time_only(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert warm.compiled_code(blocked / "home") is None
