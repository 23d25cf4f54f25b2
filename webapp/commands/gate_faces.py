"""`manage.py gate faces`: protected persons on the list of faces that may not be used here."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from django.core.management.base import CommandError

from consent.errors import ConsentError
from consent.keys import KeyStoreError
from webapp.commands.moderators import moderator
from webapp.screening import face_list
from webapp.screening.listed import ListedFace

HELP: Final = "protected persons, whose face may not be used here"
MOST: Final = 50
"""Entries with the built-in descriptor: at 50 one in 12 strangers is near one of them by chance."""


def add_arguments(parser: ArgumentParser) -> None:
    """The actions below `gate faces`."""
    actions = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    add = actions.add_parser(
        "add",
        help="enter a protected person from a photo of that person alone",
        description="An upload with a face near it is looked at by a person. The photo is destroyed as soon as a "
        f"worker has measured it. At most {MOST} entries with the built-in descriptor.",
    )
    add.add_argument("photo", type=Path, metavar="PHOTO")
    add.add_argument("--contact", default="", help="e-mail address or number, for the person to see and end the entry")
    actions.add_parser("list", help="entries by number; nobody is named")
    remove = actions.add_parser("remove", help="take a protected person off the list")
    remove.add_argument("entry", help="number of the entry, lst_…")
    for action in (add, remove):
        action.add_argument("--reason", required=True, help="why, and on which legal ground; kept in the audit log")
        action.add_argument("--moderator", default="", help="e-mail address (needed if there are several)")


def run(options: dict[str, Any]) -> Iterator[str]:
    """Do it, and yield what is to be said. Raises CommandError."""
    try:
        match options["what"]:
            case "add":
                who, reason = moderator(options["moderator"]), options["reason"]
                entry = face_list.protect(
                    options["photo"], moderator=who, reason=reason, contact=options["contact"], most=_most()
                )
                yield f"{entry.pk} waits for a worker to measure the photo; `gate faces list` says when it is listed."
            case "remove":
                entry = face_list.unprotect(
                    options["entry"], moderator=moderator(options["moderator"]), reason=options["reason"]
                )
                yield f"{entry.pk} is off the list; its keys are destroyed."
            case "list":
                yield from _list()
    except (ConsentError, KeyStoreError) as error:
        raise CommandError(f"{error.code}: {getattr(error, 'message', error)}") from error
    except OSError as error:
        raise CommandError(f"The photo cannot be read ({error}). Nothing was kept.") from error


def _list() -> Iterator[str]:
    rows = ListedFace.objects.order_by("created_at", "pk")
    for row in rows:
        whose = "protected" if row.protected else "own wish"
        yield f"{row.pk}  {whose:9}  {row.state:8} since {row.created_at:%Y-%m-%d %H:%M}  {row.failure_code}".rstrip()
    if not rows:
        yield "Nobody is on the list."


def _most() -> int | None:
    from worker.gate.looks.face_list import MODEL, threshold_of

    return None if threshold_of(MODEL)[1] else MOST
