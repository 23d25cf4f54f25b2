"""Several moderators at one moment: one decision, two different people, on both databases."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import fresh_postgresql

ROUNDS = 3


@pytest.fixture
def postgresql() -> Iterator[str]:
    """A fresh database."""
    with fresh_postgresql() as url:
        yield url


def race(url: str, home: Path) -> None:
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "KEYS_URL": f"sqlite:///{home / 'keys.sqlite3'}",
        "IMPRIMATUR_TEST_HOME": str(home),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PYTHONPATH": ".",
    }
    environment.pop("PYTEST_XDIST_WORKER", None)
    (home / "main" / "keys").mkdir(parents=True)
    command = [sys.executable, str(Path(__file__).with_name("review_racing.py")), str(ROUNDS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.strip().endswith("held"), done.stderr[-3000:]


def test_moderators_at_once_on_one_sqlite_file(tmp_path: Path) -> None:
    race(f"sqlite:///{tmp_path / 'main.sqlite3'}", tmp_path)


@pytest.mark.postgres
def test_moderators_at_once_on_postgresql(postgresql: str, tmp_path: Path) -> None:
    race(postgresql, tmp_path)
