"""`manage.py certs init-dev | show | rotate | check`: the certificate that signs our manifests."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from watermark import rotation
from watermark.key_services import open_key, service_signer
from watermark.signers import DevelopmentAuthority, FileSigner, Signer, SignerError
from webapp import keys_of_house
from webapp.commands import signing_checks


class Command(BaseCommand):
    """Thin: the work is done in watermark.authority, watermark.rotation and webapp.commands.signing_checks."""

    help = "Make a development signer, show the signing certificates, put new ones in place, or check them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        actions.add_parser("init-dev", help="make this machine's UNTRUSTED development signer")
        show = actions.add_parser("show", help="subject, validity and fingerprint of the chain and its anchors")
        show.add_argument("--root", action="store_true", help="print the trust anchors as PEM and nothing else")
        rotate = actions.add_parser(
            "rotate",
            help="put a new certificate in place; workers take it for the next file, without a restart",
            description="Without options: a new leaf of the development signer. With --chain: install certificates "
            "issued for the key in use, or for the one given with --key, after checking that they belong together, "
            "sign, and lead to the anchors.",
        )
        rotate.add_argument("--chain", type=Path, help="PEM: leaf first, then the intermediates")
        rotate.add_argument("--key", type=Path, help="PEM of a new private key (only where SIGNER_KEY_FILE is used)")
        check = actions.add_parser(
            "check",
            help="can we sign, and for how long? For monitoring: exit 0, 1 or 2",
            description="Exit "
            + "; ".join(f"{code}: {words}" for code, words in signing_checks.EXIT_CODES.items())
            + ". A certificate that ends within 30 days gives 1.",
        )
        check.add_argument("--json", action="store_true", help="findings as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            match options["action"]:
                case "init-dev":
                    self.init_dev()
                case "show":
                    self.show(root=options["root"])
                case "rotate":
                    self.rotate(options["chain"], options["key"])
                case "check":
                    self.check_it(as_json=options["json"])
        except (SignerError, keys_of_house.KeysError, OSError) as error:
            raise CommandError(str(error)) from error

    def init_dev(self) -> None:
        """Make the development authority, or leave the one that is there."""
        DevelopmentAuthority.open_or_create(Path(settings.SIGNER_DIR))
        self.stdout.write(
            self.style.WARNING(
                f"A development signer is in {settings.SIGNER_DIR}. It is UNTRUSTED: nobody outside this deployment "
                "will recognise its signatures."
            )
        )

    def show(self, *, root: bool) -> None:
        """Everything that is public about the signer; with `root` only the anchors, for others to import."""
        if root:
            self.stdout.write(keys_of_house.anchors_pem(), ending="")
            return
        signer = keys_of_house.signer()
        self.stdout.write(f"key: {settings.SIGNER_KEY_URI or settings.SIGNER_KEY_FILE or settings.SIGNER_DIR}")
        for title, pem in (("chain", signer.chain_pem), ("anchors", keys_of_house.anchors_pem())):
            self.stdout.write(f"{title}:")
            for certificate in x509.load_pem_x509_certificates(pem.encode()):
                self._describe(certificate)
        self.stdout.write(f"time stamps: {settings.TSA_URL or 'none'}")
        if signer.development:
            self.stdout.write(self.style.WARNING("Development signer: UNTRUSTED."))

    def rotate(self, chain: Path | None, key: Path | None) -> None:
        """Check first, then replace; whatever is refused leaves the old certificate at work."""
        if not settings.SIGNER_CHAIN_FILE:
            if chain or key:
                raise CommandError("No signer of yours is configured: set SIGNER_CHAIN_FILE. Nothing was changed.")
            keys_of_house.signer()  # says why, where a development signer may not sign
            DevelopmentAuthority.open(Path(settings.SIGNER_DIR)).rotate()
        else:
            self._install(chain, key)
        leaf = x509.load_pem_x509_certificates(keys_of_house.signer().chain_pem.encode())[0]
        self.stdout.write(self.style.SUCCESS("The new certificate signs from the next file on:"))
        self._describe(leaf)

    def _install(self, chain: Path | None, key: Path | None) -> None:
        if chain is None:
            raise CommandError("Name the new certificates: --chain FILE. Nothing was changed.")
        if key is not None and not settings.SIGNER_KEY_FILE:
            raise CommandError(
                "The key lies in a key service (SIGNER_KEY_URI); --key is not for it. Nothing was changed."
            )
        candidate: Signer
        if settings.SIGNER_KEY_URI:
            place = open_key(settings.SIGNER_KEY_URI, pin=settings.SIGNER_PIN, endpoint=settings.SIGNER_ENDPOINT)
            candidate = service_signer(rotation.read_chain(chain), place)
        else:
            candidate = FileSigner(chain, key or Path(settings.SIGNER_KEY_FILE))
        if reasons := rotation.unfit(candidate, keys_of_house.anchors_pem()):
            raise CommandError(
                "The new certificates were not installed, the old ones sign on: "
                + " ".join(reason.message for reason in reasons)
                + (
                    " If the root is new on purpose, add it to SIGNER_ANCHORS_FILE beside the old one first."
                    if any(reason.code == "anchor_mismatch" for reason in reasons)
                    else ""
                )
            )
        rotation.install(
            Path(settings.SIGNER_CHAIN_FILE),
            candidate.chain_pem,
            key=Path(settings.SIGNER_KEY_FILE) if key else None,
            key_pem=key.read_bytes() if key else None,
        )

    def check_it(self, *, as_json: bool) -> None:
        """Exit code 1 for what ends soon or is weak, 2 when signing would fail or not be recognised."""
        found = signing_checks.findings()
        code = signing_checks.exit_code(found)
        if as_json:
            body = {"status": code, "means": signing_checks.EXIT_CODES[code], "findings": [asdict(f) for f in found]}
            self.stdout.write(json.dumps(body, indent=1))
        else:
            for finding in found:
                self.stdout.write((self.style.ERROR if finding.fatal else self.style.WARNING)(finding.message))
            if code == 2:
                self.stdout.write(self.style.ERROR("The signer cannot be used as it is."))
            elif not found:
                self.stdout.write(self.style.SUCCESS("The signer is in order."))
        if code:
            sys.exit(code)

    def _describe(self, certificate: x509.Certificate) -> None:
        end = certificate.not_valid_after_utc
        self.stdout.write(f"  {certificate.subject.rfc4514_string()}")
        self.stdout.write(f"    until  {end:%Y-%m-%d} ({(end - datetime.now(UTC)).days} days)")
        self.stdout.write(f"    sha256 {certificate.fingerprint(hashes.SHA256()).hex()}")
