"""The master key under a key of AWS KMS (API version 2014-11-01: Encrypt, Decrypt). Needs the extra `kms-aws`.

Credentials and region come from where every AWS client looks for them; a key ARN brings its own region.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError, ReadTimeoutError

from consent.key_errors import unavailable, unusable

# Bounds of one call in seconds; the client tries twice.
CONNECT_SECONDS = 3.0
READ_SECONDS = 8.0
# Bound to the ciphertext: KMS opens it only for who names the same, and its audit log shows it.
CONTEXT = {"imprimatur": "master key"}
# Service errors that pass by themselves though their HTTP status is 400.
_PASSING = frozenset({"ThrottlingException", "LimitExceededException", "KeyUnavailableException", "RequestTimeout"})


class AwsWrapper:
    """`key_id` is a key id, a key ARN, or an alias (`alias/NAME`)."""

    def __init__(self, key_id: str, *, endpoint: str = "") -> None:
        self.place = f"AWS KMS {key_id}"
        self._key_id = key_id
        self._endpoint = endpoint

    def wrap(self, secret: bytes) -> bytes:
        """See masters.Wrapper."""
        with self._told_apart():
            answer = self._client().encrypt(KeyId=self._key_id, Plaintext=secret, EncryptionContext=CONTEXT)
            return bytes(answer["CiphertextBlob"])

    def unwrap(self, sealed: bytes) -> bytes:
        """See masters.Wrapper. The key is named, so that a ciphertext of somebody else's key is not opened."""
        with self._told_apart():
            answer = self._client().decrypt(KeyId=self._key_id, CiphertextBlob=sealed, EncryptionContext=CONTEXT)
            return bytes(answer["Plaintext"])

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
        """An outage, after which the same call may work, and a refusal, after which it will not."""
        try:
            yield
        except ClientError as error:
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            code = str(error.response.get("Error", {}).get("Code", ""))
            if status >= 500 or status == 429 or code in _PASSING:
                raise unavailable(self.place, code or str(status)) from error
            raise unusable(self.place, f"is refused by the service ({code or status})") from error
        except (ConnectionError, HTTPClientError, ReadTimeoutError) as error:
            raise unavailable(self.place, type(error).__name__) from error
        except (BotoCoreError, KeyError, ValueError, TypeError) as error:  # no credentials, no region, a wrong answer
            raise unusable(self.place, f"cannot be asked for ({type(error).__name__})") from error
