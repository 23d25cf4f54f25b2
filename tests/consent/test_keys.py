"""The key store: one key per owner, wrapped, destroyed for ever; the master key drawn once and never replaced."""

from __future__ import annotations

import base64
import io
import os
import sqlite3
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.conf import settings as configured
from django.db import connections

from consent import keys
from consent.models import Consent, DataKey

pytestmark = pytest.mark.django_db


def test_a_key_seals_and_opens() -> None:
    key_id = keys.create_key("asset:ast_1")
    sealed = keys.encrypt(key_id, b"asset|1|name", b"holiday.jpg")
    assert b"holiday" not in sealed
    assert keys.decrypt(key_id, b"asset|1|name", sealed) == b"holiday.jpg"
    assert len(keys.data_key(key_id)) == 32
    record = DataKey.objects.get(pk=key_id)
    assert record.owner == "asset:ast_1"
    assert keys.data_key(key_id) not in bytes(record.wrapped)


def test_one_owners_key_does_not_open_anothers_data() -> None:
    ada, ben = keys.create_key("subject:ada"), keys.create_key("subject:ben")
    sealed = keys.encrypt(ada, b"", b"Ada")
    with pytest.raises(keys.TamperedError):
        keys.decrypt(ben, b"", sealed)
    # Nor with the wrapped keys exchanged in the store.
    wrapped = {key.pk: bytes(key.wrapped) for key in DataKey.objects.filter(pk__in=[ada, ben])}
    DataKey.objects.filter(pk=ben).update(wrapped=wrapped[ada])
    with pytest.raises(keys.TamperedError):
        keys.data_key(ben)


def test_what_lay_under_a_destroyed_key_is_gone_and_says_so() -> None:
    key_id = keys.create_key("subject:ada")
    sealed = keys.encrypt(key_id, b"", b"Ada")
    wrapped = bytes(DataKey.objects.get(pk=key_id).wrapped)
    keys.destroy_key(key_id)
    keys.destroy_key(key_id)
    for attempt in (
        lambda: keys.decrypt(key_id, b"", sealed),
        lambda: keys.encrypt(key_id, b"", b"more"),
        lambda: keys.seal_stream(key_id, io.BytesIO(b"x"), io.BytesIO(), b""),
        lambda: keys.open_stream(key_id, io.BytesIO(b"x"), io.BytesIO(), b""),
    ):
        with pytest.raises(keys.KeyDestroyedError) as error:
            attempt()
        assert error.value.code == "key_destroyed"
    record = DataKey.objects.get(pk=key_id)
    assert record.destroyed_at is not None
    assert bytes(record.wrapped) != wrapped


def test_an_unknown_key_is_missing_not_destroyed() -> None:
    with pytest.raises(keys.KeyMissingError):
        keys.data_key("key_unknown")


def test_streams_go_through_the_key_store_bound_to_their_place() -> None:
    key_id = keys.create_key("asset:ast_1")
    sealed, plain = io.BytesIO(), io.BytesIO()
    keys.seal_stream(key_id, io.BytesIO(b"photo" * 1000), sealed, b"objects/1")
    keys.open_stream(key_id, io.BytesIO(sealed.getvalue()), plain, b"objects/1")
    assert plain.getvalue() == b"photo" * 1000
    with pytest.raises(keys.TamperedError):
        keys.open_stream(key_id, io.BytesIO(sealed.getvalue()), io.BytesIO(), b"objects/2")


def test_keys_lie_in_their_own_database_and_nothing_else_does() -> None:
    keys.create_key("asset:ast_1")
    router = keys.KeyStoreRouter()
    assert router.db_for_read(DataKey) == router.db_for_write(DataKey) == "keys"
    assert router.db_for_read(Consent) is None
    assert router.allow_migrate("keys", "consent", "datakey")
    assert not router.allow_migrate("default", "consent", "datakey")
    assert not router.allow_migrate("keys", "consent", "consent")
    assert not router.allow_migrate("keys", "auth", "user")
    assert not router.allow_migrate("keys", "consent")
    assert router.allow_migrate("default", "jobs", "job")
    assert "consent_datakey" in connections["keys"].introspection.table_names()
    assert "consent_consent" not in connections["keys"].introspection.table_names()
    assert "consent_datakey" not in connections["default"].introspection.table_names()


