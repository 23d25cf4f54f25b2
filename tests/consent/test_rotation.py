"""A new master key wraps what the old one wrapped, and changes nothing that was derived, marked or sealed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from consent import envelope, keys, masters, rotation
from consent.models import DataKey
from consent.subjects import subject_for
from webapp import keys_of_house

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A house whose master key is a file of its own."""
    monkeypatch.delenv(masters.VARIABLE, raising=False)
    settings.MASTER_KEY_URI = f"file:{tmp_path / 'keys' / 'master.key'}"
    settings.MASTER_KEY_PREVIOUS = []
    return tmp_path / "keys"


def _filled(count: int = 5) -> dict[str, bytes]:
    return {key_id: keys.encrypt(key_id, b"", key_id.encode()) for key_id in _ids(count)}


def _ids(count: int) -> list[str]:
    return [keys.create_key(f"asset:ast_{number}") for number in range(count)]


def _all_open(sealed: dict[str, bytes]) -> bool:
    return all(keys.decrypt(key_id, b"", value) == key_id.encode() for key_id, value in sealed.items())


def test_after_a_rotation_everything_opens_and_the_old_key_is_needed_for_nothing(folder: Path) -> None:
    sealed, old = _filled(), masters.current()
    marks, contact = keys_of_house.mark_keys(), keys.subkey("contact")
    ada = subject_for("ada@example.org")
    master, count = rotation.rotate()
    assert count == 7  # five, Ada's, and the root
    assert masters.fingerprint(masters.current()) == master != masters.fingerprint(old)
    (folder / f"master.key.{masters.fingerprint(old)}").unlink()
    assert _all_open(sealed)
    assert keys_of_house.mark_keys() == marks
    assert keys.subkey("contact") == contact
    assert subject_for("ada@example.org").pk == ada.pk
    assert ada.contact == "ada@example.org"
    assert set(DataKey.objects.values_list("master", flat=True)) == {master}
    assert rotation.rewrap() == 0


def test_a_destroyed_key_stays_destroyed(folder: Path) -> None:
    key_id = keys.create_key("subject:ada")
    record = DataKey.objects.get(pk=key_id)
    keys.destroy_key(key_id)
    assert not keys.rewrap_key(record, masters.current())  # even if it was read before it was destroyed
    rotation.rotate()
    with pytest.raises(keys.KeyDestroyedError):
        keys.data_key(key_id)


def test_stopped_at_any_row_both_masters_are_read_and_the_next_run_does_what_is_left(folder: Path) -> None:
    sealed = _filled(4)
    for stop in range(1, 5):

        def progress(done: int, of: int, stop: int = stop) -> None:
            if done == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            rotation.rotate(progress)
        found = rotation.status()
        assert (found.waiting, found.lost) == (5 - stop, 0)
        assert _all_open(sealed)
        made = keys.create_key("asset:meanwhile")
        assert DataKey.objects.get(pk=made).master == found.master
        DataKey.objects.filter(pk=made).delete()
        assert rotation.rewrap() == 5 - stop
        assert rotation.status().waiting == 0
        assert _all_open(sealed)


def test_killed_between_the_files_nothing_is_lost(folder: Path) -> None:
    """The old key has its second name before the new one takes its place."""
    path = folder / "master.key"
    old = masters.FileKeyProvider(path).master()
    script = (
        "import os; from pathlib import Path; from consent.masters import FileKeyProvider;"
        "Path.replace = lambda *_: os._exit(9);"
        f"FileKeyProvider(Path({str(path)!r})).renew()"
    )
    killed = subprocess.run([sys.executable, "-c", script], check=False, env={**os.environ}, timeout=60)
    assert killed.returncode == 9
    assert masters.current() == old
    sealed = _filled(2)
    rotation.rotate()
    assert _all_open(sealed)
    assert masters.FileKeyProvider(path).earlier(masters.fingerprint(old)) == old


def test_a_house_from_before_the_root_keeps_every_derived_key(folder: Path) -> None:
    """Until then sub-keys were derived from the master key itself."""
    master = masters.current()
    key_id = keys.create_key("asset:old")
    DataKey.objects.filter(pk=keys.ROOT).delete()  # as it was before
    before = {purpose: envelope.derive(master, f"subkey/{purpose}") for purpose in ("watermark", "contact", "block")}
    assert {purpose: keys.subkey(purpose) for purpose in before} == before
    sealed = keys.encrypt(key_id, b"", b"old")
    for _ in range(2):
        rotation.rotate()
        assert {purpose: keys.subkey(purpose) for purpose in before} == before
        assert keys.decrypt(key_id, b"", sealed) == b"old"


def test_such_a_house_with_another_master_key_is_told_so_and_not_given_a_new_root(folder: Path) -> None:
    keys.create_key("asset:old")
    DataKey.objects.filter(pk=keys.ROOT).delete()
    (folder / "master.key").unlink()
    with pytest.raises(keys.MasterKeyChangedError):
        keys.subkey("watermark")
    assert not DataKey.objects.filter(pk=keys.ROOT).exists()


def test_the_root_cannot_be_destroyed(folder: Path) -> None:
    keys.subkey("watermark")
    with pytest.raises(keys.KeyStoreError):
        keys.destroy_key(keys.ROOT)


def test_from_a_file_to_the_environment_and_back(folder: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed, file_uri, derived = _filled(3), masters.uri(), keys.subkey("watermark")
    monkeypatch.setenv("NEW_MASTER", os.urandom(32).hex())
    settings.MASTER_KEY_URI = "env:NEW_MASTER"
    with pytest.raises(keys.MasterKeyChangedError):
        keys.create_key("asset:too_early")
    with pytest.raises(keys.KeyStoreError):
        rotation.rewrap()
    settings.MASTER_KEY_PREVIOUS = [file_uri]
    assert _all_open(sealed)
    keys.create_key("asset:between")
    assert rotation.rewrap() == 4
    settings.MASTER_KEY_PREVIOUS = []
    assert _all_open(sealed)
    assert keys.subkey("watermark") == derived
    with pytest.raises(keys.MasterKeyUnusableError):
        rotation.rotate()  # this command cannot write the environment
    settings.MASTER_KEY_URI, settings.MASTER_KEY_PREVIOUS = file_uri, ["env:NEW_MASTER"]
    assert rotation.rewrap() == 5
    assert _all_open(sealed)


def test_nothing_is_drawn_while_a_key_cannot_be_opened(folder: Path) -> None:
    keys.create_key("asset:lost")
    DataKey.objects.exclude(pk=keys.ROOT).update(master="0123456789abcdef")
    before = masters.current()
    with pytest.raises(keys.KeyStoreError, match="0123456789abcdef"):
        rotation.rotate()
    assert masters.current() == before
    assert sorted(os.listdir(folder)) == ["master.key"]


def test_the_command_says_what_it_would_do_and_does_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sealed = _filled(2)
    call_command("keys", "rotate", "--dry-run")
    assert "would be drawn" in capsys.readouterr().out
    assert rotation.status().waiting == 0
    call_command("keys", "rotate")
    assert "3 keys are wrapped by the new master key" in capsys.readouterr().out
    call_command("keys", "status")
    assert "in use" in capsys.readouterr().out
    call_command("keys", "rewrap")
    assert "Nothing waits." in capsys.readouterr().out
    assert _all_open(sealed)
    DataKey.objects.exclude(pk=keys.ROOT).update(master="0123456789abcdef")
    with pytest.raises(SystemExit) as exit:
        call_command("keys", "status")
    assert exit.value.code == 2
    with pytest.raises(CommandError, match="nowhere at hand"):
        call_command("keys", "rewrap")
