"""Many writers, several sequencers, and deaths in the middle: the log stays one log, on both databases."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.databases import fresh_postgresql

PRELUDE = """
import os, sys, threading
os.environ["DATABASE_URL"] = {url!r}
os.environ["KEYS_URL"] = {keys!r}
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django
django.setup()
from django.core.management import call_command
from django.db import connection, connections, transaction
from consent import ledger
from consent.ledger import verifying
from consent.ledger.models import LedgerCheckpoint, LedgerEntry
"""

MIGRATE = """
for alias in ("default", "keys"):
    for app in ("consent", "screening"):
        call_command("migrate", app, database=alias, verbosity=0)
with transaction.atomic():
    ledger.append("audit", "first", {{}})
print("migrated")
"""

RACE = """
errors, done = [], threading.Event()
def write(number):
    try:
        for turn in range(20):
            with transaction.atomic():
                for each in range(3):
                    ledger.append("audit", "noted", {{"by": number, "turn": turn, "each": each}})
                if turn % 5 == 4:
                    transaction.set_rollback(True)
    except Exception as error:
        errors.append(repr(error))
    finally:
        connections.close_all()
def place():
    try:
        while not done.is_set():
            ledger.sequence(7)
    except Exception as error:
        errors.append(repr(error))
    finally:
        connections.close_all()
writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
placers = [threading.Thread(target=place) for _ in range(3)]
[t.start() for t in writers + placers]; [t.join() for t in writers]
done.set(); [t.join() for t in placers]
while ledger.sequence():
    pass
assert not errors, errors
count = 1 + 4 * 16 * 3
assert LedgerEntry.objects.filter(seq__isnull=False).count() == LedgerEntry.objects.count() == count
report = verifying.verify()
assert report.ok and report.covered == count, report
assert report.checkpoints > 3
print("held")
"""

WORK = """
number = 0
while True:
    with transaction.atomic():
        for each in range(5):
            ledger.append("audit", "noted", {{"number": number, "each": each}})
    number += 1
    ledger.sequence(3)
    print("at work", flush=True)
"""

AFTER = """
while ledger.sequence():
    pass
report = verifying.verify()
assert report.ok and not report.waiting and report.covered == report.leaves > 5, report
print("held")
"""


def _start(script: str, url: str, home: Path) -> subprocess.Popen[str]:
    keys = f"sqlite:///{home / 'keys.sqlite3'}"
    (home / "main" / "keys").mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "IMPRIMATUR_TEST_HOME": str(home), "PYTHONPATH": "."}
    environment.pop("PYTEST_XDIST_WORKER", None)
    return subprocess.Popen(
        [sys.executable, "-c", (PRELUDE + script).format(url=url, keys=keys)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _run(script: str, url: str, home: Path, last: str = "held") -> None:
    out, errors = _start(script, url, home).communicate(timeout=200)
    assert out.strip().endswith(last), errors


def _killed_in_the_middle(url: str, home: Path, rounds: int) -> None:
    rng = random.Random(7)
    for _ in range(rounds):
        child = _start(WORK, url, home)
        assert child.stdout is not None
        assert child.stdout.readline().strip() == "at work", child.communicate()[1]
        time.sleep(rng.uniform(0.0, 0.4))  # any moment of its work will do
        child.send_signal(signal.SIGKILL)
        child.communicate()
    _run(AFTER, url, home)


def test_writers_and_sequencers_at_once_on_one_sqlite_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.sqlite3'}"
    _run(MIGRATE + RACE, url, tmp_path)


def test_a_sequencer_killed_at_any_moment_leaves_one_log_on_sqlite(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.sqlite3'}"
    _run(MIGRATE, url, tmp_path, "migrated")
    _killed_in_the_middle(url, tmp_path, 2)


@pytest.mark.postgres
def test_writers_and_sequencers_at_once_on_postgresql(tmp_path: Path) -> None:
    with fresh_postgresql() as url:
        _run(MIGRATE + RACE, url, tmp_path)


@pytest.mark.soak  # on SQLite in every run
@pytest.mark.postgres
def test_a_sequencer_killed_at_any_moment_leaves_one_log_on_postgresql(tmp_path: Path) -> None:
    with fresh_postgresql() as url:
        _run(MIGRATE, url, tmp_path, "migrated")
        _killed_in_the_middle(url, tmp_path, 2)


@pytest.mark.soak
def test_forty_deaths_leave_one_log(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.sqlite3'}"
    _run(MIGRATE, url, tmp_path, "migrated")
    _killed_in_the_middle(url, tmp_path, 40)
