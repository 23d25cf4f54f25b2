"""`manage.py receipt check|evidence|keys|rotate-key`: receipts and evidence packs on the command line."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from consent.receipts.check import CheckedReceipt, ReceiptError, receipt_in, verify_receipt
from consent.receipts.evidence_check import LARGEST, EvidenceError, check_pack

EXIT_CODES = {"changed": 10, "unknown_key": 11, "log_wrong": 12, "dates_wrong": 13, "unreadable": 14}


class Command(BaseCommand):
    help = (
        "Receipts. `check FILE` says whether a receipt (.jwt, .json, or the PDF) is real; with --jwks it needs neither "
        "database nor network. Exit status: 0 real, 10 changed or made up, 11 signed with an unknown key, 12 the proof "
        "from the log is wrong, 13 impossible dates, 14 no receipt in the file. `evidence FILE.zip` checks a whole "
        "evidence pack the same way: 0 everything fits, 15 something does not, 14 no pack. `keys` prints the public "
        "keys, as at /.well-known/jwks.json. `rotate-key` signs with a new key from now on; old receipts still verify."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True)
        check = commands.add_parser("check", help="is this receipt real?")
        check.add_argument("file", type=Path, metavar="FILE")
        check.add_argument(
            "--jwks", type=Path, metavar="FILE", help="the issuer's public keys; without it, this house's"
        )
        check.add_argument("--json", action="store_true", help="the answer as one JSON object")
        pack = commands.add_parser("evidence", help="does this evidence pack hold together?")
        pack.add_argument("file", type=Path, metavar="FILE.zip")
        pack.add_argument(
            "--jwks", type=Path, metavar="FILE", help="the issuer's public keys; without it, the pack's own"
        )
        pack.add_argument("--json", action="store_true", help="the answer as one JSON object")
        commands.add_parser("keys", help="print the public keys (JWKS)")
        commands.add_parser("rotate-key", help="sign with a new key from now on")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["command"] == "check":
            self._check(options["file"], options["jwks"], options["json"])
        elif options["command"] == "evidence":
            self._evidence(options["file"], options["jwks"], options["json"])
        elif options["command"] == "keys":
            from consent.receipts.services import jwks

            self.stdout.write(json.dumps(jwks(), indent=2))
        else:
            from consent.receipts.keys import rotate

            self.stdout.write(f"Receipts are signed with the key {rotate()} from now on. Old receipts still verify.")

    def _check(self, path: Path, keys: Path | None, as_json: bool) -> None:
        found = _read(path)
        jwks = _keys(keys)
        try:
            checked = verify_receipt(receipt_in(found), jwks)
        except ReceiptError as error:
            if as_json:
                self.stdout.write(
                    json.dumps({"file": str(path), "ok": False, "code": error.code, "detail": str(error)})
                )
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

    def _evidence(self, path: Path, keys: Path | None, as_json: bool) -> None:
        data = _read(path)
        try:
            pack = check_pack(data, _keys(keys) if keys else None)
        except EvidenceError as error:
            if as_json:
                self.stdout.write(
                    json.dumps({"file": str(path), "ok": False, "code": error.code, "detail": str(error)})
                )
            else:
                self.stdout.write(f"{path}: does NOT hold ({error.code}). {error}")
            sys.exit(14 if error.code == "pack_unreadable" else 15)
        if as_json:
            self.stdout.write(json.dumps({"file": str(path), "ok": True, **asdict(pack)}))
            return
        self.stdout.write(f"{path}: everything about {pack.consent_id} fits together.")
        self.stdout.write(
            f"  {pack.events} events stand in the log as the pack says, {pack.waiting} are not in it yet."
        )
        if pack.receipt:
            self.stdout.write("  The receipt is real, and about this record.")
        if pack.own_keys:
            self.stdout.write(
                "  Checked with the keys in the pack; get the issuer's jwks.json and add --jwks to be sure."
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
            return file.read(LARGEST + 1)
    except OSError as error:
        raise CommandError(
            f"{path} cannot be read ({error.strerror}). Nothing was checked; name another file.", returncode=14
        ) from error


def _keys(path: Path | None) -> dict[str, Any]:
    if path is None:
        from consent.receipts.services import jwks

        return jwks()
    try:
        found = json.loads(_read(path))
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("keys"), list):
        raise CommandError(
            f"{path} is not a set of public keys (JWKS). Nothing was checked; get it again.", returncode=14
        )
    return found
