"""`manage.py receipt` checks a receipt and a pack, without a database where keys are given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from consent import ledger
from consent import services as consents
from consent.models import Consent
from consent.receipts import services as receipts
from consent.receipts.evidence import evidence_pack
from consent.receipts.files import json_of, pdf_of
from tests.webapp import cast

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).parents[3]


@pytest.fixture
def files(cleo: cast.Account, tmp_path: Path) -> dict[str, Path]:
    source, target = cast.ready(cleo, "source"), cast.ready(cleo, "target")
    asked, _ = cast.ask(cleo, "face_donor", "Ada", source, target)
    consents.give_consent(asked, **cast.whole_answer(asked, "Ada"))
    ledger.sequence()
    receipts.issue_due()
    asked = Consent.objects.get(pk=asked.pk)
    text, row = receipts.receipt_of(asked), receipts.receipt_row(asked)
    content = {
        "receipt.jwt": text.encode(),
        "receipt.json": json_of(text),
        "receipt.pdf": pdf_of(asked, row, "en", now=timezone.now()),
        "jwks.json": json.dumps(receipts.jwks()).encode(),
        "pack.zip": evidence_pack(asked, at=timezone.now()),
    }
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    return {name: tmp_path / name for name in content}


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    try:
        call_command("receipt", *map(str, arguments))
        status = 0
    except SystemExit as leaving:
        status = int(str(leaving.code))
    return status, capsys.readouterr().out


def test_each_form_of_a_receipt_is_checked_with_the_houses_keys(files: dict, capsys: pytest.CaptureFixture) -> None:
    for name in ("receipt.jwt", "receipt.json", "receipt.pdf"):
        status, said = run(capsys, "check", files[name])
        assert status == 0
        assert "a real receipt of http://127.0.0.1:8000" in said
        assert "stands in the log" in said
    status, said = run(capsys, "check", files["receipt.jwt"], "--json")
    assert json.loads(said)["ok"] is True


def test_exit_codes_say_what_is_wrong(files: dict, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    text = files["receipt.jwt"].read_text()
    changed, junk, empty = tmp_path / "changed", tmp_path / "junk", tmp_path / "empty.json"
    changed.write_text(text[:-5] + ("A" if text[-5] != "A" else "B") + text[-4:])
    junk.write_bytes(b"hello")
    empty.write_text('{"keys": []}')
    assert run(capsys, "check", changed)[0] == 10
    assert run(capsys, "check", files["receipt.jwt"], "--jwks", empty)[0] == 11
    status, said = run(capsys, "check", junk, "--json")
    assert (status, json.loads(said)["code"]) == (14, "unreadable")
    for arguments in (["check", tmp_path / "none"], ["check", files["receipt.jwt"], "--jwks", junk]):
        with pytest.raises(CommandError, match="Nothing was checked"):
            run(capsys, *arguments)


def test_a_pack_is_checked_and_a_changed_one_found(files: dict, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    status, said = run(capsys, "evidence", files["pack.zip"], "--jwks", files["jwks.json"])
    assert (status, "fits together" in said) == (0, True)
    status, said = run(capsys, "evidence", files["pack.zip"], "--json")
    assert json.loads(said)["own_keys"] is True
    assert run(capsys, "evidence", files["receipt.jwt"])[0] == 14


def test_with_keys_given_neither_database_nor_house_is_needed(files: dict, tmp_path: Path) -> None:
    """In a process of its own, whose databases cannot be opened."""
    nowhere = "sqlite:////nowhere/at/all.sqlite3"
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "webapp.settings", "IMPRIMATUR_PROFILE": "evaluation"}
    environment |= {"IMPRIMATUR_HOME": str(tmp_path / "home"), "DATABASE_URL": nowhere, "KEYS_URL": nowhere}
    for command in (["check", files["receipt.pdf"]], ["evidence", files["pack.zip"]]):
        done = subprocess.run(
            [sys.executable, "manage.py", "receipt", *map(str, command), "--jwks", str(files["jwks.json"])],
            check=False,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
    assert not (tmp_path / "home" / "keys" / "ledger").exists()


def test_keys_are_printed_and_rotated(files: dict, capsys: pytest.CaptureFixture) -> None:
    before = json.loads(run(capsys, "keys")[1])["keys"]
    assert "Old receipts still verify" in run(capsys, "rotate-key")[1]
    after = json.loads(run(capsys, "keys")[1])["keys"]
    assert len(after) == len(before) + 1
    assert all(key in after for key in before)
    assert run(capsys, "check", files["receipt.jwt"])[0] == 0
