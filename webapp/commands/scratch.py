"""A database that is thrown away: of the same kind as the deployment's, migrated, empty, under a name of its own."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper


@contextmanager
def scratch_database(alias: str = "default") -> Iterator[BaseDatabaseWrapper]:
    """Within the block the database of this alias is an empty one; the deployment's own is not touched.

    PostgreSQL: the user must be allowed to create databases. SQLite: a file in the system's temporary folder.
    """
    connection = connections[alias]
    name = f"imprimatur_scratch_{secrets.token_hex(4)}"
    before = connection.settings_dict["NAME"]
    test = connection.settings_dict["TEST"]
    kept = test["NAME"]
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
        test["NAME"] = str(Path(folder) / "scratch.sqlite3") if connection.vendor == "sqlite" else name
        try:
            connection.creation.create_test_db(verbosity=0, autoclobber=False, serialize=False)
            try:
                yield connection
            finally:
                connection.creation.destroy_test_db(str(before), verbosity=0)
        finally:
            test["NAME"] = kept
