"""A signing key in Google Cloud KMS (v1: GetPublicKey, AsymmetricSign), over REST. Needs the extra `kms-gcp`.

Credentials are the application default ones. Both checksums of every answer are compared, as Google asks of clients:
what was damaged on the way counts as an outage.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import google.auth.credentials
import google.auth.exceptions
import requests
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from google.api_core import exceptions as api
from google.api_core.retry import Retry, if_exception_type
from google.cloud import kms_v1
from google.cloud.kms_v1.services.key_management_service.transports import KeyManagementServiceRestTransport

from watermark.key_services import READ_SECONDS, denied, unavailable
from watermark.key_signers import SignerError

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# The key's own algorithm decides padding and digest; C2PA has no name for the others.
_ALGORITHMS = {
    "EC_SIGN_P256_SHA256": ("es256", "sha256"),
    "EC_SIGN_P384_SHA384": ("es384", "sha384"),
    "RSA_SIGN_PSS_2048_SHA256": ("ps256", "sha256"),
    "RSA_SIGN_PSS_3072_SHA256": ("ps256", "sha256"),
    "RSA_SIGN_PSS_4096_SHA256": ("ps256", "sha256"),
}
_PASSING = (api.ServerError, api.TooManyRequests, api.RetryError, google.auth.exceptions.TransportError)


class GoogleKey:
    """`name` is the full resource name of one key version: `projects/…/locations/…/…/cryptoKeyVersions/N`."""

    def __init__(self, name: str, *, endpoint: str = "") -> None:
        self.place = f"Google Cloud KMS {name}"
        self._name = name
        self._endpoint = endpoint

    def public_key(self) -> object:
        """See ServiceKey.public_key."""
        with self._told_apart(), self._client() as client:
            found = client.get_public_key(request={"name": self._name}, timeout=READ_SECONDS, retry=_retry())
            kind = kms_v1.CryptoKeyVersion.CryptoKeyVersionAlgorithm(found.algorithm).name
            if kind not in _ALGORITHMS:
                raise denied(self.place, f"the key's algorithm is {kind}; C2PA needs one of {', '.join(_ALGORITHMS)}")
            self._intact(found.name == self._name and found.pem_crc32c == crc32c(found.pem.encode()))
            return load_pem_public_key(found.pem.encode())

    def sign_digest(self, digest: bytes, alg: str) -> bytes:
        """See ServiceKey.sign_digest."""
        kind = dict(_ALGORITHMS.values()).get(alg)
        if kind is None:
            raise denied(self.place, f"Google Cloud KMS has no keys for {alg}")
        with self._told_apart(), self._client() as client:
            answer = client.asymmetric_sign(
                request={"name": self._name, "digest": {kind: digest}, "digest_crc32c": crc32c(digest)},
                timeout=READ_SECONDS,
                retry=_retry(),
            )
            signature = bytes(answer.signature)
            self._intact(answer.verified_digest_crc32c and answer.signature_crc32c == crc32c(signature))
            self._intact(answer.name == self._name)
            return signature

    def _client(self) -> kms_v1.KeyManagementServiceClient:
        parts = urlsplit(self._endpoint)
        if parts.scheme == "http" and parts.hostname in LOOPBACK:  # a stand-in on this machine: no credentials for it
            anonymous = google.auth.credentials.AnonymousCredentials()  # type: ignore[no-untyped-call]
            transport = KeyManagementServiceRestTransport(host=parts.netloc, url_scheme="http", credentials=anonymous)
            return kms_v1.KeyManagementServiceClient(transport=transport)
        options = {"api_endpoint": parts.netloc or self._endpoint} if self._endpoint else None
        return kms_v1.KeyManagementServiceClient(transport="rest", client_options=options)

    def _intact(self, good: bool) -> None:
        if not good:
            raise unavailable(self.place, "the answer was damaged on the way (checksum or name differs)")

    @contextmanager
    def _told_apart(self) -> Iterator[None]:
        try:
            yield
        except SignerError:
            raise
        except _PASSING as error:
            raise unavailable(self.place, error) from error
        except (requests.ConnectionError, requests.Timeout) as error:
            raise unavailable(self.place, error) from error
        except (api.GoogleAPIError, google.auth.exceptions.GoogleAuthError, ValueError) as error:
            raise denied(self.place, error) from error


def _retry() -> Retry:
    """The client's own default goes on for a minute; longer waits are the task's."""
    return Retry(if_exception_type(api.ServiceUnavailable), initial=0.2, maximum=2.0, timeout=READ_SECONDS)


def crc32c(data: bytes) -> int:
    """Castagnoli's CRC (RFC 3720 appendix B.4), for the few bytes of a key or a signature."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF
