"""`manage.py gate lists`: the lists of picture hashes at the command line."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import CommandError

from consent import keys
from webapp import storage
from webapp.commands.moderators import moderator
from webapp.screening import hash_lists
from webapp.screening.hash_files import HashFileError
from webapp.screening.hash_listed import HashList

if TYPE_CHECKING:
    from webapp.commands.hash_list_bench import Locate, Rgb

REFUSALS = (HashFileError, hash_lists.HashListError, storage.StorageError, keys.KeyStoreError)
HELP = "lists of pictures that are refused or looked at"
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".avif")


def add_arguments(parser: ArgumentParser) -> None:
    """The actions below `gate lists`."""
    actions = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    take = actions.add_parser(
        "import",
        help="take in PDQ hashes from a CSV or ThreatExchange JSON file",
        description="A list of the same name is replaced. `block`: what is on it is refused. `watch`: a person looks.",
    )
    take.add_argument("file", type=Path, metavar="FILE")
    take.add_argument("--name", required=True, help="small letters, digits, dots and dashes")
    take.add_argument("--kind", required=True, choices=[kind.value for kind in HashList.Kind])
    actions.add_parser("list", help="the lists that are in force")
    remove = actions.add_parser("remove", help="end a list; its hashes are destroyed")
    remove.add_argument("name")
    for action in (take, remove):
        action.add_argument("--reason", required=True, help="why; kept in the audit log")
        action.add_argument("--moderator", default="", help="e-mail address (needed if there are several)")
    make = actions.add_parser(
        "hash",
        help="print the hashes of pictures of your own and of the faces in them, as a CSV to import",
        description="The face's hash also finds the picture after crops and small turns; the whole one's does not.",
    )
    make.add_argument("files", nargs="+", type=Path, metavar="PICTURE")
    bench = actions.add_parser("bench", help="how quick the look-up is, and what it finds of changed pictures")
    bench.add_argument("--entries", type=int, default=1_000_000, help="synthetic hashes (default: %(default)s)")
    bench.add_argument("--pictures", type=Path, metavar="FOLDER", help="also what is found of these after changes")


def run(options: dict[str, Any]) -> Iterator[str]:
    """Do it, and yield what is to be said. Raises CommandError."""
    try:
        match options["what"]:
            case "import":
                yield from _import(options)
            case "remove":
                row = hash_lists.remove_list(
                    options["name"], moderator=moderator(options["moderator"]), reason=options["reason"]
                )
                yield f"{row.name} ({row.pk}) is in force no more; its hashes are destroyed."
            case "list":
                yield from _list()
            case "hash":
                yield from _hash(options["files"])
            case "bench":
                yield from _bench(options["entries"], options["pictures"])
    except REFUSALS as error:
        raise CommandError(f"{error.code}: {getattr(error, 'message', error)}") from error


def _import(options: dict[str, Any]) -> Iterator[str]:
    row, parsed = hash_lists.import_list(
        options["file"],
        name=options["name"],
        kind=options["kind"],
        moderator=moderator(options["moderator"]),
        reason=options["reason"],
    )
    yield f"{row.name} ({row.pk}): {row.entries:,} hashes, kind {row.kind}, in force from the next upload on."
    for why, count in parsed.skipped.items():
        yield f"  {count:,} passed over: {why}"
    hash_lists.installed()  # so that the first upload need not make this machine's index


def _list() -> Iterator[str]:
    rows = list(hash_lists.in_force())
    for row in rows:
        yield f"{row.name:20} {row.kind:6} {row.entries:>10,}  since {row.created_at:%Y-%m-%d %H:%M}  {row.pk}"
    if not rows:
        yield "No list is in force, so the gate records `lists` as not screened."


def _hash(files: Sequence[Path]) -> Iterator[str]:
    from worker.gate.looks import lists

    locate = _locator()
    yield "hash,quality,part,file"
    for path in files:
        picture = _picture(path)
        for part, value, quality in lists.hashes(picture, locate(picture)):
            yield f'{value},{quality},{part},"{path.name.replace(chr(34), chr(34) * 2)}"'


def _bench(entries: int, folder: Path | None) -> Iterator[str]:
    from webapp.commands import hash_list_bench

    if entries < 1:
        raise CommandError("At least one entry is needed.")
    yield from hash_list_bench.speed(entries)
    if folder is None:
        return
    pictures = [_picture(path) for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURES]
    if not pictures:
        raise CommandError(f"{folder} holds no pictures.")
    locate = _locator()
    yield f"\nWhat is found of {len(pictures)} pictures after a change (distance up to 31 of 256 bits):"
    for row in hash_list_bench.recall(pictures, locate):
        yield row.line()
    for what, values in (
        ("pictures", hash_list_bench.hashes_of(pictures)),
        ("faces", hash_list_bench.hashes_of(pictures, locate)),
    ):
        pairs, false, least = hash_list_bench.false_matches(values)
        yield f"false matches among {what}: {false} in {pairs:,} pairs, the nearest {least} bits apart"


def _locator() -> Locate:
    """Finds the faces of a picture with the built-in models, largest first."""
    from worker.faces.analyse import analyse_image
    from worker.inference.sessions import LocalRunner

    runner = LocalRunner(Path(settings.MODELS_DIR))
    return lambda picture: [face.landmarks for face in analyse_image(picture, runner)]


def _picture(path: Path) -> Rgb:
    """Decoded in a media child: this process holds the keys."""
    from worker.media import client
    from worker.media.errors import ChildError, MediaError

    try:
        return client.decode_image(path)
    except (OSError, MediaError, ChildError) as error:
        raise CommandError(f"{path} could not be opened as a picture ({error}). Nothing was changed.") from error
