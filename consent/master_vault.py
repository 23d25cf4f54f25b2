"""The master key under a key of a Vault's transit engine (HTTP API v1: transit/encrypt, transit/decrypt).

Whoever calls shows a token (VAULT_TOKEN), or logs in with an AppRole (VAULT_ROLE_ID, VAULT_SECRET_ID) for each call:
the master key is asked for once in minutes, and a token that nobody keeps cannot be stolen.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import ssl
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any, Self
from urllib.parse import quote, urlsplit

from django.conf import settings

from consent.key_errors import MasterKeyUnusableError, unavailable, unusable

SECONDS = 8.0
LARGEST_ANSWER = 1 << 20
LOCAL = {"localhost", "127.0.0.1", "::1"}
_PLACE = re.compile(r"(?P<mount>[A-Za-z0-9_./-]+)/(?P<key>[A-Za-z0-9_.-]+)")
_SEALED = re.compile(rb"vault:v[0-9]+:[A-Za-z0-9+/=]+")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token is shown to the named Vault and to nobody it points at."""

    def redirect_request(self, *_: Any) -> None:
        return None


class VaultWrapper:
    """`key` of the transit engine mounted at `mount`, in the Vault at `address`."""

    def __init__(
        self,
        mount: str,
        key: str,
        *,
        address: str,
        token: str = "",
        role_id: str = "",
        secret_id: str = "",
        namespace: str = "",
        ca_file: str = "",
    ) -> None:
        self.place = f"Vault {address} {mount}/{key}"
        parts = urlsplit(address)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOCAL):
            raise unusable("of the Vault", "needs VAULT_ADDR to be https:// (http:// on this machine only)")
        if not token and not (role_id and secret_id):
            raise unusable(self.place, "needs VAULT_TOKEN, or VAULT_ROLE_ID and VAULT_SECRET_ID")
        self._address, self._mount, self._key = address.rstrip("/"), mount, key
        self._token, self._role_id, self._secret_id, self._namespace = token, role_id, secret_id, namespace
        self._ca_file = ca_file

    @classmethod
    def from_settings(cls, place: str) -> Self:
        """`place` is MOUNT/KEY, as in `vault:transit/imprimatur`. Raises MasterKeyUnusableError."""
        match = _PLACE.fullmatch(place)
        if match is None:
            raise MasterKeyUnusableError(
                "MASTER_KEY_URI must be vault:MOUNT/KEY, for example vault:transit/imprimatur. Nothing was changed."
            )
        return cls(
            match["mount"],
            match["key"],
            address=settings.VAULT_ADDR,
            token=settings.VAULT_TOKEN,
            role_id=settings.VAULT_ROLE_ID,
            secret_id=settings.VAULT_SECRET_ID,
            namespace=settings.VAULT_NAMESPACE,
            ca_file=settings.VAULT_CACERT,
        )

    def wrap(self, secret: bytes) -> bytes:
        """See masters.Wrapper."""
        answer = self._transit("encrypt", {"plaintext": base64.b64encode(secret).decode()})
        sealed = str(answer.get("ciphertext", "")).encode()
        if not _SEALED.fullmatch(sealed):
            raise unusable(self.place, "was answered with something that is no ciphertext")
        return sealed

    def unwrap(self, sealed: bytes) -> bytes:
        """See masters.Wrapper."""
        answer = self._transit("decrypt", {"ciphertext": sealed.decode("ascii", "replace")})
        try:
            return base64.b64decode(str(answer["plaintext"]), validate=True)
        except (KeyError, binascii.Error) as error:
            raise unusable(self.place, "was answered with something that is no key") from error

    def _opener(self) -> urllib.request.OpenerDirector:
        """Made when the Vault is asked, which is seldom: reading the machine's roots takes longer than the call.

        Without proxies from the environment: the answer holds the master key.
        """
        try:
            context = ssl.create_default_context(cafile=self._ca_file or None)
        except (OSError, ssl.SSLError) as error:
            raise unusable(self.place, "needs VAULT_CACERT to be a file of certificates") from error
        return urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _NoRedirect()
        )

    def _transit(self, verb: str, body: dict[str, str]) -> dict[str, Any]:
        token = self._token or self._log_in()
        return self._post(f"{quote(self._mount)}/{verb}/{quote(self._key)}", body, token)["data"]

    def _log_in(self) -> str:
        body = {"role_id": self._role_id, "secret_id": self._secret_id}
        answer = self._post("auth/approle/login", body, "")
        token = answer.get("auth", {}).get("client_token") if isinstance(answer.get("auth"), dict) else None
        if not isinstance(token, str) or not token:
            raise unusable(self.place, "was not opened: the log-in gave no token")
        return token

    def _post(self, path: str, body: dict[str, str], token: str) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "X-Vault-Request": "true"}
        if token:
            headers["X-Vault-Token"] = token
        if self._namespace:
            headers["X-Vault-Namespace"] = self._namespace
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked above
            f"{self._address}/v1/{path}", data=json.dumps(body).encode(), headers=headers, method="POST"
        )
        try:
            with self._opener().open(request, timeout=SECONDS) as answer:
                found = json.loads(answer.read(LARGEST_ANSWER))
        except urllib.error.HTTPError as error:
            # 412 and 472/473 are a standby or a lagging replica, 5xx a sealed or failing Vault.
            if error.code >= 500 or error.code in {412, 429, 472, 473}:
                raise unavailable(self.place, f"status {error.code}") from error
            raise unusable(self.place, f"is refused by the service (status {error.code})") from error
        except (urllib.error.URLError, OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise unusable(self.place, "is not trusted: its certificate leads to no known root") from error
            raise unavailable(self.place, type(reason).__name__) from error
        except ValueError as error:
            raise unusable(self.place, "was answered with something that is no JSON") from error
        if not isinstance(found, dict) or not isinstance(found.get("data") or found.get("auth"), dict):
            raise unusable(self.place, "was answered with something else than Vault says")
        return found
