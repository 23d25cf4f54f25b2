"""Is a signer fit to sign? The findings of `manage.py certs check` and of the self-diagnosis."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID

from watermark.authority import RENEW_BEFORE
from watermark.issuing import CLAIM_SIGNING
from watermark.key_signers import Signer, SignerError

# What the SDK accepts of a claim signer: emailProtection, documentSigning (RFC 9336), C2PA claim signing.
_PURPOSES = {ExtendedKeyUsageOID.EMAIL_PROTECTION, x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36"), CLAIM_SIGNING}


@dataclass(frozen=True)
class Finding:
    """One thing to know about the signer; `fatal` means that signing, or recognising our signatures, would fail."""

    code: str
    message: str
    fatal: bool


def check_signer(signer: Signer, anchors_pem: str, now: datetime | None = None) -> list[Finding]:
    """Findings about a signer and the anchors its signatures must be recognised under, worst first.

    Empty when all is well and trusted. The private key is tried once.
    """
    try:
        anchors = x509.load_pem_x509_certificates(anchors_pem.encode())
    except ValueError:
        message = "The anchors of our own signatures are not PEM. Install the root of the signing chain."
        return [Finding("anchor_invalid", message, fatal=True)]
    findings = _chain_findings(signer, anchors, now or datetime.now(UTC))
    try:
        signer.sign(b"Imprimatur: does this key answer?")
    except SignerError as error:
        findings.append(Finding(error.code, str(error), fatal=True))  # for the operator: with the service's words
    if signer.development:
        findings.append(
            Finding(
                "development",
                "This is a development signer: UNTRUSTED. Nobody outside this deployment will recognise it.",
                fatal=False,
            )
        )
    return sorted(findings, key=lambda finding: not finding.fatal)


def check_key_file(path: Path) -> list[Finding]:
    """A finding when a private key can be read by anybody but its owner."""
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return [Finding("key_readable", f"{path.name} can be read by others: chmod 600 it.", fatal=False)]
    return []


def _chain_findings(signer: Signer, anchors: list[x509.Certificate], now: datetime) -> list[Finding]:
    chain = x509.load_pem_x509_certificates(signer.chain_pem.encode())
    findings = []
    for certificate in chain:
        name = certificate.subject.rfc4514_string()
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            findings.append(Finding("not_valid_now", f"{name} is not valid today. Renew it.", fatal=True))
        elif certificate.not_valid_after_utc - now < RENEW_BEFORE:
            days = (certificate.not_valid_after_utc - now).days
            findings.append(Finding("expires_soon", f"{name} ends in {days} days. Renew it.", fatal=False))
    for certificate, issuer in pairwise(chain):
        if not _issued_by(certificate, issuer):
            findings.append(
                Finding(
                    "chain_broken",
                    f"{certificate.subject.rfc4514_string()} was not issued by the next one of the chain. "
                    "Order them leaf first.",
                    fatal=True,
                )
            )
    if not any(chain[-1] == anchor or _issued_by(chain[-1], anchor) for anchor in anchors):
        findings.append(
            Finding(
                "anchor_mismatch",
                "The chain does not lead to an anchor, so our own signatures would not be recognised. "
                "Install the root that issued the last certificate of the chain.",
                fatal=True,
            )
        )
    return findings + _leaf_findings(chain[0])


def _leaf_findings(leaf: x509.Certificate) -> list[Finding]:
    missing = []
    try:
        usages = set(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        if not usages & _PURPOSES:
            missing.append("an extended key usage for signing (emailProtection)")
    except x509.ExtensionNotFound:
        missing.append("an extended key usage")
    try:
        if not leaf.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature:
            missing.append("the key usage digitalSignature")
    except x509.ExtensionNotFound:
        missing.append("a key usage")
    try:
        leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except x509.ExtensionNotFound:
        missing.append("an authority key identifier")
    if not missing:
        return []
    return [
        Finding("leaf_unfit", f"The signing certificate lacks {', '.join(missing)}. Ask for a new one.", fatal=True)
    ]


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
