"""`manage.py privacy report | retention | erase`: what is kept, what goes when, and forgetting one person."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone


class Command(BaseCommand):
    """Thin: the work is done in webapp.ropa, webapp.retention and consent.erasure."""

    help = "The record of processing, the retention schedule, and the erasure of a person."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        report = actions.add_parser("report", help="the record of processing activities (GDPR 30)")
        report.add_argument("--format", choices=["md", "json"], default="md")
        retention = actions.add_parser("retention", help="carry out the schedule now, as the scheduler does")
        retention.add_argument("--dry-run", action="store_true", help="say what would go, and what goes when")
        erase = actions.add_parser("erase", help="forget a person; permissions in force are withdrawn first")
        who = erase.add_mutually_exclusive_group(required=True)
        who.add_argument("subject", nargs="?", help="the person's id, sbj_…")
        who.add_argument("--contact", help="the e-mail address or number they were asked by; - reads it from the input")
        erase.add_argument("--dry-run", action="store_true", help="list what would be destroyed and kept")
        erase.add_argument("--yes", action="store_true", help="do not ask; it cannot be undone")
        erase.add_argument("--json", action="store_true", help="the report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        match options["action"]:
            case "report":
                self.report(options["format"])
            case "retention":
                self.retention(dry_run=options["dry_run"])
            case "erase":
                self.erase(**{name: options[name] for name in ("subject", "contact", "dry_run", "yes", "json")})

    def report(self, form: str) -> None:
        """To standard output, for a file in the operator's own records."""
        from webapp import ropa

        self.stdout.write(json.dumps(ropa.record(), indent=1) if form == "json" else ropa.markdown(), ending="")
        for gap in ropa.missing():
            self.stderr.write(f"To be completed: {gap}.")

    def retention(self, *, dry_run: bool) -> None:
        """A line per row of the schedule that deletes something here."""
        from webapp import retention

        now = timezone.now()
        if not dry_run:
            done = retention.run(now)
            for name, count in done.gone.items():
                if count:
                    self.stdout.write(f"{name}: {count} gone")
            if done.failed:
                raise CommandError(f"{', '.join(done.failed)} failed; the log says why. The scheduler tries again.")
            if not done.total:
                self.stdout.write("Nothing was due.")
            return
        for name, found in retention.forecast(now):
            period = retention.period_words(retention.RULES[name].period())
            if found is None:
                self.stdout.write(f"{name}{f' ({period})' if period else ''}: not told beforehand")
                continue
            following = f"; next {found.next_at:%Y-%m-%d %H:%M} UTC" if found.next_at else ""
            self.stdout.write(f"{name}{f' ({period})' if period else ''}: {found.due} due{following}")
            for each in found.ids:
                self.stdout.write(f"  {each}")

    def erase(self, *, subject: str, contact: str, dry_run: bool, yes: bool, json: bool) -> None:
        """Report what was destroyed and what is kept; exit 1 while something is left to be healed."""
        from consent import erasure
        from consent.errors import ConsentError
        from consent.models import Erasure, Subject

        try:
            if contact:
                person = erasure.find_subject(sys.stdin.readline().strip() if contact == "-" else contact)
            else:
                found = Subject.objects.filter(pk=subject).first()
                if found is None:
                    raise CommandError(f"There is no person {subject}. Nothing was changed.")
                person = found
            if dry_run:
                self._lines(erasure.survey(person))
                return
            if not yes:
                self._lines(erasure.survey(person))
                answer = input(f"Forget {person.pk} for ever? Type its id to go on: ")
                if answer.strip() != person.pk:
                    raise CommandError("Nothing was changed.")
            done = erasure.erase_subject(person, by=Erasure.By.OPERATOR)
        except ConsentError as error:
            raise CommandError(f"{error.message} ({error.code})") from error
        if json:
            self.stdout.write(_json(asdict(done)))
        else:
            self.stdout.write(f"{done.id}: {done.subject_id}")
            self._lines((*done.destroyed, *done.kept))
        if not done.finished:
            self.stderr.write("It is begun and recorded but not finished; the scheduler goes on with it each minute.")
            sys.exit(1)

    def _lines(self, lines: Iterable[Any]) -> None:
        for line in lines:
            self.stdout.write(f"{'kept' if line.kept else 'gone'}  {line.count:>5}  {line.what}")
            if line.why:
                self.stdout.write(f"             because: {line.why}")


def _json(value: object) -> str:
    return json.dumps(value, indent=1)
