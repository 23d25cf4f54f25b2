"""Certificates of the development authority: root, intermediate and leaf in the profile that C2PA signers need.

Profile: C2PA 2.2 section 14.5 (X.509 certificates). What the SDK and the conformance programme ask of a leaf: version
3, CA=false, key usage digitalSignature (critical), extended key usage emailProtection (plus C2PA's own claim-signing
identifier), subject and authority key identifiers, signed by an intermediate; the root stays out of the chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ORGANISATION = "Imprimatur UNTRUSTED DEVELOPMENT"
ROOT_NAME = "Imprimatur UNTRUSTED development root"
INTERMEDIATE_NAME = "Imprimatur UNTRUSTED development intermediate"
LEAF_NAME = "Imprimatur UNTRUSTED development signer"

CLAIM_SIGNING = x509.ObjectIdentifier("1.3.6.1.4.1.62558.2.1")  # c2pa-kp-claimSigning
# Clocks of two machines differ; a certificate that starts in the future signs nothing.
CLOCK_SKEW = timedelta(minutes=5)
ROOT_LIFE = timedelta(days=3650)
INTERMEDIATE_LIFE = timedelta(days=1825)
LEAF_LIFE = timedelta(days=90)


@dataclass(frozen=True)
class Issued:
    """A certificate with its private key (P-256)."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> str:
        """The certificate alone, PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> bytes:
        """The private key, PKCS#8 PEM, not encrypted: write it to a 0600 file."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def issue_root(now: datetime | None = None) -> Issued:
    """A new self-signed root that says in its name that nobody should trust it."""
    return _issue(ROOT_NAME, issuer=None, authority=True, path_length=1, life=ROOT_LIFE, now=now)


def issue_intermediate(root: Issued, now: datetime | None = None) -> Issued:
    """A new intermediate under `root`."""
    return _issue(INTERMEDIATE_NAME, issuer=root, authority=True, path_length=0, life=INTERMEDIATE_LIFE, now=now)


def issue_leaf(intermediate: Issued, now: datetime | None = None, life: timedelta = LEAF_LIFE) -> Issued:
    """A new signing certificate under `intermediate`; `life` is cut at the intermediate's own end."""
    start = (now or datetime.now(UTC)) - CLOCK_SKEW
    left = intermediate.certificate.not_valid_after_utc - start
    return _issue(LEAF_NAME, issuer=intermediate, authority=False, path_length=None, life=min(life, left), now=now)


def load_issued(certificate_pem: bytes, key_pem: bytes) -> Issued:
    """Read one certificate and its key back. Raises ValueError when one is damaged or they do not match."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    key = serialization.load_pem_private_key(key_pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ValueError("the private key does not belong to the certificate")
    return Issued(certificate, key)


def _issue(
    name: str, *, issuer: Issued | None, authority: bool, path_length: int | None, life: timedelta, now: datetime | None
) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "XX"),  # user-assigned: no country
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    start = (now or datetime.now(UTC)) - CLOCK_SKEW
    signing_key = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + life)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=path_length), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not authority,
                content_commitment=not authority,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=authority,
                crl_sign=authority,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()),
            critical=False,
        )
    )
    if not authority:
        # emailProtection is what every verifier knows; claimSigning is what the conformance programme wants.
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION, CLAIM_SIGNING])
        builder = builder.add_extension(usages, critical=False)
    return Issued(builder.sign(signing_key, hashes.SHA256()), key)
