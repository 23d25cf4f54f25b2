"""Signers around a key that another machine or a hardware module keeps: AWS KMS, Google Cloud KMS, PKCS#11.

The three adapters (`key_aws`, `key_gcp`, `key_pkcs11`) answer two questions, for the public key and for a signature
over a digest, and translate what can go wrong into two codes: an outage, after which the same call may work, and a
refusal, after which it will not. They are opened for every file: a rotated key or certificate is taken for the next
one, and nothing of theirs has to survive a fork.
"""

from __future__ import annotations

from typing import Protocol

from cryptography.hazmat.primitives import hashes

from watermark.key_signers import HASHES, CallbackSigner, SignerError, algorithm

# Bounds of one call, in seconds; a call is tried twice by the client itself.
CONNECT_SECONDS = 3.0
READ_SECONDS = 8.0


class ServiceKey(Protocol):
    """A private key out of reach. `place` names it for people, without a secret."""

    @property
    def place(self) -> str: ...

    def public_key(self) -> object:
        """The public half, as one of cryptography's types. Raises SignerError."""

    def sign_digest(self, digest: bytes, alg: str) -> bytes:
        """Signature over a digest made with HASHES[alg]: DER or r||s for ECDSA, PSS for RSA. Raises SignerError."""


def open_key(uri: str, *, pin: str = "", endpoint: str = "") -> ServiceKey:
    """The key that `uri` names: `aws-kms:KEY`, `gcp-kms:projects/…/cryptoKeyVersions/N`, or an RFC 7512 `pkcs11:` URI.

    `endpoint` replaces the service's public address (a private endpoint, or a stand-in on this machine). Raises
    SignerError signer_invalid for any other URI, signer_missing when the adapter's extra is not installed.
    """
    scheme, _, rest = uri.partition(":")
    try:
        if scheme == "aws-kms" and rest:
            from watermark.key_aws import AwsKey

            return AwsKey(rest, endpoint=endpoint)
        if scheme == "gcp-kms" and rest:
            from watermark.key_gcp import GoogleKey

            return GoogleKey(rest, endpoint=endpoint)
        if scheme == "pkcs11" and rest:
            from watermark.key_pkcs11 import Pkcs11Key

            return Pkcs11Key.from_uri(uri, pin=pin)
    except ImportError as error:
        extra = {"aws-kms": "kms-aws", "gcp-kms": "kms-gcp"}.get(scheme, "pkcs11")
        raise SignerError(
            "signer_missing",
            f"The library for {scheme} keys is not installed. Nothing was signed. "
            f"Install the extra {extra} (deploy/requirements-signers.lock holds all three).",
            str(error),
        ) from error
    raise SignerError(
        "signer_invalid",
        "The address of the signing key begins with none of aws-kms:, gcp-kms:, pkcs11:. Nothing was signed. "
        "Correct SIGNER_KEY_URI.",
    )


def service_signer(chain_pem: str, key: ServiceKey) -> CallbackSigner:
    """A signer with `key` under the certificates `chain_pem`; asks the service for the public key.

    Raises SignerError: the service's own, or signer_invalid when the key does not belong to the first certificate.
    """
    public = key.public_key()
    alg = algorithm(public)

    def sign(data: bytes) -> bytes:
        digest = hashes.Hash(HASHES[alg]())
        digest.update(data)
        return key.sign_digest(digest.finalize(), alg)

    if alg == "ed25519":
        raise SignerError(
            "signer_invalid",
            "An Ed25519 key in a key service cannot be used: services sign digests. Nothing was signed. "
            "Make a P-256 key there.",
        )
    signer = CallbackSigner(chain_pem, alg, sign)
    if signer.leaf.public_key() != public:
        raise SignerError(
            "signer_invalid",
            "The key in the key service does not belong to the first certificate of the chain. Nothing was signed. "
            "Install the chain that was issued for this key: manage.py certs rotate --chain FILE.",
            key.place,
        )
    return signer


def unavailable(place: str, words: object) -> SignerError:
    """An outage: the same call may work later."""
    return SignerError(
        "signer_unavailable",
        "The signing key service does not answer. Nothing was published and nothing is lost; "
        "it is tried again by itself.",
        f"{place}: {words}",
    )


def denied(place: str, words: object) -> SignerError:
    """A refusal: asking again changes nothing."""
    return SignerError(
        "signer_denied",
        "The signing key service refuses to sign. Nothing was published and no file was left behind. "
        "The operator finds its own words in the log and with `manage.py certs check`; start the job again after that.",
        f"{place}: {words}",
    )
