"""`manage.py certs`: makes, shows, rotates and checks the signer of this deployment, and `doctor` says the same."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from django.core.management import CommandError, call_command

from tests.watermark.provenance import key_stand_ins, tsa_stand_in
from tests.watermark.provenance.test_key_services import ARN, certified
from watermark import issuing, rotation
from watermark.signers import DevelopmentAuthority
from webapp import keys_of_house
from webapp.commands import checks


def certs(*arguments: str) -> str:
    out = io.StringIO()
    call_command("certs", *arguments, stdout=out, no_color=True)
    return out.getvalue()


def check(*arguments: str) -> tuple[int, str]:
    """Exit code and output of `certs check`."""
    out = io.StringIO()
    try:
        call_command("certs", "check", *arguments, stdout=out, no_color=True)
    except SystemExit as ended:
        return int(ended.code or 0), out.getvalue()
    return 0, out.getvalue()


def doctor() -> set[str]:
    """The levels of what `doctor` says about the signer, apart from its being a development one."""
    found = [finding for finding in checks.check_keys_and_signer() if finding.what == "signer"]
    return {
        finding.level
        for finding in found
        if finding.level == "missing" or "This is a development signer" not in finding.words
    }


class House:
    """An operator's own authority, and where their signer's files lie."""

    def __init__(self, folder: Path, settings: Any) -> None:
        self.root = issuing.issue_root()
        self.intermediate = issuing.issue_intermediate(self.root)
        self.folder, self.settings = folder, settings
        self.chain, self.key = folder / "chain.pem", folder / "signer.key"

    def issue(self, name: str = "", life: timedelta = issuing.LEAF_LIFE) -> tuple[Path, Path]:
        """A leaf with its key, as files."""
        leaf = issuing.issue_leaf(self.intermediate, life=life)
        chain, key = self.folder / f"{name}chain.pem", self.folder / f"{name}signer.key"
        chain.write_text(leaf.certificate_pem + self.intermediate.certificate_pem)
        key.write_bytes(leaf.key_pem)
        key.chmod(0o600)
        return chain, key

    def use(self) -> None:
        """Make the files the house's signer."""
        (self.folder / "root.pem").write_text(self.root.certificate_pem)
        self.settings.SIGNER_CHAIN_FILE, self.settings.SIGNER_KEY_FILE = str(self.chain), str(self.key)
        self.settings.SIGNER_ANCHORS_FILE = str(self.folder / "root.pem")

    def serial(self) -> int:
        """Of the certificate that would sign now."""
        return x509.load_pem_x509_certificates(keys_of_house.signer().chain_pem.encode())[0].serial_number


@pytest.fixture(autouse=True)
def deployment(settings, tmp_path):
    settings.SIGNER_DIR = tmp_path / "signer"
    settings.PROFILE = "evaluation"
    for name in ("SIGNER_CHAIN_FILE", "SIGNER_KEY_FILE", "SIGNER_KEY_URI", "SIGNER_ANCHORS_FILE", "TSA_URL"):
        setattr(settings, name, "")
    return tmp_path


@pytest.fixture
def house(deployment, settings) -> House:
    made = House(deployment, settings)
    made.issue()
    made.use()
    return made


def test_a_development_signer_is_made_once_and_says_that_it_is_untrusted(deployment):
    assert "UNTRUSTED" in certs("init-dev")
    root = DevelopmentAuthority.open(deployment / "signer").root_pem
    assert "UNTRUSTED" in certs("init-dev")
    assert DevelopmentAuthority.open(deployment / "signer").root_pem == root
    shown = certs("show")
    assert shown.count("sha256") == 3
    assert "Imprimatur UNTRUSTED development signer" in shown
    code, words = check()
    assert (code, "UNTRUSTED" in words) == (0, True)
    assert certs("show", "--root") == root


def test_rotating_the_development_signer_gives_a_new_leaf_under_the_same_root(deployment):
    certs("init-dev")
    authority = DevelopmentAuthority.open(deployment / "signer")
    root, before = authority.root_pem, authority.signer().chain_pem
    assert "from the next file on" in certs("rotate")
    after = authority.signer().chain_pem
    leaves = [x509.load_pem_x509_certificates(pem.encode())[0] for pem in (before, after)]
    assert leaves[0].serial_number != leaves[1].serial_number
    assert leaves[0].public_key() != leaves[1].public_key()
    assert authority.root_pem == root
    with pytest.raises(CommandError, match="SIGNER_CHAIN_FILE"):
        certs("rotate", "--chain", "chain.pem")


@pytest.mark.parametrize(
    ("life", "code", "level"),
    [(timedelta(days=60), 0, set()), (timedelta(days=20), 1, {"note"}), (timedelta(minutes=1), 2, {"missing"})],
)
def test_a_certificate_warns_thirty_days_before_its_end_with_an_exit_code_and_the_doctor_agrees(
    house, life, code, level
):
    house.issue(life=life)
    found, words = check()
    assert found == code, words
    assert json.loads(check("--json")[1])["status"] == code
    assert doctor() == level
    assert ("days. Renew it" in words) == (code == 1)


