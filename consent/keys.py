"""The key store: one data key per person and per file, wrapped by the master key; erasing is destroying a key.

Wrapped keys live in a database of their own (alias `keys`), whose backups are kept for days only, so that a restored
backup of the main database does not bring an erased person back (DESIGN.md decision 11).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.db import IntegrityError, OperationalError, ProgrammingError, connections, transaction
from django.db.models import QuerySet
from django.utils import timezone

from consent import envelope, masters
from consent.envelope import TamperedError, TruncatedError
from consent.key_errors import (
    KeyDestroyedError,
    KeyMissingError,
    KeyStoreError,
    MasterKeyChangedError,
    MasterKeyUnavailableError,
    MasterKeyUnusableError,
)
from consent.masters import EnvironmentKeyProvider, FileKeyProvider, KeyProvider, provider

if TYPE_CHECKING:
    from consent.models import DataKey

__all__ = [
    "EnvironmentKeyProvider",
    "FileKeyProvider",
    "KeyDestroyedError",
    "KeyMissingError",
    "KeyProvider",
    "KeyStoreError",
    "KeyStoreRouter",
    "MasterKeyChangedError",
    "MasterKeyUnavailableError",
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
    "provider",
    "rewrap_key",
    "seal_stream",
    "subkey",
]

ALIAS = "keys"
PEPPER = "pepper:"
MANY = 500  # keys read by one query
ROOT = "key_house_root"
ROOT_OWNER = "house:root"


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
    return app_label == "consent" and model_name in {"datakey", "masterkey"}


def subkey(purpose: str) -> bytes:
    """The house's 32-byte key for one purpose (contact hash, marks, link signing), derived from the house's root.

    The root is a secret of its own, wrapped by the master key like any data key, so that a new master key changes none
    of them: marks of ten years ago stay readable and a contact finds its person. Raises as `data_key`.
    """
    return envelope.derive(_open(_root()), f"subkey/{purpose}")


def create_key(owner: str) -> str:
    """Draw and store a new data key for `owner` (such as "asset:ast_…"); returns its id, `key_…`.

    Written at once, outside the caller's transaction: after a roll-back an unused key is left, never data without one.
    Raises MasterKeyChangedError if the keys already there belong to a master key that is nowhere at hand.
    """
    from consent.models import DataKey, data_key_id

    master = masters.current()
    masters.by_fingerprint(_root(master).master, master)
    key_id = data_key_id()
    wrapped = _wrap(master, key_id, secrets.token_bytes(envelope.KEY_SIZE))
    DataKey.objects.create(id=key_id, owner=owner, wrapped=wrapped, master=masters.fingerprint(master))
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
    return _open(record)


def rewrap_key(record: DataKey, master: bytes) -> bool:
    """Wrap one data key by `master` instead, its data untouched; False if it was destroyed or wrapped anew meanwhile.

    Compared and set, so that a rotation never brings back a key that is being destroyed at this moment.
    """
    from consent.models import DataKey

    secret = _open(record)
    rows = DataKey.objects.filter(pk=record.pk, master=record.master, destroyed_at__isnull=True)
    return bool(rows.update(wrapped=_wrap(master, record.pk, secret), master=masters.fingerprint(master)))


def destroy_key(key_id: str) -> None:
    """Destroy a data key, and with it everything that lies under it. At once and for ever; twice is fine.

    Takes effect even if the caller's transaction on the main database rolls back: call it on commit.
    """
    from consent.models import DataKey

    if key_id == ROOT:
        raise KeyStoreError("The house's root is no person's key and cannot be destroyed. Nothing was changed.")
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
    ids = list(old_peppers(now).values_list("pk", flat=True))
    for key_id in ids:
        destroy_key(key_id)
    return len(ids)


def old_peppers(now: datetime) -> QuerySet[DataKey]:
    """The peppers of months gone by that are not destroyed yet."""
    from consent.models import DataKey

    return DataKey.objects.filter(owner__startswith=PEPPER, owner__lt=_pepper_owner(now), destroyed_at__isnull=True)


def encrypt(key_id: str, aad: bytes, data: bytes) -> bytes:
    """`data` sealed under a data key; `aad` says where it belongs and must be the same on reading."""
    return envelope.seal(data_key(key_id), _bound(key_id, aad), data)


def decrypt(key_id: str, aad: bytes, sealed: bytes) -> bytes:
    """What `encrypt` sealed. Raises KeyDestroyedError, KeyMissingError, MasterKeyChangedError, TamperedError."""
    return envelope.unseal(data_key(key_id), _bound(key_id, aad), sealed)


def decrypt_many(sealed: Sequence[tuple[str, bytes, bytes]]) -> list[bytes | None]:
    """`decrypt` of many (key id, associated data, bytes), each under a key of its own; None where one was destroyed.

    The keys are read and the master key is derived from once for all, so that ten thousand take about a second.
    Raises as `decrypt`.
    """
    from consent.models import DataKey

    ids = list(dict.fromkeys(key_id for key_id, _, _ in sealed))
    records: dict[str, DataKey] = {}
    wrapping: dict[str, AESGCM] = {}
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
        if record.master not in wrapping:
            wrapping[record.master] = AESGCM(_wrapping(masters.by_fingerprint(record.master)))
        key = envelope.unseal_with(wrapping[record.master], _wrap_aad(key_id), bytes(record.wrapped))
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


def _root(master: bytes | None = None) -> DataKey:
    """The row of the house's root, made at its first use.

    A house that was there before the root had one derived its keys from the master key itself: there the root is that
    master key, so that everything derived stays as it was. Raises MasterKeyChangedError if such a house has lost it.
    """
    from consent.models import DataKey

    try:
        record = DataKey.objects.filter(pk=ROOT).first()
    except (OperationalError, ProgrammingError):
        if "consent_datakey" in connections[ALIAS].introspection.table_names():
            raise
        raise KeyStoreError("The key store is empty. Nothing was changed. Run `manage.py prepare` first.") from None
    if record is not None:
        return record
    master = master or masters.current()
    mine = masters.fingerprint(master)
    others = DataKey.objects.exclude(pk=ROOT)
    inherited = others.filter(master=mine).exists()
    alive = others.filter(destroyed_at__isnull=True).first()
    if not inherited and alive is not None:
        master = masters.by_fingerprint(alive.master, master)
        mine, inherited = alive.master, True
    secret = master if inherited else secrets.token_bytes(envelope.KEY_SIZE)
    try:
        with transaction.atomic(using=ALIAS):
            DataKey.objects.create(id=ROOT, owner=ROOT_OWNER, wrapped=_wrap(master, ROOT, secret), master=mine)
    except IntegrityError:
        pass  # another process was faster
    return DataKey.objects.get(pk=ROOT)


def _open(record: DataKey) -> bytes:
    master = masters.by_fingerprint(record.master)
    return envelope.unseal(_wrapping(master), _wrap_aad(record.pk), bytes(record.wrapped))


def _wrap(master: bytes, key_id: str, secret: bytes) -> bytes:
    return envelope.seal(_wrapping(master), _wrap_aad(key_id), secret)


def _pepper_owner(now: datetime) -> str:
    return f"{PEPPER}{now:%Y-%m}"


def _bound(key_id: str, aad: bytes) -> bytes:
    return key_id.encode() + b"|" + aad


def _wrapping(master: bytes) -> bytes:
    return envelope.derive(master, "wrap")


def _wrap_aad(key_id: str) -> bytes:
    return b"data key|" + key_id.encode()
