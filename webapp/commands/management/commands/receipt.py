"""`manage.py receipt check|keys|rotate-key`: receipts on the command line."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from consent.receipt_check import LONGEST_FILE, CheckedReceipt, ReceiptError, receipt_in, verify_receipt

EXIT_CODES = {"changed": 10, "unknown_key": 11, "log_wrong": 12, "dates_wrong": 13, "unreadable": 14}


class Command(BaseCommand):
    help = (
        "Receipts. `check FILE` says whether a receipt (.jwt, .json, or the PDF) is real; with --jwks it needs neither "
        "database nor network. Exit status: 0 real, 10 changed or made up, 11 signed with an unknown key, 12 the proof "
        "from the log is wrong, 13 impossible dates, 14 no receipt in the file. `keys` prints the public keys, as at "
        "/.well-known/jwks.json. `rotate-key` signs with a new key from now on; old receipts still verify."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True)
        check = commands.add_parser("check", help="is this receipt real?")
        check.add_argument("file", type=Path, metavar="FILE")
        check.add_argument("--jwks", type=Path, metavar="FILE", help="the issuer's public keys; without it, this house's")
        check.add_argument("--json", action="store_true", help="the answer as one JSON object")
        commands.add_parser("keys", help="print the public keys (JWKS)")
        commands.add_parser("rotate-key", help="sign with a new key from now on")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["command"] == "check":
            self._check(options["file"], options["jwks"], options["json"])
        elif options["command"] == "keys":
            from consent.receipts import jwks

            self.stdout.write(json.dumps(jwks(), indent=2))
        else:
            from consent.receipt_keys import rotate

            self.stdout.write(f"Receipts are signed with the key {rotate()} from now on. Old receipts still verify.")

    def _check(self, path: Path, keys: Path | None, as_json: bool) -> None:
        found = _read(path)
        jwks = _keys(keys)
        try:
            checked = verify_receipt(receipt_in(found), jwks)
        except ReceiptError as error:
            if as_json:
                self.stdout.write(json.dumps({"file": str(path), "ok": False, "code": error.code, "detail": str(error)}))
            else:
                self.stdout.write(f"{path}: NOT a real receipt ({error.code}). {error}")
            sys.exit(EXIT_CODES[error.code])
        if as_json:
            self.stdout.write(json.dumps({"file": str(path), "ok": True, **_facts(checked)}))
            return
        facts = _facts(checked)
        self.stdout.write(f"{path}: a real receipt of {checked.issuer}.")
        for step in checked.steps:
            self.stdout.write(f"  {step}")
        self.stdout.write(
            f"  Record {checked.consent_id}: {facts['role']}, {', '.join(facts['purposes'])}; "
            f"at most {facts['max_outputs']} results, {facts['valid_from'][:10]} to {facts['valid_until'][:10]}."
        )
        self.stdout.write(
            "  This tells what was agreed, not whether it was withdrawn since: "
            f"ask {checked.issuer}/receipts/check for that."
        )


def _facts(checked: CheckedReceipt) -> dict[str, Any]:
    scope = checked.record["dpv:hasProcess"]["imp:scope"]
    return {
        "issuer": checked.issuer,
        "receipt": checked.receipt_id,
        "consent": checked.consent_id,
        "kid": checked.kid,
        "log": {"origin": checked.origin, "index": checked.index, "size": checked.size},
        "role": scope["imp:role"],
        "purposes": scope["imp:purposes"],
        "max_outputs": scope["imp:maxOutputs"],
        "valid_from": scope["imp:validFrom"],
        "valid_until": scope["imp:validUntil"],
        "assurance": checked.record["imp:assurance"],
        "notice_sha256": checked.record["dpv:hasNotice"]["imp:sha256"],
    }


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LONGEST_FILE + 1)
    except OSError as error:
        raise CommandError(
            f"{path} cannot be read ({error.strerror}). Nothing was checked; name another file.", returncode=14
        ) from error


def _keys(path: Path | None) -> dict[str, Any]:
    if path is None:
        from consent.receipts import jwks

        return jwks()
    try:
        found = json.loads(_read(path))
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("keys"), list):
        raise CommandError(f"{path} is not a set of public keys (JWKS). Nothing was checked; get it again.", returncode=14)
    return found
