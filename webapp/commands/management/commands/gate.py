"""`manage.py gate lists | faces …`: what the gate compares uploads with."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from webapp.commands import gate_faces, gate_lists

LISTS = {"lists": gate_lists, "faces": gate_faces}


class Command(BaseCommand):
    help = "The gate: lists of picture hashes, and protected persons."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        gate_lists.add_arguments(actions.add_parser("lists", help="lists of pictures that are refused or looked at"))
        gate_faces.add_arguments(actions.add_parser("faces", help="protected persons, whose face may not be used here"))

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        for line in LISTS[action].run(options["what"], options):
            self.stdout.write(line)
