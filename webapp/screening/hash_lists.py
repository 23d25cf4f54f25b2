"""Lists of picture hashes: imported, replaced, removed, and handed to the gate as one index.

The rows and their encrypted objects are the truth, on any number of machines. Each machine maps an index file made from
them, under `IMPRIMATUR_HOME/lists`, whose name is a digest of the lists that are in force: after an import or a removal
the name is another one, and whoever comes first makes the file, which appears whole. It holds the hashes in plain,
readable by the service's user only.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from numpy.typing import NDArray

from consent import keys, ledger
from watermark.hash_index import HashIndex
from webapp import storage
from webapp.accounts.models import User
from webapp.screening.hash_files import ENTRY, Parsed, parse
from webapp.screening.hash_listed import HashList, hash_list_id

logger = logging.getLogger(__name__)

PREFIX: Final = "hashlist"  # of the objects
MOST_LISTS: Final = 200
ORPHANS_AFTER: Final = timedelta(days=1)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_ENDING: Final = ".idx"


class HashListError(Exception):
    """Nothing was changed. `code`: list_name_invalid, list_missing, list_damaged, lists_full, reason_required,
    moderator_required."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Hit:
    """An entry near the hash of number `query`: the list's name and kind, the entry's line in the imported file."""

    query: int
    list: str
    kind: str
    line: int
    distance: int


class Lists:
    """`worker.gate.looks.lists.Installed` on the lists that are in force."""

    def __init__(self, rows: Sequence[HashList], index: HashIndex) -> None:
        self._rows, self._index = rows, index

    @property
    def names(self) -> Sequence[str]:
        return [row.name for row in self._rows]

    @property
    def entries(self) -> int:
        return len(self._index)

    def search(self, asked: Sequence[bytes]) -> Sequence[Hit]:
        """All entries within 31 bits of one of these hashes (32 bytes each), the nearest first."""
        return [
            Hit(match.query, self._rows[match.list].name, self._rows[match.list].kind, match.line, match.distance)
            for match in self._index.search(asked)
        ]


def import_list(path: Path, *, name: str, kind: str, moderator: User, reason: str) -> tuple[HashList, Parsed]:
    """Take in a file of hashes under `name`, in place of the list that has the name now.

    Raises HashFileError, HashListError, StorageError, KeyStoreError: nothing was changed then.
    """
    _check(moderator, reason)
    if not _NAME.fullmatch(name):
        raise HashListError(
            "list_name_invalid",
            f"{name!r} is no name for a list. Nothing was changed. Use 1 to 40 small letters, digits, dots, dashes.",
        )
    others = in_force().exclude(name=name)
    if others.count() >= MOST_LISTS:
        raise HashListError("lists_full", f"There are {MOST_LISTS} lists. Nothing was changed. Remove one first.")
    parsed = parse(path)
    packed = parsed.entries.tobytes()
    row = HashList(id=hash_list_id(), name=name, kind=kind, entries=len(parsed.entries))
    row.sha256 = hashlib.sha256(packed).hexdigest()
    with path.open("rb") as file:
        row.source_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    row.key_id = keys.create_key(f"{PREFIX}:{row.pk}")
    try:
        row.object_name = storage.store_stream(io.BytesIO(packed), key_id=row.key_id, prefix=PREFIX)
        with transaction.atomic():
            replaced = list(in_force().select_for_update().filter(name=name))
            for each in replaced:
                _end(each, moderator, "hash_list.replaced", reason)
            row.save(force_insert=True)
            words = f"{reason}; {row.entries} entries, kind {kind}, file {row.source_sha256}"
            ledger.audit(str(moderator.pk), "hash_list.imported", row.pk, words)
    except BaseException:
        _destroy(row)
        raise
    for each in replaced:
        _destroy(each)
    return row, parsed


def remove_list(name: str, *, moderator: User, reason: str) -> HashList:
    """End a list: its key is destroyed, its object deleted. Raises HashListError."""
    _check(moderator, reason)
    with transaction.atomic():
        row = in_force().select_for_update().filter(name=name).first()
        if row is None:
            raise HashListError("list_missing", f"There is no list {name}. Nothing was changed.")
        _end(row, moderator, "hash_list.removed", reason)
    _destroy(row)
    return row


def in_force() -> QuerySet[HashList]:
    """The lists that count, by name."""
    return HashList.objects.filter(ended_at__isnull=True).order_by("name")


def installed() -> Lists | None:
    """What the gate searches; None when no list is in force.

    Raises HashListError, StorageError, KeyStoreError, TamperedError, OSError: the question stays open then.
    """
    rows = list(in_force())
    try:
        return _opened(rows) if rows else None
    except (storage.StorageError, keys.KeyStoreError):
        now = list(in_force())
        if [row.pk for row in now] == [row.pk for row in rows]:
            raise
        return _opened(now) if now else None  # a list was replaced in this very moment


def _opened(rows: Sequence[HashList]) -> Lists:
    path = _folder() / f"{_digest(rows)}{_ENDING}"
    try:
        return Lists(rows, HashIndex.open(path))
    except (FileNotFoundError, ValueError):
        pass  # not made yet on this machine, or cut short by a full disk
    _made(rows).write(path)
    for other in path.parent.glob(f"*{_ENDING}"):
        if other != path:
            other.unlink(missing_ok=True)  # whoever has it mapped keeps it
    return Lists(rows, HashIndex.open(path))


def upkeep() -> int:
    """Delete objects that no list names: what a crash in the middle of an import left."""
    known = set(HashList.objects.exclude(object_name="").values_list("object_name", flat=True))
    count = 0
    for name in storage.objects(older_than=timezone.now() - ORPHANS_AFTER):
        if name.startswith(f"{PREFIX}/") and name not in known:
            storage.delete(name)
            count += 1
    return count


def _made(rows: Sequence[HashList]) -> HashIndex:
    parts = list(_entries(rows))
    numbers = np.repeat(np.arange(len(rows), dtype=np.uint16), [len(part) for part in parts])
    entries = np.concatenate(parts)
    return HashIndex.build(np.ascontiguousarray(entries["hash"]), numbers, np.ascontiguousarray(entries["line"]))


def _entries(rows: Sequence[HashList]) -> Iterator[NDArray[Any]]:
    for row in rows:
        with storage.open_decrypted(row.object_name, row.key_id) as file:
            packed = file.read()
        if hashlib.sha256(packed).hexdigest() != row.sha256 or len(packed) != row.entries * ENTRY.itemsize:
            raise HashListError(
                "list_damaged", f"The list {row.name} is not as it was imported. Import its file again."
            )
        yield np.frombuffer(packed, ENTRY)


def _digest(rows: Sequence[HashList]) -> str:
    return hashlib.sha256("".join(f"{row.pk} {row.sha256}\n" for row in rows).encode()).hexdigest()[:40]


def _folder() -> Path:
    folder = Path(settings.HOME) / "lists"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _check(moderator: User, reason: str) -> None:
    if not (moderator.is_active and moderator.is_staff):
        raise HashListError("moderator_required", "Only a moderator changes the lists. Nothing was changed.")
    if not reason.strip():
        raise HashListError("reason_required", "A change of the lists needs its reason. Nothing was changed; add one.")


def _end(row: HashList, moderator: User, action: str, reason: str) -> None:
    HashList.objects.filter(pk=row.pk).update(ended_at=timezone.now(), object_name="")
    ledger.audit(str(moderator.pk), action, row.pk, reason)


def _destroy(row: HashList) -> None:
    """`row` as it was read: with its object's name."""
    keys.destroy_key(row.key_id)
    if row.object_name:
        storage.delete(row.object_name)
