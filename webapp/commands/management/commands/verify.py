"""`manage.py verify FILE…`: the verify page on the command line."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

# With several files, the status of the first one that is not `ours`.
EXIT_CODES = {
    "ours_intact": 0,
    "ours_recovered": 0,
    "ours_withdrawn": 10,
    "ours_changed": 11,
    "disagree": 11,
    "nothing_found": 12,
    "other_trusted": 13,
    "other_unknown": 13,
    "other_invalid": 13,
    "unreadable": 14,
}


class Command(BaseCommand):
    help = (
        "Say what can be said about media files. Exit status: 0 ours, 10 permission withdrawn, 11 changed or mark and "
        "label disagree, 12 nothing found, 13 another issuer, 14 unreadable. The files stay where they are."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
        parser.add_argument("--json", action="store_true", help="one JSON object per line and file")

    def handle(self, *args: Any, **options: Any) -> None:
        from webapp.verify.services import verdict_body, verify_file

        status = 0
        for path in options["files"]:
            if not path.is_file():
                raise CommandError(f"There is no file {path}.", returncode=14)
            found = verify_file(path)
            status = status or EXIT_CODES[found.code]
            if options["json"]:
                self.stdout.write(json.dumps({"file": str(path), **verdict_body(found)}))
            else:
                self.stdout.write(f"{path}: {found.headline}\n  {found.sentence}")
        if status:
            sys.exit(status)
