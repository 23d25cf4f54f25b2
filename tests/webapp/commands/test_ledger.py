"""`manage.py ledger`: what it says and how it ends."""

from __future__ import annotations

import importlib
import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from consent import ledger
from consent.ledger.models import AuditRecord, LedgerEntry

pytestmark = pytest.mark.django_db


def _run(*arguments: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("ledger", *arguments, stdout=out)
    except SystemExit as ended:
        return int(ended.code or 0), out.getvalue()
    except CommandError as error:
        return error.returncode, f"{out.getvalue()}{error}"
    return 0, out.getvalue()


@pytest.fixture
def record() -> AuditRecord:
    made = ledger.audit("usr_1", "viewed", "cns_1", "a complaint")
    ledger.sequence()
    return made


def test_an_untouched_log_is_said_to_be_so(record) -> None:
    code, words = _run("verify")
    assert code == 0
    assert "Everything is as it was entered." in words
    assert json.loads(_run("verify", "--json")[1])["ok"] is True


def test_a_changed_one_ends_with_1_and_names_the_row(record) -> None:
    importlib.import_module("consent.migrations.0003_ledger").remove(connection)
    AuditRecord.objects.update(action="exported")
    code, words = _run("verify")
    assert code == 1
    assert f"audit:{record.pk}" in words
    assert "row_edited" in words
    found = json.loads(_run("verify", "--json")[1])
    assert [each["code"] for each in found["findings"]] == ["row_edited"]


def test_an_export_verifies_and_a_kept_checkpoint_is_held_against_it(record, tmp_path: Path) -> None:
    log, kept = str(tmp_path / "log"), tmp_path / "kept"
    assert _run("export", log)[0] == 0
    code, words = _run("verify", log)
    assert code == 0
    assert ledger.public_key() in words
    assert _run("verify", log, "--key", ledger.public_key())[0] == 0
    ledger.audit("usr_1", "viewed", "cns_1", "")
    ledger.sequence()
    kept.write_text(_run("checkpoint")[1])
    assert _run("verify", "--checkpoint", str(kept))[0] == 0
    code, words = _run("verify", log, "--checkpoint", str(kept))
    assert code == 1
    assert "log_truncated" in words


def test_what_cannot_be_checked_ends_with_2_and_a_sentence(record, tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(b"\xff\x00 nothing")
    for arguments in (
        ["verify", str(tmp_path / "none")],
        ["verify", str(tmp_path / "noise")],
        ["verify", "--checkpoint", str(tmp_path / "none")],
        ["verify", "--key", "x"],
        ["export", str(tmp_path / "no" / "folder")],
    ):
        code, words = _run(*arguments)
        assert code == 2, arguments
        assert words.strip().endswith((".", ")")), words
    assert not list(tmp_path.glob(".*"))


def test_a_log_without_its_keys_is_not_accused_but_cannot_be_checked(record, settings, tmp_path: Path) -> None:
    settings.KEYS_DIR = tmp_path
    code, words = _run("verify")
    assert code == 2
    assert "ledger_key_unusable" in words or "master_key" in words


def test_an_empty_log_has_nothing_to_show_and_nothing_wrong() -> None:
    assert _run("verify")[0] == 0
    code, words = _run("checkpoint")
    assert code == 2
    assert "log_empty" in words


def test_rows_older_than_the_log_are_entered_by_hand_and_that_is_entered_too(record) -> None:
    importlib.import_module("consent.migrations.0003_ledger").remove(connection)
    old = AuditRecord.objects.get(pk=record.pk)
    old.pk = "aud_before"
    old.reason_sealed = None
    old.save(force_insert=True)
    assert _run("verify")[0] == 1
    assert "audit:aud_before" in _run("adopt")[1]
    assert not LedgerEntry.objects.filter(source="audit:aud_before").exists()
    assert _run("adopt", "--yes")[0] == 0
    assert AuditRecord.objects.filter(action="ledger_adopted").count() == 1
    assert _run("verify")[0] == 0


def test_waiting_entries_get_their_place_at_once_and_a_new_key_signs(record) -> None:
    with transaction.atomic():
        ledger.append("audit", "noted", {})
    before = ledger.public_key()
    assert "New checkpoints are signed by" in _run("rotate-key")[1]
    assert "1 entries got their place" in _run("sequence")[1]
    assert ledger.public_key() != before
    assert before in _run("key")[1]
    assert _run("verify")[0] == 0
