"""A withdrawal at the same moment as submitting, reserving and publishing: whoever is first, no promise is broken."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import fresh_postgresql

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def postgres() -> Iterator[str]:
    """A fresh database."""
    with fresh_postgresql() as url:
        yield url


def race(folder: Path, database: str, kind: str, *, seed: int, rounds: int, seconds: int) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("IMPRIMATUR_TEST")},
        "IMPRIMATUR_TEST_HOME": str(folder / "home"),
        "RACE_FOLDER": str(folder),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": database,
        "KEYS_URL": f"sqlite:///{folder / 'keys.sqlite3'}",
        "PYTHONPATH": str(REPOSITORY),
    }
    command = [sys.executable, str(Path(__file__).with_name("racing.py")), kind, str(seed), str(rounds)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
    assert done.stdout.endswith("held\n")


@pytest.mark.postgres
def test_threads_on_postgresql_never_publish_after_a_withdrawal_nor_count_twice(tmp_path: Path, postgres: str) -> None:
    race(tmp_path, postgres, "threads", seed=1, rounds=5, seconds=500)


def test_processes_on_sqlite_never_publish_after_a_withdrawal_nor_count_twice(tmp_path: Path) -> None:
    race(tmp_path, f"sqlite:///{tmp_path / 'race.sqlite3'}", "processes", seed=1, rounds=3, seconds=500)


@pytest.mark.soak
@pytest.mark.postgres
@pytest.mark.timeout(3600)
def test_threads_on_postgresql_hold_over_many_seeds(tmp_path: Path, postgres: str) -> None:
    race(tmp_path, postgres, "threads", seed=1000, rounds=400, seconds=3500)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_processes_on_sqlite_hold_over_many_seeds(tmp_path: Path) -> None:
    race(tmp_path, f"sqlite:///{tmp_path / 'race.sqlite3'}", "processes", seed=1000, rounds=150, seconds=3500)
