"""The master key under AWS KMS or a Vault: asked once in minutes, told apart when silent and when refusing."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from consent import keys, master_vault, masters, rotation
from consent.models import MasterKey
from tests.consent.key_services import Kms, Service, Vault, serving

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_cached() -> Iterator[None]:
    masters.forget_cached()
    yield
    masters.forget_cached()


@pytest.fixture
def kms(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with serving(Kms) as service:
        settings.MASTER_KEY_URI, settings.MASTER_KEY_ENDPOINT = "aws-kms:alias/imprimatur", service.url
        yield service


@pytest.fixture
def vault(settings: Any) -> Iterator[Service]:
    with serving(Vault) as service:
        settings.MASTER_KEY_URI, settings.VAULT_ADDR = "vault:transit/imprimatur", service.url
        settings.VAULT_TOKEN, settings.VAULT_ROLE_ID, settings.VAULT_SECRET_ID = "s.token", "", ""
        yield service


@pytest.fixture(params=["kms", "vault"])
def remote(request: pytest.FixtureRequest) -> Service:
    return request.getfixturevalue(request.param)


def test_keys_are_sealed_and_opened_and_the_service_is_asked_once(remote: Service) -> None:
    key_id = keys.create_key("subject:ada")
    sealed = keys.encrypt(key_id, b"", b"Ada")
    assert keys.decrypt(key_id, b"", sealed) == b"Ada"
    assert len(remote.calls) == 2  # sealed once, opened once
    masters.forget_cached()
    assert keys.decrypt(key_id, b"", sealed) == b"Ada"
    assert len(remote.calls) == 3
    master = masters.current()
    assert master not in bytes(MasterKey.objects.get().sealed)


def test_what_was_unwrapped_is_kept_for_minutes_only(remote: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(masters, "monotonic", lambda: now[0])
    keys.create_key("subject:ada")  # drawn and sealed
    keys.create_key("subject:ada2")  # opened, and held from here on
    asked = len(remote.calls)
    now[0] += masters.CACHE_SECONDS - 1
    keys.create_key("subject:ben")
    assert len(remote.calls) == asked
    now[0] += 2
    remote.failure = 403
    with pytest.raises(keys.MasterKeyUnusableError):
        keys.create_key("subject:cleo")


def test_a_rotation_asks_a_handful_of_times_and_is_seen_at_once(remote: Service) -> None:
    ids = [keys.create_key(f"asset:{number}") for number in range(20)]
    sealed = {key_id: keys.encrypt(key_id, b"", b"x") for key_id in ids}
    derived = keys.subkey("watermark")
    master, count = rotation.rotate()
    assert count == 21
    assert masters.fingerprint(masters.current()) == master
    assert len(remote.calls) <= 4
    assert all(keys.decrypt(key_id, b"", value) == b"x" for key_id, value in sealed.items())
    assert keys.subkey("watermark") == derived


def test_from_this_machines_file_to_the_service(request: pytest.FixtureRequest, settings: Any, tmp_path: Path) -> None:
    settings.MASTER_KEY_URI = f"file:{tmp_path / 'master.key'}"
    key_id, derived = keys.create_key("subject:ada"), keys.subkey("watermark")
    sealed = keys.encrypt(key_id, b"", b"Ada")
    old = settings.MASTER_KEY_URI
    request.getfixturevalue("vault")
    settings.MASTER_KEY_PREVIOUS = [old]
    assert rotation.rewrap() == 2
    (tmp_path / "master.key").unlink()
    settings.MASTER_KEY_PREVIOUS = []
    assert keys.decrypt(key_id, b"", sealed) == b"Ada"
    assert keys.subkey("watermark") == derived


@pytest.mark.parametrize(
    ("failure", "code"),
    [(400, "master_key_unusable"), (403, "master_key_unusable"), (500, "master_key_unavailable")],
)
def test_a_refusal_and_an_outage_are_told_apart(remote: Service, failure: int, code: str) -> None:
    keys.create_key("subject:ada")
    masters.forget_cached()
    remote.failure = failure
    with pytest.raises(keys.KeyStoreError) as error:
        keys.create_key("subject:ben")
    assert error.value.code == code
    assert "Nothing was changed" in error.value.message
    remote.failure = 0
    keys.create_key("subject:ben")


def test_nobody_there_is_an_outage(vault: Service, settings: Any) -> None:
    settings.VAULT_ADDR = "http://127.0.0.1:1"
    with pytest.raises(keys.MasterKeyUnavailableError):
        keys.create_key("subject:ada")


def test_a_vault_that_hangs_does_not_hold_us(vault: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master_vault, "SECONDS", 0.3)
    vault.failure = "hang"
    with pytest.raises(keys.MasterKeyUnavailableError):
        keys.create_key("subject:ada")


@pytest.mark.parametrize("failure", ["nonsense", 302])
def test_an_answer_that_is_none_is_refused_and_no_redirect_followed(vault: Service, failure: Any) -> None:
    vault.failure = failure
    with pytest.raises(keys.MasterKeyUnusableError):
        keys.create_key("subject:ada")
    assert not any("elsewhere" in call for call in vault.calls)


def test_a_role_logs_in_by_itself(vault: Service, settings: Any) -> None:
    settings.VAULT_TOKEN, settings.VAULT_ROLE_ID, settings.VAULT_SECRET_ID = "", "house", "secret"
    keys.create_key("subject:ada")
    assert vault.calls[0] == "auth/approle/login"
    masters.forget_cached()
    settings.VAULT_SECRET_ID = "wrong"
    with pytest.raises(keys.MasterKeyUnusableError):
        keys.create_key("subject:ben")


@pytest.mark.parametrize(
    ("uri", "values"),
    [
        ("vault:transit", {}),
        ("vault:transit/imprimatur", {"VAULT_ADDR": "http://vault.example.org"}),
        ("vault:transit/imprimatur", {"VAULT_ADDR": ""}),
        ("vault:transit/imprimatur", {"VAULT_TOKEN": ""}),
        ("vault:../sys/imp rimatur", {}),
        ("keychain:x", {}),
        ("file:", {}),
        ("env:NO_SUCH_VARIABLE", {}),
    ],
)
def test_a_wrong_setting_is_named(vault: Service, settings: Any, uri: str, values: dict[str, str]) -> None:
    settings.MASTER_KEY_URI = uri
    for name, value in values.items():
        setattr(settings, name, value)
    with pytest.raises(keys.MasterKeyUnusableError):
        keys.create_key("subject:ada")
    assert vault.calls == []


def test_another_services_key_does_not_open_ours(remote: Service) -> None:
    keys.create_key("subject:ada")
    masters.forget_cached()
    remote.key = bytes(32)
    with pytest.raises(keys.MasterKeyUnusableError):
        keys.create_key("subject:ben")


def test_a_sealed_master_that_was_exchanged_is_noticed(vault: Service) -> None:
    keys.create_key("subject:ada")
    masters.forget_cached()
    MasterKey.objects.update(sealed=b"vault:v1:" + base64.b64encode(vault.seal(bytes(32))))
    with pytest.raises(keys.MasterKeyUnusableError):
        keys.create_key("subject:ben")


def test_every_provider_keeps_the_same_promise(
    remote: Service, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_MASTER", "ab" * 32)
    given: list[Callable[[], masters.KeyProvider]] = [
        lambda: masters.provider(f"file:{tmp_path / 'm'}"),
        lambda: masters.provider("env:A_MASTER"),
        lambda: masters.provider(settings.MASTER_KEY_URI),
    ]
    for make in given:
        first = make().master()
        assert len(first) == 32
        assert make().master() == first
