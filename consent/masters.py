"""Where the master key comes from: a file, the environment, AWS KMS or a Vault; `MASTER_KEY_URI` names the place.

A remote service does not wrap each data key. It wraps one random master secret, whose sealed form lies in the key
store; a process has it unwrapped at its first need and holds it in memory for CACHE_SECONDS. Why: a page or a job opens
many data keys, and one call to a service for each would make every page as slow and as fragile as that service; a
rotation would cost a call for every person and file; and erasing is the same either way, for it destroys the wrapped
data key in the store. What it costs: whoever reads a process's memory within those minutes has the master secret, not
only the keys in use. Taking away the service's grant stops the house within the same minutes.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Protocol

from django.conf import settings

from consent import envelope
from consent.key_errors import KeyStoreError, MasterKeyChangedError, MasterKeyUnusableError, unusable

MASTER_FILE = "master.key"
VARIABLE = "IMPRIMATUR_MASTER_KEY"
CACHE_SECONDS = 300.0
CACHE_SIZE = 4  # two in a rotation, and their predecessors

_cache: dict[str, tuple[bytes, float]] = {}
_cache_lock = threading.Lock()


class KeyProvider(Protocol):
    """Where the master key comes from."""

    def master(self) -> bytes:
        """The 32 bytes of the master key. Raises MasterKeyUnusableError, MasterKeyUnavailableError."""
        ...

    def renew(self) -> bytes:
        """Put a new master key in the old one's place and keep the old one readable; returns the new one.

        Raises MasterKeyUnusableError where this house cannot write (the environment).
        """
        ...


class Wrapper(Protocol):
    """A service that seals and opens 32 bytes with a key that never leaves it. `place` names it without a secret."""

    @property
    def place(self) -> str: ...

    def wrap(self, secret: bytes) -> bytes:
        """The sealed form. Raises MasterKeyUnusableError, MasterKeyUnavailableError."""

    def unwrap(self, sealed: bytes) -> bytes:
        """What `wrap` sealed. Raises as `wrap`."""


class EnvironmentKeyProvider:
    """The master key as text in the environment (base64 or hexadecimal), or in the file `…_FILE` names."""

    def __init__(self, variable: str = VARIABLE) -> None:
        self.variable = variable

    def master(self) -> bytes:
        if path := os.environ.get(f"{self.variable}_FILE"):
            try:
                return parse(Path(path).read_text(encoding="ascii"), path)
            except (OSError, UnicodeDecodeError) as error:
                raise unusable(path, "cannot be read") from error
        return parse(os.environ.get(self.variable, ""), self.variable)

    def renew(self) -> bytes:
        raise MasterKeyUnusableError(
            f"The master key comes from the environment ({self.variable}), which this command cannot write. Nothing "
            "was changed. Put the new key into another variable, set MASTER_KEY_URI=env:NEW and "
            f"MASTER_KEY_PREVIOUS=env:{self.variable} for every process, restart, then run `manage.py keys rewrap`."
        )


class FileKeyProvider:
    """The master key in a 0600 file of its own, drawn at the first use, whole or not at all.

    After a rotation the earlier keys lie beside it, each named by its fingerprint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def master(self) -> bytes:
        try:
            text = _read(self.path)
        except FileNotFoundError:
            self._create()
            text = _read(self.path)
        return parse(text, str(self.path))

    def earlier(self, wanted: str) -> bytes | None:
        """The key of this fingerprint that was rotated out, if its file is still there."""
        place = self._place_of(wanted)
        try:
            return parse(_read(place), str(place))
        except FileNotFoundError:
            return None

    def renew(self) -> bytes:
        """The old key gets its second name first: a crash between the two steps loses nothing and changes nothing."""
        old = self.master()
        kept = self._place_of(fingerprint(old))
        new = secrets.token_bytes(envelope.KEY_SIZE)
        try:
            if not kept.exists():
                os.link(self.path, kept)
            temporary = self._write(new)
            try:
                temporary.replace(self.path)
                _sync_folder(self.path.parent)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise unusable(str(self.path), "cannot be replaced") from error
        return new

    def _place_of(self, wanted: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{wanted}")

    def _create(self) -> None:
        """Write a complete file beside it and link it into place: of two processes, one wins and both read its key."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = self._write(secrets.token_bytes(envelope.KEY_SIZE))
            try:
                os.link(temporary, self.path)
                _sync_folder(self.path.parent)
            except FileExistsError:
                return
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise unusable(str(self.path), "cannot be written") from error

    def _write(self, key: bytes) -> Path:
        temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(base64.urlsafe_b64encode(key).decode() + "\n")
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return temporary


class RemoteKeyProvider:
    """A master key that a service seals; the sealed form lies in the key store, the newest is the one in use."""

    def __init__(self, uri: str, wrapper: Wrapper) -> None:
        self.uri = uri
        self.wrapper = wrapper

    def master(self) -> bytes:
        from consent.models import MasterKey

        row = MasterKey.objects.filter(uri=self.uri).order_by("-created_at", "-fingerprint").first()
        return self.renew() if row is None else self.open(row.fingerprint, bytes(row.sealed))

    def open(self, wanted: str, sealed: bytes) -> bytes:
        """Unwrap, or take what was unwrapped a short while ago. Raises as the service, and for a foreign answer."""
        with _cache_lock:
            held = _cache.get(wanted)
            if held is not None and held[1] > monotonic():
                return held[0]
            _cache.pop(wanted, None)
        secret = self.wrapper.unwrap(sealed)
        if len(secret) != envelope.KEY_SIZE or fingerprint(secret) != wanted:
            raise unusable(self.wrapper.place, "is another than the one that was stored")
        with _cache_lock:
            while len(_cache) >= CACHE_SIZE:
                _cache.pop(next(iter(_cache)))
            _cache[wanted] = (secret, monotonic() + CACHE_SECONDS)
        return secret

    def renew(self) -> bytes:
        from consent.models import MasterKey

        secret = secrets.token_bytes(envelope.KEY_SIZE)
        sealed = self.wrapper.wrap(secret)
        MasterKey.objects.create(fingerprint=fingerprint(secret), uri=self.uri, sealed=sealed)
        return secret


def uri() -> str:
    """The place of the master key in use: MASTER_KEY_URI, else the environment's key, else this machine's file."""
    if settings.MASTER_KEY_URI:
        return str(settings.MASTER_KEY_URI)
    if os.environ.get(VARIABLE) or os.environ.get(f"{VARIABLE}_FILE"):
        return f"env:{VARIABLE}"
    return f"file:{Path(settings.KEYS_DIR) / MASTER_FILE}"


def provider(place: str = "") -> KeyProvider:
    """The provider of a URI (`file:PATH`, `env:NAME`, `aws-kms:KEY`, `vault:MOUNT/KEY`), or of the one in use.

    Raises MasterKeyUnusableError for any other, and where a library or setting is missing.
    """
    place = place or uri()
    scheme, _, rest = place.partition(":")
    if scheme == "file" and rest:
        return FileKeyProvider(Path(rest.removeprefix("//")))
    if scheme == "env" and rest:
        return EnvironmentKeyProvider(rest)
    if scheme == "aws-kms" and rest:
        try:
            from consent.master_aws import AwsWrapper
        except ImportError as error:
            raise unusable(place, "needs the extra kms-aws, which is not installed") from error
        return RemoteKeyProvider(place, AwsWrapper(rest, endpoint=settings.MASTER_KEY_ENDPOINT))
    if scheme == "vault" and rest:
        from consent.master_vault import VaultWrapper

        return RemoteKeyProvider(place, VaultWrapper.from_settings(rest))
    raise MasterKeyUnusableError(
        "MASTER_KEY_URI begins with none of file:, env:, aws-kms:, vault:. Nothing was changed. Correct it."
    )


def current() -> bytes:
    """The master key in use: the one that wraps from now on."""
    return provider().master()


def by_fingerprint(wanted: str, found: bytes | None = None) -> bytes:
    """The master key of this fingerprint, in use or rotated out; `found` is the one in use, if it was read already.

    Raises MasterKeyChangedError if it is at hand nowhere, MasterKeyUnavailableError if its service is silent.
    """
    in_use = found if found is not None else current()
    if fingerprint(in_use) == wanted:
        return in_use
    for candidate in _others(wanted):
        if candidate is not None and fingerprint(candidate) == wanted:
            return candidate
    raise MasterKeyChangedError(
        f"The stored keys are wrapped by the master key {wanted}, this house now has {fingerprint(in_use)}. Nothing "
        f"was changed or lost. Bring back the right {MASTER_FILE} or {VARIABLE}, or name its place in "
        "MASTER_KEY_PREVIOUS."
    )


def fingerprint(master: bytes) -> str:
    """Which master key it is: 16 hexadecimal digits that tell nothing of it."""
    return envelope.derive(master, "fingerprint").hex()[:16]


def forget_cached() -> None:
    """Drop the master keys that services unwrapped; the next use asks again."""
    with _cache_lock:
        _cache.clear()


def parse(text: str, where: str) -> bytes:
    """32 bytes from base64 (either alphabet) or hexadecimal text. Raises MasterKeyUnusableError."""
    text = text.strip()
    try:
        if len(text) == 2 * envelope.KEY_SIZE:
            key = bytes.fromhex(text)
        else:
            key = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != envelope.KEY_SIZE:
        raise unusable(where, "is not 32 bytes in base64 or hexadecimal")
    return key


def _others(wanted: str) -> Iterator[bytes | None]:
    """Every place where a master key that is no longer in use may be, one after the other."""
    from consent.models import MasterKey

    places = [uri(), *settings.MASTER_KEY_PREVIOUS]
    for place in places:
        known = provider(place)
        if isinstance(known, FileKeyProvider):
            yield known.earlier(wanted)
            if place != uri() and known.path.exists():  # looking must not draw a new key
                yield known.master()
        elif isinstance(known, EnvironmentKeyProvider) and place != uri():
            yield known.master()
    for row in MasterKey.objects.filter(fingerprint=wanted):
        remote = provider(row.uri)
        if isinstance(remote, RemoteKeyProvider):
            yield remote.open(row.fingerprint, bytes(row.sealed))


def _read(path: Path) -> str:
    """The text of a key file that only its owner may read. Raises FileNotFoundError, MasterKeyUnusableError."""
    try:
        with path.open(encoding="ascii") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise unusable(str(path), "may be read by others; allow its owner only (mode 600)")
            return file.read()
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise unusable(str(path), "cannot be read") from error


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


__all__ = [
    "EnvironmentKeyProvider",
    "FileKeyProvider",
    "KeyProvider",
    "KeyStoreError",
    "RemoteKeyProvider",
    "Wrapper",
    "by_fingerprint",
    "current",
    "fingerprint",
    "forget_cached",
    "parse",
    "provider",
    "uri",
]
