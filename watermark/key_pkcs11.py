"""A signing key in a hardware module behind PKCS#11 (v2.40), named by an RFC 7512 URI. Needs the extra `pkcs11`.

Asked of the token: the key pair's private and public object, both with the label (or id) of the URI. Wrong PINs are
never tried twice: tokens lock themselves.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, unquote_to_bytes

import pkcs11
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pkcs11.exceptions import (
    DeviceError,
    DeviceMemory,
    DeviceRemoved,
    FunctionFailed,
    GeneralError,
    NoSuchToken,
    PKCS11Error,
    SessionCount,
    TokenNotPresent,
)
from pkcs11.util.ec import encode_ec_public_key
from pkcs11.util.rsa import encode_rsa_public_key

from watermark.bounded import within
from watermark.key_services import denied, unavailable
from watermark.key_signers import SignerError

# A module that is not plugged in, busy or restarting looks like this; anything else is a refusal.
_PASSING = (
    DeviceError,
    DeviceMemory,
    DeviceRemoved,
    FunctionFailed,
    GeneralError,
    NoSuchToken,
    SessionCount,
    TokenNotPresent,
)
_PSS = {"ps256": (pkcs11.Mechanism.SHA256, pkcs11.MGF.SHA256, 32)}
CALL_SECONDS = 20.0  # a module on the network, with a login, answers in one or two
_lock = threading.Lock()  # one login state per process and token: sessions are opened one at a time


@dataclass(frozen=True)
class Pkcs11Key:
    """`module` is the path of the vendor's library; `token` its label; the key is found by `label` or `key_id`."""

    module: str
    token: str
    pin: str = field(repr=False)
    label: str | None = None
    key_id: bytes | None = None

    @classmethod
    def from_uri(cls, uri: str, *, pin: str = "") -> Self:
        """`pkcs11:token=T;object=K?module-path=/…/lib.so` with `id` for or beside `object`, and `pin-source=file:/…`
        unless `pin` is given. Raises SignerError signer_invalid, signer_missing (the PIN's file)."""
        path, _, query = uri.removeprefix("pkcs11:").partition("?")
        pairs = [part.partition("=") for part in (*path.split(";"), *query.split("&")) if part]
        named = {name: value for name, _, value in pairs}
        if "pin-value" in named:
            raise _bad_uri("a PIN in the address would reach logs and process lists; use SIGNER_PIN_FILE or pin-source")
        if unknown := sorted(set(named) - {"token", "object", "id", "type", "module-path", "pin-source"}):
            raise _bad_uri(f"{unknown[0]} is not understood")
        if not named.get("token") or not named.get("module-path") or not (named.get("object") or named.get("id")):
            raise _bad_uri("token, module-path and one of object and id are needed")
        if not pin and (source := unquote(named.get("pin-source", ""))):
            try:
                pin = Path(source.removeprefix("file:")).read_text(encoding="utf-8").strip()
            except OSError as error:
                raise SignerError(
                    "signer_missing",
                    "The file with the PIN of the signing key cannot be read. Nothing was signed. Correct pin-source.",
                    str(error),
                ) from error
        return cls(
            module=unquote(named["module-path"]),
            token=unquote(named["token"]),
            pin=pin,
            label=unquote(named["object"]) if "object" in named else None,
            key_id=unquote_to_bytes(named["id"]) if "id" in named else None,
        )

    @property
    def place(self) -> str:
        """See ServiceKey.place."""
        return f"PKCS#11 token {self.token}, key {self.label or (self.key_id or b'').hex()}"

    def public_key(self) -> object:
        """See ServiceKey.public_key."""
        return within(CALL_SECONDS, self._public_key, self._late)

    def sign_digest(self, digest: bytes, alg: str) -> bytes:
        """See ServiceKey.sign_digest."""
        return within(CALL_SECONDS, lambda: self._sign_digest(digest, alg), self._late)

    def _late(self, words: str) -> SignerError:
        return unavailable(self.place, words)

    def _public_key(self) -> object:
        with self._session() as session:
            found: Any = session.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, label=self.label, id=self.key_id)
            rsa = found.key_type is pkcs11.KeyType.RSA
            if not rsa and found.key_type is not pkcs11.KeyType.EC:
                raise denied(self.place, f"a key of the type {found.key_type} cannot be used")
            return load_der_public_key(encode_rsa_public_key(found) if rsa else encode_ec_public_key(found))

    def _sign_digest(self, digest: bytes, alg: str) -> bytes:
        with self._session() as session:
            key: Any = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=self.label, id=self.key_id)
            if alg in _PSS:
                return bytes(key.sign(digest, mechanism=pkcs11.Mechanism.RSA_PKCS_PSS, mechanism_param=_PSS[alg]))
            return bytes(key.sign(digest, mechanism=pkcs11.Mechanism.ECDSA))

    @contextmanager
    def _session(self) -> Iterator[Any]:
        if not _lock.acquire(timeout=CALL_SECONDS):
            raise unavailable(self.place, "an earlier call has not come back")
        try:
            library = pkcs11.lib(self.module)
            library.reinitialize()  # tokens are looked for anew: one that was plugged in again is found
            with library.get_token(token_label=self.token).open(user_pin=self.pin or None) as session:
                yield session
        except SignerError:
            raise
        except _PASSING as error:
            raise unavailable(self.place, _words(error)) from error
        except (PKCS11Error, RuntimeError, OSError, ValueError) as error:
            raise denied(self.place, _words(error)) from error
        finally:
            _lock.release()


def _words(error: Exception) -> str:
    """The module's errors are often only a name (CKR_PIN_INCORRECT is PinIncorrect)."""
    return f"{error.__class__.__name__}: {error}".rstrip(": ")


def _bad_uri(reason: str) -> SignerError:
    return SignerError(
        "signer_invalid",
        f"The PKCS#11 address of the signing key cannot be used: {reason}. Nothing was signed. Correct SIGNER_KEY_URI.",
    )