def test_the_master_key_is_drawn_once_by_however_many_processes(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "master.key"
    script = (
        "import sys; from pathlib import Path; from consent.keys import FileKeyProvider;"
        f"sys.stdout.write(FileKeyProvider(Path({str(path)!r})).master().hex())"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env={**os.environ})
        for _ in range(6)
    ]
    drawn = {process.communicate(timeout=60)[0] for process in started}
    assert len(drawn) == 1
    assert len(bytes.fromhex(drawn.pop())) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["master.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_master_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    provider = keys.FileKeyProvider(tmp_path / "master.key")
    provider.master()
    provider.path.chmod(mode)
    with pytest.raises(keys.MasterKeyUnusableError):
        provider.master()


@pytest.mark.parametrize("text", ["", "short", "x" * 64, base64.b64encode(bytes(31)).decode(), "ü"])
def test_a_master_key_that_is_none_is_refused_and_not_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "master.key"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(keys.MasterKeyUnusableError):
        keys.FileKeyProvider(path).master()
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    "encode", [bytes.hex, lambda b: base64.b64encode(b).decode(), lambda b: base64.urlsafe_b64encode(b).decode()]
)
def test_the_master_key_may_come_from_the_environment(monkeypatch, tmp_path: Path, encode) -> None:
    key = bytes(range(224, 256))
    monkeypatch.setenv("IMPRIMATUR_MASTER_KEY", encode(key))
    assert keys.provider().master() == key
    monkeypatch.delenv("IMPRIMATUR_MASTER_KEY")
    (tmp_path / "secret").write_text(encode(key) + "\n")
    monkeypatch.setenv("IMPRIMATUR_MASTER_KEY_FILE", str(tmp_path / "secret"))
    assert keys.provider().master() == key
    monkeypatch.setenv("IMPRIMATUR_MASTER_KEY_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(keys.MasterKeyUnusableError):
        keys.provider().master()


def test_another_master_key_is_noticed_before_anything_is_sealed_under_it(monkeypatch) -> None:
    key_id = keys.create_key("asset:ast_1")
    monkeypatch.setenv("IMPRIMATUR_MASTER_KEY", bytes(range(32)).hex())
    with pytest.raises(keys.MasterKeyChangedError):
        keys.data_key(key_id)
    with pytest.raises(keys.MasterKeyChangedError):
        keys.create_key("asset:ast_2")


def test_subkeys_are_stable_and_differ_by_purpose() -> None:
    assert keys.subkey("watermark") == keys.subkey("watermark")
    assert len({keys.subkey(purpose) for purpose in ("watermark", "contact", "block")}) == 3
    assert (Path(configured.KEYS_DIR) / "master.key").exists()


def test_the_pepper_of_a_month_gone_by_is_destroyed_and_this_months_stays() -> None:
    october, november = datetime(2026, 10, 31, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
    old, new = keys.pepper(october), keys.pepper(november)
    assert old != new
    assert keys.pepper(november) == new
    assert keys.forget_peppers(november) == 1
    assert keys.forget_peppers(november) == 0
    assert keys.pepper(november) == new
    assert keys.pepper(october) != old


def test_a_destroyed_key_leaves_no_trace_in_the_files_of_the_store(tmp_path: Path) -> None:
    script = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django
django.setup()
from django.db import connections
from consent import keys
from consent.models import DataKey
with connections["keys"].schema_editor() as editor:
    editor.create_model(DataKey)
others = [keys.create_key("asset:%d" % n) for n in range(40)]
key_id = keys.create_key("subject:ada")
wrapped = bytes(DataKey.objects.get(pk=key_id).wrapped)
keys.destroy_key(key_id)
print(wrapped.hex(), bytes(DataKey.objects.get(pk=others[0]).wrapped).hex())
sys.stdout.flush()
os._exit(0)  # no tidy close: what is on the disk now is what a thief of the disk would find
"""
    store = tmp_path / "store.sqlite3"
    environment = {
        **os.environ,
        "IMPRIMATUR_TEST_HOME": str(tmp_path),
        "KEYS_URL": f"sqlite:///{store}",
        "PYTHONPATH": ".",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    destroyed, kept = (bytes.fromhex(word) for word in done.stdout.split())
    on_disk = b"".join(path.read_bytes() for path in tmp_path.glob("store.sqlite3*"))
    assert kept in on_disk
    assert destroyed not in on_disk
    assert sqlite3.connect(store).execute("select count(*) from consent_datakey").fetchone() == (
        42,
    )  # and the root of the house
