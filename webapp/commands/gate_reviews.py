"""`manage.py gate reviews`: how the review queue does, and its decisions as a manifest for detectors."""

from __future__ import annotations

import csv
import json
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone

from webapp.screening import numbers
from webapp.screening.numbers import Numbers

HELP = "outcomes by reason, agreement of two reviewers, time to decision, what is overdue"
EPILOG = """\
--export writes CSV with the columns file, label, species, source, score, signal, pack, outcome, which `gate calibrate`
and `gate evaluate` read as a manifest (they take the first four). `file` is the upload's SHA-256 with the ending of its
kind: put your own copies under these names, this house hands none out. `source` is the same; write a person or
recording there if you know it, because files of one source are no independent evidence. Use --pack, so that every file
stands there once. Only what went to review is in it: add files that never did, or the measured rates mean little.
"""


def add_arguments(parser: ArgumentParser) -> None:
    """The options."""
    parser.epilog = EPILOG
    parser.add_argument("--since", default="", metavar="YYYY-MM-DD", help="only reviews opened on this day or later")
    parser.add_argument("--json", action="store_true", help="JSON instead of words, for monitoring")
    parser.add_argument("--export", type=Path, metavar="FILE.csv", help="write the decisions there (see below)")
    parser.add_argument("--pack", default="", metavar="ID", help="of --export: the scores of this pack only")


def run(options: dict[str, Any]) -> Iterator[str]:
    """The lines to print."""
    since = _day(options["since"]) if options["since"] else None
    if options["export"] is not None:
        yield _export(options["export"], since, options["pack"])
        return
    found = numbers.numbers(since)
    if options["json"]:
        yield json.dumps(asdict(found) | {"agreement": _agreement(found)}, indent=1)
        return
    yield f"{found.opened} reviews opened, {found.open} open: {found.overdue} overdue, {found.waiting_for_second} wait"
    yield f"for a second reviewer. {found.late} were decided after they were due."
    one, two = _hours(found.median_hours), _hours(found.median_hours_two)
    yield f"Median time to a decision: {one}; of those that take two people: {two}."
    agreement = _agreement(found)
    if agreement is not None:
        yield f"Two reviewers agreed in {found.agreed} of {found.pairs} reviews ({agreement:.0%})."
    else:
        yield "No review was decided by two people yet."
    for code, states in found.outcomes.items():
        yield f"  {code:32} {_states(states)}"
    if found.appeals:
        yield f"  {'appeals':32} {_states(found.appeals)}"


def _export(path: Path, since: datetime | None, pack: str) -> str:
    count = 0
    try:
        with path.open("x", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, numbers.COLUMNS)
            writer.writeheader()
            for row in numbers.labelled(since, pack):
                writer.writerow(row)
                count += 1
    except FileExistsError:
        raise CommandError(f"{path} exists already. Nothing was written; name another file.") from None
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error}.") from error
    return f"{count} rows written to {path}."


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=timezone.get_current_timezone())
    except ValueError:
        raise CommandError(f"{text!r} is no day. Write it as 2026-11-29.") from None


def _agreement(found: Numbers) -> float | None:
    return found.agreed / found.pairs if found.pairs else None


def _hours(value: float | None) -> str:
    return "none yet" if value is None else f"{value:.1f} h"


def _states(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items())
