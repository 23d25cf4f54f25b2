"""`manage.py keys status | rotate | rewrap`: the master key that wraps every person's and every file's key."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from webapp.commands.progress import ProgressBar


class Command(BaseCommand):
    """Thin: the work is done in consent.rotation."""

    help = (
        "The master key. `rotate` draws a new one and wraps every data key by it; no data is touched, and marks, "
        "links and contact hashes stay as they are. `rewrap` goes on where it was stopped, or moves the house to the "
        "key that MASTER_KEY_URI names now (name the old place in MASTER_KEY_PREVIOUS). Other processes may run."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        actions.add_parser("status", help="where the master key is and how many keys it wraps; exit 1 if some wait")
        for name, words in (("rotate", "a new master key"), ("rewrap", "wrap what lies under an earlier one")):
            action = actions.add_parser(name, help=words)
            action.add_argument("--dry-run", action="store_true", help="say what would be done, change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        from consent import rotation
        from consent.key_errors import KeyStoreError

        try:
            match options["action"]:
                case "status":
                    self.show(rotation.status())
                case "rotate" if options["dry_run"]:
                    found = rotation.status()
                    count = sum(each.count for each in found.wrapped)
                    self.stdout.write(f"A new master key would be drawn in {found.uri} and wrap {count} keys.")
                case "rewrap" if options["dry_run"]:
                    found = rotation.status()
                    self.stdout.write(f"{found.waiting} keys would be wrapped by {found.master}.")
                case "rotate":
                    with ProgressBar("keys") as bar:
                        master, count = rotation.rotate(lambda n, of: bar.show(f"{n} of {of} keys", n / of))
                    self.stdout.write(self.style.SUCCESS(f"{count} keys are wrapped by the new master key {master}."))
                    self.keep_old()
                case "rewrap":
                    with ProgressBar("keys") as bar:
                        count = rotation.rewrap(lambda n, of: bar.show(f"{n} of {of} keys", n / of))
                    self.stdout.write(
                        self.style.SUCCESS(f"{count} keys were wrapped anew.") if count else "Nothing waits."
                    )
        except KeyStoreError as error:
            raise CommandError(f"{error.message} ({error.code})") from error

    def show(self, found: Any) -> None:
        """One line per master key; exit code 1 while keys lie under another than the one in use, 2 if some are lost."""
        self.stdout.write(f"place: {found.uri}")
        self.stdout.write(f"in use: {found.master}")
        for each in found.wrapped:
            words = "in use" if each.in_use else "earlier" if each.readable else "NOT AT HAND"
            self.stdout.write(f"  {each.master}  {each.count} keys  {words}")
        if found.lost:
            sys.exit(2)
        if found.waiting:
            self.stdout.write("Run `manage.py keys rewrap`.")
            sys.exit(1)

    def keep_old(self) -> None:
        """A restored backup of the key store needs the key it was wrapped by."""
        self.stdout.write(
            "The earlier one stays readable (a file: beside the new one, under its fingerprint). Delete it when the "
            f"last backup of the key store that was made with it is gone, in {settings.KEY_BACKUP_DAYS} days."
        )
