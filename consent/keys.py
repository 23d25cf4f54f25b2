"""The key store: one data key per person and per file, wrapped by the master key; erasing is destroying a key.

Wrapped keys live in a database of their own (alias `keys`), whose backups are kept for days only, so that a restored
backup of the main database does not bring an erased person back (DESIGN.md decision 11).
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.db import connections, transaction
from django.utils import timezone

from consent import envelope
from consent.envelope import TamperedError, TruncatedError

__all__ = [
    "EnvironmentKeyProvider",
    "FileKeyProvider",
    "KeyDestroyedError",
    "KeyMissingError",
    "KeyProvider",
    "KeyStoreError",
    "KeyStoreRouter",
    "MasterKeyChangedError",
    "MasterKeyUnusableError",
    "TamperedError",
    "TruncatedError",
    "create_key",
    "data_key",
    "decrypt",
    "decrypt_many",
    "destroy_key",
    "encrypt",
    "forget_peppers",
    "open_stream",
    "pepper",
    "seal_stream",
    "subkey",
]

ALIAS = "keys"
PEPPER = "pepper:"
MANY = 500  # keys read by one query
MASTER_FILE = "master.key"
VARIABLE = "IMPRIMATUR_MASTER_KEY"


class KeyStoreError(Exception):
    """The key store cannot do what was asked; `code` is stable, nothing was changed."""

    code = "key_store"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class KeyMissingError(KeyStoreError):
    """There is no such key."""

    code = "key_missing"


class KeyDestroyedError(KeyStoreError):
    """The key was destroyed on purpose: what lay under it is erased for ever."""

    code = "key_destroyed"


class MasterKeyUnusableError(KeyStoreError):
    """The master key cannot be read, or is not one."""

    code = "master_key_unusable"


class MasterKeyChangedError(KeyStoreError):
    """The house's data keys are wrapped by another master key than the one at hand."""

    code = "master_key_changed"


