"""A signing key in AWS KMS (API version 2014-11-01: GetPublicKey, Sign). Needs the extra `kms-aws`.

Credentials and region come from where every AWS client looks for them (environment, profile, instance role); a key ARN
brings its own region.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    ReadTimeoutError,
)
from cryptography.hazmat.primitives.serialization import load_der_public_key

from watermark.key_services import CONNECT_SECONDS, READ_SECONDS, denied, unavailable

# RSASSA-PSS and ECDSA are the only ones that C2PA takes (2.2 section 13.2.1).
_ALGORITHMS = {
    "es256": "ECDSA_SHA_256",
    "es384": "ECDSA_SHA_384",
    "es512": "ECDSA_SHA_512",
    "ps256": "RSASSA_PSS_SHA_256",
}
# Service errors that pass by themselves though their HTTP status is 400.
_PASSING = frozenset({"ThrottlingException", "LimitExceededException", "KeyUnavailableException", "RequestTimeout"})


class AwsKey:
    """`key_id` is a key id, a key ARN, or an alias (`alias/NAME`)."""

    def __init__(self, key_id: str, *, endpoint: str = "") -> None:
        self.place = f"AWS KMS {key_id}"
        self._key_id = key_id
        self._endpoint = endpoint

    def public_key(self) -> object:
        """See ServiceKey.public_key."""
        with self._told_apart():
            return load_der_public_key(self._client().get_public_key(KeyId=self._key_id)["PublicKey"])

    def sign_digest(self, digest: bytes, alg: str) -> bytes:
        """See ServiceKey.sign_digest."""
        with self._told_apart():
            answer = self._client().sign(
                KeyId=self._key_id, Message=digest, MessageType="DIGEST", SigningAlgorithm=_ALGORITHMS[alg]
            )
            return bytes(answer["Signature"])

    def _client(self) -> Any:
        parts = self._key_id.split(":")
        region = parts[3] if self._key_id.startswith("arn:") and len(parts) > 5 else None
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 2},
        )
        # A session of its own: boto3's default one must not be shared by threads.
        return boto3.session.Session().client(
            "kms", region_name=region, endpoint_url=self._endpoint or None, config=config
        )

    @contextmanager
    def _told_apart(self) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            passing = status >= 500 or status == 429 or error.response.get("Error", {}).get("Code") in _PASSING
            raise (unavailable if passing else denied)(self.place, error) from error
        except (ConnectionError, HTTPClientError, ReadTimeoutError) as error:
            raise unavailable(self.place, error) from error
        except (BotoCoreError, KeyError, ValueError) as error:  # no credentials, no region, an answer that is none
            raise denied(self.place, error) from error
