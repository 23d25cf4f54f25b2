"""`manage.py gate lists | faces …`: what the gate compares uploads with."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from webapp.commands import gate_faces, gate_lists

PARTS = {"lists": gate_lists, "faces": gate_faces}


class Command(BaseCommand):
    help = "The gate: lists of picture hashes, and protected persons."

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
        gate_lists.add_arguments(what.add_parser("lists", help="lists of pictures that are refused or looked at"))
        gate_faces.add_arguments(what.add_parser("faces", help="protected persons, whose face may not be used here"))

    def handle(self, *args: Any, what: str, **options: Any) -> None:
        for line in PARTS[what].run(options.pop("action"), options):
            self.stdout.write(line)
