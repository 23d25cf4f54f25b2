#!/usr/bin/env python3
"""Imprimatur's command line. `python manage.py help` lists the commands, `doctor` says what is missing."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
    try:
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.exit("Django is not installed here. Run `make setup` once; it builds .venv, then use .venv/bin/python.")
    from django.db.utils import OperationalError, ProgrammingError

    try:
        execute_from_command_line(sys.argv)
    except (OperationalError, ProgrammingError) as error:
        # SQLite says the first, PostgreSQL the second.
        if "no such table" not in str(error) and "does not exist" not in str(error):
            raise
        sys.exit(
            f"The database is not prepared ({error}). Nothing was changed. Run `manage.py prepare`, then try again."
        )


if __name__ == "__main__":
    main()