class KeyStoreRouter:
    """Keeps the wrapped data keys, and nothing else, in the database `keys`."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return ALIAS if _is_key_table(model._meta.app_label, model._meta.model_name) else None

    db_for_write = db_for_read

    def allow_relation(self, first: Any, second: Any, **hints: Any) -> bool | None:
        return False if self.db_for_read(first) != self.db_for_read(second) else None

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool:
        return (db == ALIAS) == _is_key_table(app_label, model_name)


def _is_key_table(app_label: str, model_name: str | None) -> bool:
    return app_label == "consent" and model_name == "datakey"


class KeyProvider(Protocol):
    """Where the master key comes from."""

    def master(self) -> bytes:
        """The 32 bytes of the master key. Raises MasterKeyUnusableError."""
        ...


class EnvironmentKeyProvider:
    """The master key as text in the environment (base64 or hexadecimal), or in the file `…_FILE` names."""

    def master(self) -> bytes:
        if path := os.environ.get(f"{VARIABLE}_FILE"):
            try:
                return _parse(Path(path).read_text(encoding="ascii"), path)
            except (OSError, UnicodeDecodeError) as error:
                raise _unusable(path, "cannot be read") from error
        return _parse(os.environ[VARIABLE], VARIABLE)


class FileKeyProvider:
    """The master key in a 0600 file of its own, drawn at the first use, whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def master(self) -> bytes:
        try:
            text = self._read()
        except FileNotFoundError:
            self._create()
            text = self._read()
        return _parse(text, str(self.path))

    def _read(self) -> str:
        try:
            with self.path.open(encoding="ascii") as file:
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                    raise _unusable(str(self.path), "may be read by others; allow its owner only (mode 600)")
                return file.read()
        except FileNotFoundError:
            raise
        except (OSError, UnicodeDecodeError) as error:
            raise _unusable(str(self.path), "cannot be read") from error

    def _create(self) -> None:
        """Write a complete file beside it and link it into place: of two processes, one wins and both read its key."""
        temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "w", encoding="ascii") as file:
                    file.write(base64.urlsafe_b64encode(secrets.token_bytes(envelope.KEY_SIZE)).decode() + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                try:
                    os.link(temporary, self.path)
                except FileExistsError:
                    return
                folder = os.open(self.path.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise _unusable(str(self.path), "cannot be written") from error


def provider() -> KeyProvider:
    """The environment's master key if there is one, else this machine's file."""
    if os.environ.get(VARIABLE) or os.environ.get(f"{VARIABLE}_FILE"):
        return EnvironmentKeyProvider()
    return FileKeyProvider(Path(settings.KEYS_DIR) / MASTER_FILE)


def subkey(purpose: str) -> bytes:
    """The house's 32-byte key for one purpose (contact hash, marks, link signing), derived from the master key."""
    return envelope.derive(provider().master(), f"subkey/{purpose}")


def create_key(owner: str) -> str:
    """Draw and store a new data key for `owner` (such as "asset:ast_…"); returns its id, `key_…`.

    Written at once, outside the caller's transaction: after a roll-back an unused key is left, never data without one.
    Raises MasterKeyChangedError if the keys already there belong to another master key.
    """
    from consent.models import DataKey, data_key_id

    master = provider().master()
    fingerprint = _fingerprint(master)
    other = DataKey.objects.filter(destroyed_at__isnull=True).first()
    if other is not None and other.master != fingerprint:
        raise _changed(other.master, fingerprint)
    key_id = data_key_id()
    wrapped = envelope.seal(_wrapping(master), _wrap_aad(key_id), secrets.token_bytes(envelope.KEY_SIZE))
    DataKey.objects.create(id=key_id, owner=owner, wrapped=wrapped, master=fingerprint)
    return key_id


def data_key(key_id: str) -> bytes:
    """The 32 bytes of a data key. Raises KeyMissingError, KeyDestroyedError, MasterKeyChangedError, TamperedError."""
    from consent.models import DataKey

    record = DataKey.objects.filter(pk=key_id).first()
    if record is None:
        raise KeyMissingError(
            "There is no such key in the key store. Nothing was lost by asking; restore the key store."
        )
    if record.destroyed_at is not None:
        raise KeyDestroyedError("This was erased: its key was destroyed on purpose. It cannot be brought back.")
    master = provider().master()
    if record.master != (fingerprint := _fingerprint(master)):
        raise _changed(record.master, fingerprint)
    return envelope.unseal(_wrapping(master), _wrap_aad(key_id), bytes(record.wrapped))


def destroy_key(key_id: str) -> None:
    """Destroy a data key, and with it everything that lies under it. At once and for ever; twice is fine.

    Takes effect even if the caller's transaction on the main database rolls back: call it on commit.
    """
    from consent.models import DataKey

    connection = connections[ALIAS]
    with transaction.atomic(using=ALIAS):
        if connection.vendor == "sqlite":
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA secure_delete=ON")  # freed pages are overwritten, not only forgotten
        record = DataKey.objects.select_for_update().filter(pk=key_id, destroyed_at__isnull=True).first()
        if record is None:
            return
        record.wrapped = secrets.token_bytes(len(bytes(record.wrapped)))
        record.destroyed_at = timezone.now()
        record.save(update_fields=["wrapped", "destroyed_at"])
    if connection.vendor == "sqlite" and not connection.in_atomic_block:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log still holds the page as it was


def pepper(now: datetime) -> bytes:
    """The secret for this month's address hashes, drawn at its first use and destroyed afterwards."""
    from consent.models import DataKey

    owner = _pepper_owner(now)
    alive = DataKey.objects.filter(owner=owner, destroyed_at__isnull=True).order_by("created_at", "id")
    if not alive.exists():
        create_key(owner)
    return data_key(alive.values_list("pk", flat=True)[0])  # of two drawn at once, all use the first


def forget_peppers(now: datetime) -> int:
    """Destroy the peppers of months gone by, so that their hashes can be linked to nobody; returns how many."""
    from consent.models import DataKey

    old = DataKey.objects.filter(owner__startswith=PEPPER, owner__lt=_pepper_owner(now), destroyed_at__isnull=True)
    ids = list(old.values_list("pk", flat=True))
    for key_id in ids:
        destroy_key(key_id)
    return len(ids)


def encrypt(key_id: str, aad: bytes, data: bytes) -> bytes:
    """`data` sealed under a data key; `aad` says where it belongs and must be the same on reading."""
    return envelope.seal(data_key(key_id), _bound(key_id, aad), data)


def decrypt(key_id: str, aad: bytes, sealed: bytes) -> bytes:
    """What `encrypt` sealed. Raises KeyDestroyedError, KeyMissingError, MasterKeyChangedError, TamperedError."""
    return envelope.unseal(data_key(key_id), _bound(key_id, aad), sealed)


def decrypt_many(sealed: Sequence[tuple[str, bytes, bytes]]) -> list[bytes | None]:
    """`decrypt` of many (key id, associated data, bytes), each under a key of its own; None where one was destroyed.

    The keys are read and the master key is derived from once for all, so that ten thousand take well under a second.
    Raises as `decrypt`.
    """
    from consent.models import DataKey

    master = provider().master()
    wrapping, fingerprint = AESGCM(_wrapping(master)), _fingerprint(master)
    ids = list(dict.fromkeys(key_id for key_id, _, _ in sealed))
    records: dict[str, DataKey] = {}
    for start in range(0, len(ids), MANY):
        records |= DataKey.objects.in_bulk(ids[start : start + MANY])
    plain: list[bytes | None] = []
    for key_id, aad, value in sealed:
        record = records.get(key_id)
        if record is None:
            raise KeyMissingError(
                "There is no such key in the key store. Nothing was lost by asking; restore the key store."
            )
        if record.destroyed_at is not None:
            plain.append(None)
            continue
        if record.master != fingerprint:
            raise _changed(record.master, fingerprint)
        key = envelope.unseal_with(wrapping, _wrap_aad(key_id), bytes(record.wrapped))
        plain.append(envelope.unseal(key, _bound(key_id, aad), value))
    return plain


def seal_stream(key_id: str, source: BinaryIO, target: BinaryIO, aad: bytes) -> None:
    """Seal a whole binary stream in chunks of 1 MiB (see `envelope.seal_stream`)."""
    envelope.seal_stream(data_key(key_id), source, target, _bound(key_id, aad))


def open_stream(key_id: str, source: BinaryIO, target: BinaryIO, aad: bytes) -> None:
    """Write the plain bytes of a sealed stream to `target`; after an error discard what was written.

    Raises TruncatedError if the end is missing, TamperedError for changed bytes, and as `data_key`.
    """
    envelope.open_stream(data_key(key_id), source, target, _bound(key_id, aad))


def _pepper_owner(now: datetime) -> str:
    return f"{PEPPER}{now:%Y-%m}"


def _bound(key_id: str, aad: bytes) -> bytes:
    return key_id.encode() + b"|" + aad


def _wrapping(master: bytes) -> bytes:
    return envelope.derive(master, "wrap")


def _wrap_aad(key_id: str) -> bytes:
    return b"data key|" + key_id.encode()


def _fingerprint(master: bytes) -> str:
    return envelope.derive(master, "fingerprint").hex()[:16]


def _changed(wanted: str, found: str) -> MasterKeyChangedError:
    return MasterKeyChangedError(
        f"The stored keys are wrapped by the master key {wanted}, this house now has {found}. Nothing was changed or "
        f"lost. Bring back the right {MASTER_FILE} or {VARIABLE}."
    )


def _unusable(where: str, why: str) -> MasterKeyUnusableError:
    return MasterKeyUnusableError(f"The master key {where} {why}. Nothing was changed. Correct it, then start again.")


def _parse(text: str, where: str) -> bytes:
    """32 bytes from base64 (either alphabet) or hexadecimal text."""
    text = text.strip()
    try:
        if len(text) == 2 * envelope.KEY_SIZE:
            key = bytes.fromhex(text)
        else:
            key = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != envelope.KEY_SIZE:
        raise _unusable(where, "is not 32 bytes in base64 or hexadecimal")
    return key
