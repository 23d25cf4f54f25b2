"""Objects are encrypted, bound to their names, whole or absent, and a full disk has a name."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from consent import keys
from webapp import storage

pytestmark = pytest.mark.django_db(databases=["default", "keys"])
SECRET = b"a face, a name, a picture " * 100_000  # more than one chunk


@pytest.fixture
def objects(settings: Any, tmp_path: Path) -> Path:
    settings.STORAGE_URL = f"file://{tmp_path / 'objects'}"
    return tmp_path / "objects"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(SECRET)
    return path


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The kernel itself refuses to write more, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_is_stored_comes_back_and_is_not_readable_on_the_disk(objects: Path, photo: Path, tmp_path: Path) -> None:
    key_id = keys.create_key("asset:test")
    name = storage.store_file(photo, key_id=key_id, prefix="asset")
    [stored] = files(objects)
    assert b"a face" not in stored.read_bytes()
    assert stored.stat().st_mode & 0o077 == 0
    storage.materialise(name, key_id, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == SECRET
    with storage.open_decrypted(name, key_id) as file:
        file.seek(10)
        assert file.read(16) == SECRET[10:26]


def test_an_object_under_another_name_or_changed_or_cut_is_refused_and_leaves_nothing(
    objects: Path, photo: Path, tmp_path: Path
) -> None:
    key_id = keys.create_key("asset:test")
    first = storage.store_file(photo, key_id=key_id, prefix="asset")
    second = storage.store_file(photo, key_id=key_id, prefix="asset")
    one, two = (storage._place(name) for name in (first, second))
    good = one.read_bytes()
    for bad in (two.read_bytes(), good[:-1], good[: len(good) // 2], good[:100] + b"\x00" + good[101:], b""):
        one.write_bytes(bad)
        with pytest.raises((keys.TamperedError, keys.TruncatedError)):
            storage.materialise(first, key_id, tmp_path / "back")
        with pytest.raises((keys.TamperedError, keys.TruncatedError)):
            storage.open_decrypted(first, key_id)
        assert not (tmp_path / "back").exists()


def test_a_destroyed_key_makes_the_object_unreadable(objects: Path, photo: Path, tmp_path: Path) -> None:
    key_id = keys.create_key("asset:test")
    name = storage.store_file(photo, key_id=key_id, prefix="asset")
    keys.destroy_key(key_id)
    with pytest.raises(keys.KeyDestroyedError):
        storage.materialise(name, key_id, tmp_path / "back")


def test_a_full_disk_is_a_typed_error_and_leaves_nothing_behind(objects: Path, photo: Path, tmp_path: Path) -> None:
    key_id = keys.create_key("asset:test")
    name = storage.store_file(photo, key_id=key_id, prefix="asset")
    before = files(objects)
    with largest_file(1 << 20):
        with pytest.raises(storage.StorageError) as error:
            storage.store_file(photo, key_id=key_id, prefix="asset")
        assert error.value.code == "disk_full"
        with pytest.raises(storage.StorageError) as error:
            storage.materialise(name, key_id, tmp_path / "back")
        assert error.value.code == "disk_full"
        with pytest.raises(storage.StorageError) as error:
            storage.open_decrypted(name, key_id)
        assert error.value.code == "disk_full"
    assert files(objects) == before
    assert not (tmp_path / "back").exists()


def test_an_existing_file_is_never_overwritten(objects: Path, photo: Path, tmp_path: Path) -> None:
    key_id = keys.create_key("asset:test")
    name = storage.store_file(photo, key_id=key_id, prefix="asset")
    (tmp_path / "back").write_text("mine")
    with pytest.raises(storage.StorageError):
        storage.materialise(name, key_id, tmp_path / "back")
    assert (tmp_path / "back").read_text() == "mine"


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "asset/../../x", "asset/" + "A" * 40, "asset", "/etc/passwd"])
def test_a_name_that_is_not_one_reaches_no_file(objects: Path, name: str, tmp_path: Path) -> None:
    key_id = keys.create_key("asset:test")
    with pytest.raises(storage.StorageError) as error:
        storage.materialise(name, key_id, tmp_path / "back")
    assert error.value.code == "object_missing"
    assert not storage.exists(name)


def test_deleting_twice_is_fine_and_what_is_gone_is_named_missing(objects: Path, photo: Path, tmp_path: Path) -> None:
    key_id = keys.create_key("asset:test")
    name = storage.store_file(photo, key_id=key_id, prefix="asset")
    assert storage.exists(name)
    storage.delete(name)
    storage.delete(name)
    with pytest.raises(storage.StorageError) as error:
        storage.materialise(name, key_id, tmp_path / "back")
    assert error.value.code == "object_missing"


def test_old_objects_are_listed_and_unfinished_writes_removed(objects: Path, photo: Path) -> None:
    key_id = keys.create_key("asset:test")
    old = storage.store_file(photo, key_id=key_id, prefix="asset")
    storage.store_file(photo, key_id=key_id, prefix="asset")
    unfinished = storage._place(old).with_name(f"{storage.TEMPORARY_PREFIX}{'0' * 40}")
    unfinished.touch()
    for path in (storage._place(old), unfinished):
        os.utime(path, (0, 0))
    assert list(storage.objects(older_than=timezone.now() - timedelta(days=1))) == [old]
    assert not unfinished.exists()


def test_storage_that_is_not_installed_is_refused_by_name(settings: Any, photo: Path) -> None:
    settings.STORAGE_URL = "s3://bucket"
    key_id = keys.create_key("asset:test")
    with pytest.raises(storage.StorageError) as error:
        storage.store_file(photo, key_id=key_id, prefix="asset")
    assert error.value.code == "storage_not_installed"
