"""`manage.py ledger verify | export | checkpoint | key | sequence | rotate-key | adopt`: the tamper-evident log."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from consent import ledger
from consent.keys import KeyStoreError
from consent.ledger import adopting, export, house, verifying
from consent.ledger.checking import Report
from consent.ledger.errors import LedgerError
from webapp.commands.progress import ProgressBar

FOUND, UNCHECKED = 1, 2
EXIT_CODES = {
    0: "everything is as it was entered",
    FOUND: "something was changed; each finding is named",
    UNCHECKED: "it could not be checked (no such file, not an export, keys not readable)",
}
SHOWN = 50


class Command(BaseCommand):
    """Thin: the work is done in consent.ledger."""

    help = "The tamper-evident log: check it, write it out, show its signed head."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        verify = actions.add_parser(
            "verify",
            help="was anything edited, removed, put elsewhere or inserted?",
            description="Without FILE: the live database, with every row that the log speaks of. With FILE: an export, "
            "without database and keys. Exit " + "; ".join(f"{code}: {words}" for code, words in EXIT_CODES.items()),
        )
        verify.add_argument("file", nargs="?", type=Path, metavar="FILE", help="what `ledger export` wrote")
        verify.add_argument(
            "--checkpoint",
            type=Path,
            action="append",
            default=[],
            metavar="FILE",
            help="a checkpoint kept elsewhere, which the log must continue (may be given several times)",
        )
        verify.add_argument(
            "--key",
            action="append",
            default=[],
            metavar="NAME+ID+KEY",
            help="for FILE: the log's public key as known from elsewhere; else the keys in the file are believed",
        )
        verify.add_argument("--json", action="store_true", help="the report as JSON")
        write = actions.add_parser("export", help="write leaves, checkpoints and public keys to one file")
        write.add_argument("file", type=Path, metavar="FILE")
        actions.add_parser("checkpoint", help="print the newest signed head; keep it somewhere else")
        actions.add_parser("key", help="print the public keys, the current one first")
        actions.add_parser("sequence", help="give waiting entries their places now (the scheduler does, each second)")
        actions.add_parser("rotate-key", help="draw a new signing key; what the old one signed still verifies")
        adopt = actions.add_parser("adopt", help="enter rows that are older than the log; look at them first")
        adopt.add_argument("--yes", action="store_true", help="do it; without, only say which")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        try:
            match action:
                case "verify":
                    self._verify(**options)
                case "export":
                    self._export(options["file"])
                case "checkpoint":
                    self.stdout.write(ledger.checkpoint(), ending="")
                case "key":
                    ledger.public_key()
                    for verifier in house.verifiers():
                        self.stdout.write(verifier.text)
                case "sequence":
                    self._sequence()
                case "rotate-key":
                    self.stdout.write(f"New checkpoints are signed by {house.rotate().verifier.text}")
                case "adopt":
                    self._adopt(yes=options["yes"])
        except (LedgerError, KeyStoreError) as error:
            raise CommandError(f"{error.message} ({error.code})", returncode=UNCHECKED) from error
        except DatabaseError as error:
            raise CommandError(
                f"The database cannot be read ({error}). Nothing was changed. If it is new: `manage.py prepare`.",
                returncode=UNCHECKED,
            ) from error

    def _verify(self, *, file: Path | None, checkpoint: list[Path], key: list[str], json: bool, **_: Any) -> None:
        kept = tuple(_text(path) for path in checkpoint)
        if key and file is None:
            raise CommandError(
                "--key goes with FILE; the live log is checked with the keys of this house.", returncode=UNCHECKED
            )
        with ProgressBar("ledger") as bar:
            if file is not None:
                report = export.check(file, keys=key, kept=kept, show=bar.show)
            else:
                report = verifying.verify(bar.show, kept)
        if json:
            self.stdout.write(_as_json(report))
        else:
            self._say(report, believed=file is not None and not key)
        if not report.ok:
            sys.exit(FOUND)

    def _say(self, report: Report, *, believed: bool) -> None:
        for finding in report.findings[:SHOWN]:
            self.stdout.write(f"{finding.where}: {finding.message} ({finding.code})")
        if len(report.findings) > SHOWN:
            self.stdout.write(f"… and {len(report.findings) - SHOWN} more; --json names them all.")
        words = f"{report.leaves:,} leaves, {report.covered:,} of them under {report.checkpoints:,} signed checkpoints"
        if report.opened or report.erased or report.waiting or report.consents:
            words += (
                f"; {report.opened:,} commitments made again, {report.erased:,} of erased persons, "
                f"{report.waiting:,} waiting for their place; {report.consents:,} consents"
            )
        self.stdout.write(words + ".")
        if believed:
            self.stdout.write("Signed by the keys in the file, which you should know from elsewhere (--key):")
            for text in report.keys:
                self.stdout.write(f"  {text}")
        if report.ok:
            self.stdout.write("Everything is as it was entered.")
        else:
            self.stdout.write(f"{len(report.findings):,} findings: this log or its database was changed.")

    def _export(self, path: Path) -> None:
        """Whole or not at all."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with ProgressBar("ledger") as bar, temporary.open("x", encoding="utf-8", errors="surrogateescape") as file:
                count = export.write(file, bar.show)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            raise CommandError(
                f"{path} cannot be written ({error.strerror}); nothing was exported.", returncode=UNCHECKED
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        self.stdout.write(f"{count:,} leaves were written to {path}. Check them with: manage.py ledger verify {path}")

    def _sequence(self) -> None:
        done = 0
        while placed := ledger.sequence():
            done += placed
        self.stdout.write(f"{done:,} entries got their place." if done else "No entry was waiting.")

    def _adopt(self, *, yes: bool) -> None:
        if not yes:
            found = adopting.waiting()
            for source in found[:SHOWN]:
                self.stdout.write(source)
            self.stdout.write(
                f"{len(found):,} rows are not in the log. If all are older than it, enter them with --yes; if not, "
                "somebody inserted them past the service."
            )
            return
        with ProgressBar("ledger") as bar:
            count = adopting.adopt(bar.show)
        self.stdout.write(f"{count:,} rows were entered, and that somebody did so.")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(
            f"The checkpoint {path} cannot be read; nothing was checked.", returncode=UNCHECKED
        ) from error


def _as_json(report: Report) -> str:
    return json.dumps({"ok": report.ok, **asdict(report)}, indent=1)
