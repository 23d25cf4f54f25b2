"""Databases of a test's own: fresh ones on a PostgreSQL server, and old migrations brought up to date."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

_MIGRATING = """
import django
django.setup()
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

def at(name):
    executor = MigrationExecutor(connection)
    executor.migrate([(APP, name)])
    return executor.loader.project_state([(APP, name)]).apps.get_model
"""


@contextmanager
def fresh_postgresql() -> Iterator[str]:
    """Yield the address of an empty database on TEST_POSTGRES_URL's server; drop it after, skip without."""
    server = os.environ.get("TEST_POSTGRES_URL")
    if not server:
        pytest.skip("TEST_POSTGRES_URL names no PostgreSQL server")
    import psycopg

    name = f"imprimatur_test_{secrets.token_hex(6)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        try:
            yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def run_migrating(app: str, script: str, folder: Path, database: str) -> None:
    """Run `script` on an empty `database`, with `at(migration)` that brings `app` there and gives its models of then.

    It must end by printing "kept".
    """
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": database,
        "KEYS_URL": f"sqlite:///{folder / 'keys.sqlite3'}",
    }
    done = subprocess.run(
        [sys.executable, "-c", f"APP = {app!r}\n{_MIGRATING}\n{script}"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip().endswith("kept"), done.stderr[-3000:]
