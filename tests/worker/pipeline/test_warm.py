"""Compiled loops: made once without any media in sight, copied into every child, never written by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from worker.media import sandbox
from worker.media.sandbox import isolation
from worker.pipeline import warm

HITS = (
    "\nfrom worker.faces import blend, raster\nfrom numba.core.dispatcher import Dispatcher\n"
    "cells = [cell.cell_contents for module in (blend, raster) for function in vars(module).values()\n"
    "         for cell in (getattr(function, '__closure__', None) or ())]\n"
    "stats = [cell.stats for cell in cells if isinstance(cell, Dispatcher)]\n"
    "result = {'hits': sum(sum(s.cache_hits.values()) for s in stats),\n"
    "          'misses': sum(sum(s.cache_misses.values()) for s in stats)}"
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Return a function that runs a piece of code in a media child."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "tests_child.py").write_text(
        "def run(payload, channel):\n"
        "    scope = {}\n    exec(payload['code'], scope)\n    return scope.get('result', {})\n"
    )
    boot = sandbox._BOOT.replace("import sys;", f"import sys; sys.path.append({str(folder)!r});", 1)
    monkeypatch.setattr(sandbox, "_BOOT", boot)
    return lambda body, **options: sandbox.call(
        "tests_child:run", {"code": body}, timeout=60, reads=[folder], **options
    )


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = warm.compiled_code(tmp_path_factory.mktemp("home"))
    assert folder is not None
    return folder


def test_machine_code_is_made_once(code):
    made = {path: path.stat().st_mtime_ns for path in code.rglob("*.nbc")}
    assert made
    assert warm.compiled_code(code.parent) == code
    assert {path: path.stat().st_mtime_ns for path in code.rglob("*.nbc")} == made
    assert sorted(path.name for path in code.parent.iterdir()) == sorted(["compiled.lock", code.name])


def test_a_child_finds_the_loops_compiled(code, run):
    fresh = run("import os\nfrom worker.pipeline.warm import compile_entry\ncompile_entry({'folder': 'own'})" + HITS)
    given = run(
        "import os\nfrom worker.pipeline.warm import compile_entry\n"
        "compile_entry({'folder': os.environ['NUMBA_CACHE_DIR']})" + HITS,
        compiled=code,
    )
    assert fresh["hits"] == 0
    assert fresh["misses"] > 0
    assert given["hits"] == fresh["misses"]
    assert given["misses"] == 0


def test_a_child_cannot_change_the_code_of_the_next(code, run):
    if not isolation()["files"]:
        pytest.skip("this kernel has no Landlock")
    before = {path: path.read_bytes() for path in code.rglob("*") if path.is_file()}
    reply = run(
        "import os, pathlib\n"
        "own = next(pathlib.Path(os.environ['NUMBA_CACHE_DIR']).rglob('*.nbc')); own.write_bytes(b'x')\n"
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
