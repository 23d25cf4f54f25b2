"""`manage.py verify FILE|DIR|URL…`: the verify page on the command line."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from watermark.credentials_parsing import clean
from watermark.verdict import Evidence, Verdict, verdict
from webapp.commands.progress import ProgressBar
from webapp.net import FetchError
from webapp.verify import services
from webapp.verify.records import PublishedOutputs
from worker.media import client
from worker.media.errors import MediaError

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
# From what needs nobody's attention to what needs it most: proof of tampering outweighs a withdrawn permission, which
# outweighs not knowing.
WORSE = (0, 13, 12, 14, 10, 11)
WORDS = {
    0: "ours",
    10: "permission withdrawn",
    11: "changed or disagreeing",
    12: "nothing found",
    13: "another issuer's",
    14: "unreadable",
}
NOTHING = "There is no photo or video here to look at. Name a file, a folder with some, or an https address."


@dataclass(frozen=True)
class Target:
    """One file to look at, or one address to fetch it from; `name` as it was asked for."""

    name: str
    path: Path | None = None


class Command(BaseCommand):
    help = (
        "Say what can be said about media files, folders of them (with all below), or https addresses. Exit status: "
        "0 ours, 10 ours but permission withdrawn, 11 changed or mark and credential disagree, 12 nothing found, 13 "
        "another issuer's credential, 14 unreadable. Of several files the worst counts, from best to worst: "
        f"{', '.join(map(str, WORSE))}. Files of a folder that are neither photo nor video are left out. Nothing is "
        "kept or changed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("targets", nargs="+", metavar="FILE|DIR|URL")
        parser.add_argument(
            "--fetch-manifest",
            action="store_true",
            help="fetch Content Credentials that a file says are kept elsewhere (that server learns that you look)",
        )
        parser.add_argument("--json", action="store_true", help="one JSON object per line and file")

    def handle(self, *args: Any, **options: Any) -> None:
        targets = list(_targets(options["targets"]))
        if not targets:
            self.stderr.write(NOTHING)
            sys.exit(14)
        counts: Counter[int] = Counter()
        several = len(targets) > 1
        with ProgressBar("verify") as bar:
            for number, target in enumerate(targets):
                if several and bar.live:
                    bar.show(f"{number + 1}/{len(targets)} {clean(target.name, 60)}", number / len(targets))
                found = _look(target, options["fetch_manifest"])
                counts[EXIT_CODES[found.code]] += 1
                if several and bar.live:
                    bar.clear()
                self._say(target, found, whole=not several, as_json=options["json"])
        if several and not options["json"]:
            summary = ", ".join(f"{counts[code]} {WORDS[code]}" for code in WORSE if counts[code])
            self.stdout.write(f"{len(targets)} files: {summary}.")
        if status := max(counts, key=WORSE.index):
            sys.exit(status)

    def _say(self, target: Target, found: Verdict, *, whole: bool, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps({"file": target.name, **services.verdict_body(found)}))
            return
        self.stdout.write(f"{clean(target.name, 1000)}: {found.headline}")
        if whole or found.code == "unreadable":
            self.stdout.write(f"  {found.sentence}")
            if found.code != "unreadable":
                self.stdout.write(f"  {services.verdict_body(found)['ai']}")


def _targets(names: list[str]) -> Iterator[Target]:
    """What the arguments name; of folders, in order, all below that may be media. Links are not followed."""
    for name in names:
        path = Path(name)
        if name.lower().startswith(("https://", "http://")):
            yield Target(name)
        elif path.is_dir():
            for folder, folders, files in os.walk(path):
                folders[:] = sorted(each for each in folders if not each.startswith("."))
                for file in sorted(each for each in files if not each.startswith(".")):
                    one = Path(folder) / file
                    if one.is_file() and not one.is_symlink() and _may_be_media(one):
                        yield Target(str(one), one)
        else:
            yield Target(name, path)


def _may_be_media(path: Path) -> bool:
    try:
        client.identify(path)
    except MediaError as error:
        return error.code != "not_media"
    except OSError:
        return True
    return True


def _look(target: Target, fetch_manifest: bool) -> Verdict:
    """The verdict; what cannot be fetched or opened is `unreadable`, with the reason."""
    try:
        if target.path is not None:
            return services.verify_file(target.path, fetch_manifest=fetch_manifest)
        with services.place_for_file() as place:
            services.fetch(target.name, place)
            return services.verify_file(place, fetch_manifest=fetch_manifest)
    except FetchError as error:
        why = str(error)
    except OSError as error:
        why = f"It cannot be opened: {error.strerror or type(error).__name__}."
    return verdict(Evidence(unreadable=why), PublishedOutputs())
