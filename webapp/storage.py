"""Where bytes lie: every object is encrypted under a key of its own owner before it touches the disk.

An object's name is random and tells nothing; it is bound to its content as associated data, so that two objects cannot
be exchanged. Only a local folder is installed (`STORAGE_URL=file:///…`).
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, BinaryIO, cast
from urllib.parse import unquote, urlsplit

from django.conf import settings

from consent import keys
from worker.media.errors import FULL_DISK

NAME = re.compile(r"[a-z]{1,20}/[0-9a-f]{40}")
TEMPORARY_PREFIX = ".tmp-"


class StorageError(Exception):
    """Bytes that could not be stored or read back; `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def store_file(path: Path, *, key_id: str, prefix: str) -> str:
    """Encrypt the file at `path` under `key_id` into a new object; returns its name (`prefix/…`, up to 64 characters).

    The object appears whole or not at all. Raises StorageError: disk_full, storage_failed.
    """
    with path.open("rb") as source:
        return store_stream(source, key_id=key_id, prefix=prefix)


def store_stream(source: BinaryIO, *, key_id: str, prefix: str) -> str:
    """As `store_file`, from an open binary file."""
    name = f"{prefix}/{secrets.token_hex(20)}"
    place = _place(name)
    temporary = place.with_name(f"{TEMPORARY_PREFIX}{place.name}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as target:
            keys.seal_stream(key_id, source, target, name.encode())
            target.flush()
            os.fsync(target.fileno())
        temporary.rename(place)
    except OSError as error:
        raise _typed(error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return name


def materialise(object_name: str, key_id: str, dest: Path) -> None:
    """Decrypt an object into the new file `dest` (0600); on any error no file is left.

    Raises StorageError: object_missing, disk_full, storage_failed; and the key store's errors for a destroyed key or
    tampered bytes.
    """
    descriptor = -1
    try:
        with _open(object_name) as source:
            descriptor = os.open(dest, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as target:
                keys.open_stream(key_id, source, target, object_name.encode())
    except BaseException as error:
        if descriptor >= 0:
            dest.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _typed(error) from error
        raise


def open_decrypted(object_name: str, key_id: str) -> IO[bytes]:
    """The plain bytes as an open, seekable, nameless file; the whole object is authenticated before the first byte.

    Raises as `materialise`. The caller closes it.
    """
    folder = Path(settings.WORK_DIR)
    target = None
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it is handed out open
        with _open(object_name) as source:
            keys.open_stream(key_id, source, cast("BinaryIO", target), object_name.encode())
        target.seek(0)
    except BaseException as error:
        if target is not None:
            target.close()
        if isinstance(error, OSError):
            raise _typed(error) from error
        raise
    return target


def delete(object_name: str) -> None:
    """Remove an object; one that is gone already is fine."""
    if object_name:
        try:
            _place(object_name).unlink(missing_ok=True)
        except OSError as error:
            raise _typed(error) from error


def exists(object_name: str) -> bool:
    """Is there an object of this name?"""
    return NAME.fullmatch(object_name) is not None and _place(object_name).is_file()


def objects(*, older_than: datetime) -> Iterator[str]:
    """Names of all objects last written before `older_than`; unfinished writes of that age are removed on the way."""
    root = _root()
    limit = older_than.astimezone(UTC).timestamp()
    for place in root.glob("*/*/*"):
        try:
            if not place.is_file() or place.stat().st_mtime >= limit:
                continue
            if place.name.startswith(TEMPORARY_PREFIX):
                place.unlink(missing_ok=True)
                continue
        except OSError:
            continue
        name = f"{place.parent.parent.name}/{place.name}"
        if NAME.fullmatch(name):
            yield name


def _root() -> Path:
    parts = urlsplit(settings.STORAGE_URL)
    if parts.scheme != "file":
        raise StorageError(
            "storage_not_installed",
            f"Storage of the kind {parts.scheme or 'unknown'!r} is not installed; nothing was written. "
            "Set STORAGE_URL to file:// and an absolute folder.",
        )
    return Path(unquote(parts.path))


def _place(object_name: str) -> Path:
    if not NAME.fullmatch(object_name):
        raise StorageError("object_missing", "This is not the name of a stored object. Nothing was read or changed.")
    prefix, name = object_name.split("/")
    return _root() / prefix / name[:2] / name


def _open(object_name: str) -> BinaryIO:
    try:
        return _place(object_name).open("rb")
    except FileNotFoundError:
        raise StorageError(
            "object_missing", "The stored file is gone; it was erased or its retention ended. Upload it again."
        ) from None


def _typed(error: OSError) -> StorageError:
    if error.errno in FULL_DISK:
        return StorageError(
            "disk_full", "The disk is full; nothing half-written was kept. Free some space, then try again."
        )
    return StorageError(
        "storage_failed",
        f"The storage did not work ({error.strerror or type(error).__name__}); nothing half-written was kept. "
        "Check that its folder can be written, then try again.",
    )
