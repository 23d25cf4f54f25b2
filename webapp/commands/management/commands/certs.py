"""`manage.py certs init-dev | show | check`: the certificate that signs our manifests."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from watermark.certificates import check_key_file, check_signer
from watermark.signers import DevelopmentAuthority, SignerError
from webapp import keys_of_house


class Command(BaseCommand):
    """Thin: the work is done in watermark.authority and watermark.certificates."""

    help = "Make a development signer (init-dev), show the signing certificates (show), or check them (check)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=["init-dev", "show", "check"])

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            {"init-dev": self.init_dev, "show": self.show, "check": self.check_it}[options["action"]]()
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

    def show(self) -> None:
        """Subject, validity and fingerprint of every certificate of the chain and of the anchors."""
        signer = keys_of_house.signer()
        for title, pem in (("chain", signer.chain_pem), ("anchors", keys_of_house.anchors_pem())):
            self.stdout.write(f"{title}:")
            for certificate in x509.load_pem_x509_certificates(pem.encode()):
                self.stdout.write(f"  {certificate.subject.rfc4514_string()}")
                self.stdout.write(f"    until  {certificate.not_valid_after_utc:%Y-%m-%d}")
                self.stdout.write(f"    sha256 {certificate.fingerprint(hashes.SHA256()).hex()}")
        if signer.development:
            self.stdout.write(self.style.WARNING("Development signer: UNTRUSTED."))

    def check_it(self) -> None:
        """Exit code 1 when signing would fail or our signatures would not be recognised."""
        findings = check_signer(keys_of_house.signer(), keys_of_house.anchors_pem())
        if key := settings.SIGNER_KEY_FILE:
            findings += check_key_file(Path(key))
        for finding in findings:
            self.stdout.write((self.style.ERROR if finding.fatal else self.style.WARNING)(finding.message))
        if any(finding.fatal for finding in findings):
            raise CommandError("The signer cannot be used as it is.")
        if not findings:
            self.stdout.write(self.style.SUCCESS("The signer is in order."))