def test_a_signer_that_cannot_be_used_gives_two(deployment, settings):
    root = issuing.issue_root()
    (deployment / "chain.pem").write_text(root.certificate_pem)
    (deployment / "signer.key").write_bytes(root.key_pem)
    settings.SIGNER_CHAIN_FILE = str(deployment / "chain.pem")
    settings.SIGNER_KEY_FILE = str(deployment / "signer.key")
    assert check()[0] == 2
    assert "missing" in doctor()
    settings.SIGNER_CHAIN_FILE = str(deployment / "nowhere.pem")
    code, words = check()
    assert (code, "cannot be read" in words) == (2, True)
    settings.SIGNER_CHAIN_FILE = ""
    code, words = check()
    assert (code, "belong together" in words) == (2, True)


def test_the_exit_code_is_that_of_the_process(house):
    house.issue(life=timedelta(days=20))
    names = ("SIGNER_CHAIN_FILE", "SIGNER_KEY_FILE", "SIGNER_ANCHORS_FILE")
    environment = {**os.environ, **{name: getattr(house.settings, name) for name in names}}
    done = subprocess.run(
        [sys.executable, "manage.py", "certs", "check"], env=environment, check=False, capture_output=True
    )
    assert done.returncode == 1, done.stderr


def test_a_new_chain_and_key_sign_from_the_next_file_on(house):
    before = house.serial()
    chain, key = house.issue("new-")
    certs("rotate", "--chain", str(chain), "--key", str(key))
    assert house.serial() != before
    assert check()[0] == 0
    assert stat.S_IMODE(house.key.stat().st_mode) == 0o600
    assert not [path.name for path in house.folder.iterdir() if path.name.startswith((".chain", ".signer.key"))]


def test_a_chain_that_is_not_the_keys_or_not_under_the_anchor_is_not_installed(house, settings):
    before = house.chain.read_bytes(), house.key.read_bytes()
    chain, _ = house.issue("new-")
    with pytest.raises(CommandError, match="does not belong"):
        certs("rotate", "--chain", str(chain))
    stranger = House(house.folder, settings)
    chain, key = stranger.issue("strange-")
    with pytest.raises(CommandError, match="SIGNER_ANCHORS_FILE beside the old one"):
        certs("rotate", "--chain", str(chain), "--key", str(key))
    chain, key = house.issue("old-", life=timedelta(minutes=1))
    with pytest.raises(CommandError, match="not valid today"):
        certs("rotate", "--chain", str(chain), "--key", str(key))
    with pytest.raises(CommandError, match="--chain FILE"):
        certs("rotate")
    assert (house.chain.read_bytes(), house.key.read_bytes()) == before


def test_a_chain_for_a_key_in_a_key_service_is_installed_after_asking_it(house, settings, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    service = key_stand_ins.StandIn(ec.generate_private_key(ec.SECP256R1()))
    settings.SIGNER_KEY_FILE, settings.SIGNER_KEY_URI = "", f"aws-kms:{ARN}"
    old, root = certified(service.key.public_key())
    house.chain.write_text(old)
    (house.folder / "root.pem").write_text(root)
    with key_stand_ins.serving(service, key_stand_ins.AwsKms):
        settings.SIGNER_ENDPOINT = service.url
        assert check()[0] == 0
        foreign = house.folder / "foreign.pem"
        foreign.write_text(certified(ec.generate_private_key(ec.SECP256R1()).public_key())[0])
        with pytest.raises(CommandError, match="does not belong"):
            certs("rotate", "--chain", str(foreign))
        new, new_root = certified(service.key.public_key())
        (house.folder / "root.pem").write_text(root + new_root)
        (house.folder / "new.pem").write_text(new)
        before = house.serial()
        certs("rotate", "--chain", str(house.folder / "new.pem"))
        assert house.serial() != before
        service.failure = (400, {"__type": "DisabledException", "message": "the key is disabled"})
        code, words = check()
    assert (code, "the key is disabled" in words) == (2, True)


def test_whoever_signs_while_certificates_are_rotated_never_sees_half_of_each(house):
    pairs = [house.issue(f"{n}-") for n in range(2)]
    done = threading.Event()
    broken: list[BaseException] = []

    def sign() -> None:
        while not done.is_set():
            try:
                keys_of_house.signer().sign(b"data")
            except BaseException as error:
                broken.append(error)
                return

    rotation.install(house.chain, house.chain.read_text())  # makes the lock that both sides hold
    threads = [threading.Thread(target=sign) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(60):
        chain, key = pairs[n % 2]
        rotation.install(house.chain, chain.read_text(), key=house.key, key_pem=key.read_bytes())
    done.set()
    for thread in threads:
        thread.join()
    assert broken == []


def test_the_time_stamp_service_is_part_of_the_check(house, settings, tmp_path):
    folder = tmp_path / "tsa"
    folder.mkdir()
    with tsa_stand_in.serving(folder) as authority:
        settings.TSA_URL, settings.TSA_ANCHORS_FILE = authority.url, ""
        code, words = check()
        assert (code, "TSA_ANCHORS_FILE" in words) == (1, True)
        (folder / "root.pem").write_text(authority.root_pem)
        settings.TSA_ANCHORS_FILE = str(folder / "root.pem")
        assert check()[0] == 0
        authority.behave = lambda right, handler: tsa_stand_in.answer(handler, b"", 503)
        code, words = check()
        assert (code, "503" in words) == (2, True)
        assert "missing" in doctor()
        settings.TSA_WHEN_DOWN = "publish"
        assert check()[0] == 1
        assert doctor() == {"note"}


def test_outside_an_evaluation_the_development_certificate_is_a_fault(house, settings):
    settings.PROFILE = "standard"
    code, words = check()
    assert (code, "UNTRUSTED" in words) == (2, True)
    assert "missing" in doctor()
