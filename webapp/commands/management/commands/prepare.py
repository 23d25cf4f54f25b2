"""`manage.py prepare`: everything a fresh machine needs, each step a no-op when it is already done."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connections

from webapp.commands.progress import ProgressBar

OVERWRITES = 1  # SQLite's user_version: from here on the file has no free page that was not overwritten


class Command(BaseCommand):
    help = (
        "Make the local folders, the master key, the development certificates, the built-in models and the database; "
        "fetch the verify page's reader for browsers with npm, where there is one. "
        "Safe to run again: what is already right is left alone."
    )
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        from consent import erasure, keys
        from webapp import keys_of_house
        from webapp.commands import gate_models
        from worker.inference import builtin

        for folder in (settings.HOME, settings.KEYS_DIR, settings.WORK_DIR):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (settings.HOME / "static").mkdir(exist_ok=True)
        with ProgressBar("models") as bar:
            builtin.build(settings.MODELS_DIR, progress=bar.show)
            left_out = gate_models.build(settings.MODELS_DIR, progress=bar.show)
        if options["verbosity"] > 0:
            for line in gate_models.notes(left_out):
                self.stderr.write(line)
        call_command("migrate", verbosity=0, interactive=False)
        call_command("migrate", database="keys", verbosity=0, interactive=False)
        keys.subkey("check")  # draws the master key if there is none
        self._overwrite_freed()
        erasure.heal(at_start=True)
        keys_of_house.anchors_pem()  # makes the development certificates where no others are configured
        self._reader(options["verbosity"])
        if options["verbosity"] > 0:
            self.stdout.write(f"Ready: models, keys, certificates and database lie under {settings.HOME}.")

    def _overwrite_freed(self) -> None:
        """Once per SQLite file: pages that were freed before it overwrote what it deletes may still hold old rows."""
        for connection in connections.all():
            if connection.vendor != "sqlite":
                continue
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA user_version")
                if cursor.fetchone()[0] < OVERWRITES:
                    cursor.execute("VACUUM")
                    cursor.execute(f"PRAGMA user_version={OVERWRITES}")

    def _reader(self, verbosity: int) -> None:
        """The reader for visitors' browsers; a machine without npm or network does without it."""
        from webapp.verify import browser_reader

        try:
            browser_reader.install()
        except browser_reader.ReaderError as error:
            if verbosity > 0:
                self.stderr.write(
                    f"Note: the verify page will not read Content Credentials in the browser ({error.code}: {error}). "
                    "Everything else works; install npm and run `manage.py prepare` again to have it."
                )
