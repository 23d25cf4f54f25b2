"""`manage.py repository backfill`: enter into the look-up by fingerprint what was published before there was one."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from webapp.commands.progress import ProgressBar
from webapp.jobs import repository


class Command(BaseCommand):
    help = (
        "The manifest repository. `backfill` enters the fingerprints of outputs that are not in its index yet, so that "
        "a copy without manifest and mark is still shown as a possible match. It may be stopped and started again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=["backfill"])

    def handle(self, *args: Any, **options: Any) -> None:
        done = 0
        with ProgressBar("repository") as bar:
            for done, count in repository.backfill():
                bar.show(f"{done} of {count} outputs", done / count)
        self.stdout.write(f"{done} outputs were entered." if done else "Every output is entered already.")
