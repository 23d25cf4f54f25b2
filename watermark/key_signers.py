"""Signers around a private key: in a PEM file, or in a key service behind a callback.

A signer is asked once per file, with the bytes of the COSE Sig_structure (RFC 9052 section 4.4; C2PA 2.2 section 13.2).
The private key need not be in this process: `CallbackSigner` hands the bytes to a key service.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from watermark.issuing import ORGANISATION

_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "es256": hashes.SHA256,
    "es384": hashes.SHA384,
    "es512": hashes.SHA512,
    "ps256": hashes.SHA256,
    "ps384": hashes.SHA384,
    "ps512": hashes.SHA512,
}
MIN_RSA_BITS = 2048
_Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


class SignerError(Exception):
    """A signature could not be made.

    `code`: signer_missing, signer_invalid, signer_exists; signer_unavailable (an outage: the same call may work later),
    signer_denied (the key service says no: it will again), signer_failed (nobody can tell which). `message` is for
    everybody; `detail` holds the key service's own words, for the operator and the log. `str()` gives both.
    """

    def __init__(self, code: str, message: str, detail: str = "") -> None:
        super().__init__(f"{message} [{detail}]" if detail else message)
        self.code = code
        self.message = message
        self.detail = detail


class Signer(Protocol):
    """What `manifest.sign_file` needs. `development` is true only for a signer nobody should trust."""

    @property
    def alg(self) -> str:
        """es256, es384, es512, ps256, ps384, ps512 or ed25519."""

    @property
    def chain_pem(self) -> str:
        """Leaf first, then intermediates, PEM."""

    @property
    def development(self) -> bool:
        """True when the certificates say UNTRUSTED DEVELOPMENT."""

    def sign(self, data: bytes) -> bytes:
        """Signature over `data`: raw r||s for ECDSA (DER is accepted too), 64 bytes for Ed25519. Thread-safe."""


class FileSigner:
    """Signs with a private key from a PEM file. The file is read once, when the signer is made."""

    def __init__(self, chain_path: Path, key_path: Path, *, password: bytes | None = None) -> None:
        """Raises SignerError: signer_missing (no such file), signer_invalid (not a PEM, or key and leaf differ)."""
        try:
            self.chain_pem = chain_path.read_text(encoding="ascii")
            key_pem = key_path.read_bytes()
        except (OSError, UnicodeDecodeError) as error:
            raise SignerError(
                "signer_missing",
                f"The signing certificate or key cannot be read ({error.__class__.__name__}). "
                "Nothing was signed or changed. Put chain.pem and signer.key there, or run `manage.py certs init-dev`.",
            ) from error
        try:
            self._leaf = x509.load_pem_x509_certificates(self.chain_pem.encode())[0]
            key = serialization.load_pem_private_key(key_pem, password=password)
        except (ValueError, TypeError) as error:
            raise SignerError(
                "signer_invalid",
                "The signing certificate or key is not a readable PEM file. Nothing was signed or changed. "
                "Check both files, and the password if the key has one.",
            ) from error
        if not isinstance(key, _Key) or key.public_key() != self._leaf.public_key():
            raise SignerError(
                "signer_invalid",
                "The private key does not belong to the first certificate of the chain. Nothing was signed or changed. "
                "Install the key that was made for this certificate.",
            )
        self._key: _Key = key
        self.alg = algorithm(key.public_key())

    @property
    def development(self) -> bool:
        """True when the certificate's own name says so."""
        return is_development(self._leaf)

    def sign(self, data: bytes) -> bytes:
        """See Signer.sign."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(data)
        digest = HASHES[self.alg]()
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        r, s = decode_dss_signature(self._key.sign(data, ec.ECDSA(digest)))
        size = (self._key.curve.key_size + 7) // 8
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")


class CallbackSigner:
    """Signs through `fn`, for example a call to a key service; the private key never enters this process."""

    def __init__(self, chain_pem: str, alg: str, fn: Callable[[bytes], bytes]) -> None:
        """`fn` gets the bytes to sign and returns the signature. Raises SignerError signer_invalid for a bad chain."""
        if alg not in {*HASHES, "ed25519"}:
            raise SignerError(
                "signer_invalid",
                f"{alg!r} is not a C2PA signature algorithm. Nothing was signed. "
                f"Use one of {', '.join([*HASHES, 'ed25519'])}.",
            )
        try:
            self.leaf = x509.load_pem_x509_certificates(chain_pem.encode())[0]
        except ValueError as error:
            raise SignerError(
                "signer_invalid",
                "The certificate chain is not PEM. Nothing was signed. Give the leaf first, then the intermediates.",
            ) from error
        self.chain_pem = chain_pem
        self.alg = alg
        self._fn = fn

    @property
    def development(self) -> bool:
        """True when the certificate's own name says so."""
        return is_development(self.leaf)

    def sign(self, data: bytes) -> bytes:
        """Raises the key service's SignerError as it is, and signer_failed with its own words for any other error."""
        try:
            return self._fn(data)
        except SignerError:
            raise
        except Exception as error:
            raise signer_failed(error) from error


def signer_failed(cause: BaseException) -> SignerError:
    """The error for a signature that failed in a way nobody foresaw."""
    return SignerError(
        "signer_failed",
        "The signing key did not answer. Nothing was published and no file was left behind. "
        "The operator finds the reason in the log; try again when the key service works.",
        f"{cause.__class__.__name__}: {cause}",
    )


def leaf_expiry(chain_pem: str) -> datetime:
    """When the first certificate of a chain ends, UTC."""
    return x509.load_pem_x509_certificates(chain_pem.encode())[0].not_valid_after_utc


def remaining_life(chain_pem: str, now: datetime | None = None) -> timedelta:
    """How long the first certificate of a chain still holds; negative when it has ended."""
    return leaf_expiry(chain_pem) - (now or datetime.now(UTC))


def is_development(certificate: x509.Certificate) -> bool:
    """True when the issuer's organisation is that of the development authority."""
    return any(attribute.value == ORGANISATION for attribute in certificate.issuer)


def algorithm(key: object) -> str:
    """C2PA's name of the algorithm a public key signs with. Raises SignerError signer_invalid for any other key."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA_BITS:
        return "ps256"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    kind = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else key.__class__.__name__.lstrip("_")
    raise SignerError(
        "signer_invalid",
        f"A key of the kind {kind} is not allowed in C2PA. Nothing was signed. "
        "Use P-256, P-384, P-521, Ed25519 or RSA of 2048 bits and more.",
    )
