"""Lists of picture hashes: taken in from what others hand out, replaced, removed, logged, and searched as one."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from consent import keys, ledger
from consent.ledger import verifying
from consent.ledger.models import AuditRecord
from tests.worker.gate import pictures
from watermark import pdq
from webapp import storage
from webapp.screening import hash_files, hash_lists
from webapp.screening.hash_listed import HashList
from worker.gate.looks import lists
from worker.gate.looks.looking import look_at
from worker.gate.looks.sampling import samples
from worker.gate.signals import Signal
from worker.gate.upload import Upload
from worker.listing import lists_looks
from worker.media import client
from worker.pipeline.analysis import Analysis

pytestmark = pytest.mark.django_db

RNG = np.random.default_rng(4)
HASHES = [RNG.bytes(32).hex() for _ in range(40)]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, settings: Any) -> Path:
    settings.HOME = tmp_path / "home"
    return settings.HOME


def take(stage: Any, path: Path, name: str = "banned", kind: str = "block") -> tuple[HashList, hash_files.Parsed]:
    return hash_lists.import_list(path, name=name, kind=kind, moderator=stage.mod, reason="feed of May")


def written(folder: Path, text: str, name: str = "list.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def exchange(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries as ThreatExchange gives them (python-threatexchange/threatexchange/indicator.py)."""
    return [
        {"id": str(number), "type": "HASH_PDQ", "indicator": HASHES[number], "status": "MALICIOUS", **change}
        for number, change in enumerate(changes)
    ]


@pytest.mark.parametrize(
    ("name", "text", "lines", "skipped"),
    [
        ("plain.csv", "\n".join(HASHES[:3]), [1, 2, 3], {}),
        ("bom.csv", "\ufeffhash\r\n" + "\r\n".join(HASHES[:2]), [1, 2], {}),
        (
            "quality.csv",
            f"id,quality,PDQ\na,100,{HASHES[0]}\nb,49,{HASHES[1]}\n# a remark\n\nc,50,{HASHES[2].upper()}\n",
            [1, 5],
            {"quality below 50": 1},
        ),
        (
            "download.csv",
            f"td_description,td_status,td_raw_indicator\nx,MALICIOUS,{HASHES[0]}\ny,NON_MALICIOUS,{HASHES[1]}\n",
            [1],
            {"called harmless": 1},
        ),
        (
            "updates.json",
            json.dumps(
                {
                    "data": exchange(
                        {}, {"should_delete": True}, {"type": "HASH_MD5"}, {"status": "NON_MALICIOUS"}, {}
                    ),
                    "paging": {},
                },
                indent=1,
            ),
            [1, 5],
            {"deleted": 1, "not PDQ": 1, "called harmless": 1},
        ),
        ("array.json", json.dumps(exchange({}, {})), [1, 2], {}),
        ("lines.json", "\n".join(json.dumps(each) for each in exchange({}, {}, {})), [1, 2, 3], {}),
        (
            "vpdq.json",
            json.dumps([{"pdq": HASHES[n], "quality": 100 - 60 * n, "frame_number": n} for n in range(2)]),
            [1],
            {"quality below 50": 1},
        ),
        ("twice.csv", f"{HASHES[0]}\n{HASHES[0]}\n", [1], {"twice in the file": 1}),
    ],
)
def test_what_others_hand_out_is_read(
    name: str, text: str, lines: list[int], skipped: dict[str, int], tmp_path: Path
) -> None:
    parsed = hash_files.parse(written(tmp_path, text, name))
    assert sorted(parsed.entries["line"].tolist()) == lines
    assert dict(parsed.skipped) == skipped
    assert {value.tobytes().hex() for value in parsed.entries["hash"]} <= set(HASHES)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "list_empty"),
        (b"hash\n", "list_empty"),
        (f"hash\n{HASHES[0]}\nnot a hash\n".encode(), "list_entry_invalid"),
        (f"hash\n{HASHES[0][:-1]}\n".encode(), "list_entry_invalid"),
        (b'{"data": [', "list_unreadable"),
        (b'{"data": 7}', "list_unreadable"),
        (b"[1, 2]", "list_unreadable"),
        (b"\xff\xfe\x00\x01", "list_unreadable"),
        (b"[" * 100_000, "list_unreadable"),
    ],
)
def test_what_cannot_be_read_whole_is_not_taken_in_at_all(
    content: bytes, code: str, stage: Any, tmp_path: Path
) -> None:
    path = tmp_path / "bad"
    path.write_bytes(content)
    with pytest.raises(hash_files.HashFileError) as refused:
        take(stage, path)
    assert (refused.value.code, "Nothing was changed" in refused.value.message) == (code, True)
    assert not HashList.objects.exists()


def test_an_import_a_replacement_and_a_removal_are_logged_and_searched(stage: Any, tmp_path: Path) -> None:
    assert hash_lists.installed() is None
    first, _ = take(stage, written(tmp_path, "\n".join(HASHES[:5])))
    other, _ = take(stage, written(tmp_path, "\n".join(HASHES[20:23])), "noted", "watch")
    found = hash_lists.installed()
    assert found is not None
    assert (found.names, found.entries) == (["banned", "noted"], 8)
    hits = found.search([bytes.fromhex(HASHES[2]), bytes.fromhex(HASHES[21])])
    assert [(hit.query, hit.list, hit.kind, hit.line, hit.distance) for hit in hits] == [
        (0, "banned", "block", 3, 0),
        (1, "noted", "watch", 2, 0),
    ]
    second, _ = take(stage, written(tmp_path, "\n".join(HASHES[10:12])))
    found = hash_lists.installed()
    assert found is not None
    assert found.search([bytes.fromhex(HASHES[2])]) == []
    assert len(found.search([bytes.fromhex(HASHES[10])])) == 1
    hash_lists.remove_list("banned", moderator=stage.mod, reason="feed ended")
    hash_lists.remove_list("noted", moderator=stage.mod, reason="feed ended")
    assert hash_lists.installed() is None
    said = [(record.action, record.subject_ref) for record in AuditRecord.objects.order_by("at", "id")]
    assert said == [
        ("hash_list.imported", first.pk),
        ("hash_list.imported", other.pk),
        ("hash_list.replaced", first.pk),
        ("hash_list.imported", second.pk),
        ("hash_list.removed", second.pk),
        ("hash_list.removed", other.pk),
    ]
    ledger.sequence()
    assert verifying.verify().findings == []


def test_what_is_removed_cannot_be_read_any_more(stage: Any, tmp_path: Path) -> None:
    row, _ = take(stage, written(tmp_path, HASHES[0]))
    assert storage.exists(row.object_name)
    hash_lists.remove_list("banned", moderator=stage.mod, reason="ended")
    assert not storage.exists(row.object_name)
    with pytest.raises(keys.KeyDestroyedError):
        keys.data_key(row.key_id)
    row.refresh_from_db()
    assert (row.name, row.object_name, row.ended_at is None) == ("banned", "", False)
    with pytest.raises(hash_lists.HashListError) as refused:
        hash_lists.remove_list("banned", moderator=stage.mod, reason="again")
    assert refused.value.code == "list_missing"


def test_only_a_moderator_with_a_reason_changes_a_list(stage: Any, tmp_path: Path) -> None:
    path = written(tmp_path, HASHES[0])
    for name, moderator, reason, code in (
        ("banned", stage.cleo, "why", "moderator_required"),
        ("banned", stage.mod, " ", "reason_required"),
        ("../up", stage.mod, "why", "list_name_invalid"),
    ):
        with pytest.raises(hash_lists.HashListError) as refused:
            hash_lists.import_list(path, name=name, kind="block", moderator=moderator, reason=reason)
        assert refused.value.code == code
    assert not HashList.objects.exists()


def test_one_index_is_made_per_state_of_the_lists_and_mended_when_damaged(
    stage: Any, tmp_path: Path, home: Path
) -> None:
    take(stage, written(tmp_path, HASHES[0]))
    hash_lists.installed()
    (path,) = (home / "lists").iterdir()
    made = path.stat().st_mtime_ns
    hash_lists.installed()
    assert path.stat().st_mtime_ns == made
    path.write_bytes(path.read_bytes()[:-7])
    mapped = hash_lists.installed()
    assert mapped is not None
    take(stage, written(tmp_path, HASHES[1]), "second")
    hash_lists.installed()
    (other,) = (home / "lists").iterdir()
    assert other != path
    # Whoever had the old one mapped goes on with it.
    assert len(mapped.search([bytes.fromhex(HASHES[0])])) == 1
    assert os.stat(other).st_mode & 0o077 == 0


def test_a_crash_in_the_middle_of_an_import_leaves_the_list_as_it_was(
    stage: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the log is away")

    take(stage, written(tmp_path, HASHES[0]))
    monkeypatch.setattr(ledger, "audit", broken)
    with pytest.raises(RuntimeError):
        take(stage, written(tmp_path, HASHES[1]))
    found = hash_lists.installed()
    assert found is not None
    assert len(found.search([bytes.fromhex(HASHES[0])])) == 1
    objects = [name for name in storage.objects(older_than=timezone.now() + timedelta(days=1)) if "hashlist" in name]
    assert objects == list(HashList.objects.values_list("object_name", flat=True))


def test_what_a_killed_import_left_behind_is_swept(stage: Any, tmp_path: Path, monkeypatch: Any) -> None:
    row, _ = take(stage, written(tmp_path, HASHES[0]))
    left = storage.store_stream(BytesIO(b"half"), key_id=row.key_id, prefix=hash_lists.PREFIX)
    assert hash_lists.upkeep() == 0
    monkeypatch.setattr(hash_lists, "ORPHANS_AFTER", -timedelta(days=1))
    assert hash_lists.upkeep() == 1
    assert (storage.exists(left), storage.exists(row.object_name)) == (False, True)


def lists_measured(path: Path, analysis: Analysis) -> list[Signal]:
    return look_at(samples(Upload.of(path, client.probe(path)), analysis), lists_looks(analysis))


def test_a_picture_is_measured_against_the_lists_that_are_installed(
    stage: Any, tmp_path: Path, astronaut: pictures.Rgb, grace: pictures.Rgb
) -> None:
    path = pictures.saved(astronaut, tmp_path / "a.jpg")
    analysis = pictures.analysis(tmp_path, (512, 512), [(0.0, [])])
    assert lists_measured(path, analysis) == []
    take(stage, written(tmp_path, pdq.hash_picture(astronaut)[0].hex()))
    (signal,) = lists_measured(path, analysis)
    assert [(hit["list"], hit["line"]) for hit in signal.value["hits"]] == [("banned", 1)]
    other = pictures.saved(grace, tmp_path / "g.jpg")
    (signal,) = lists_measured(other, analysis)
    assert (signal.status, signal.value["hits"]) == ("measured", [])


def test_lists_that_cannot_be_opened_are_no_empty_lists(stage: Any, tmp_path: Path, astronaut: pictures.Rgb) -> None:
    row, _ = take(stage, written(tmp_path, HASHES[0]))
    analysis = pictures.analysis(tmp_path, (512, 512), [(0.0, [])])
    path = pictures.saved(astronaut, tmp_path / "a.jpg")
    HashList.objects.filter(pk=row.pk).update(sha256="0" * 64)
    (signal,) = lists_measured(path, analysis)
    assert (signal.kind, signal.status, signal.value["code"]) == (lists.KIND, "error", "list_damaged")
    storage.delete(row.object_name)
    (signal,) = lists_measured(path, analysis)
    assert signal.status == "error"


def called(*arguments: str) -> str:
    out = StringIO()
    call_command("gate", "lists", *arguments, stdout=out)
    return out.getvalue()


def test_the_operators_command(stage: Any, tmp_path: Path, samples: Path, models_dir: Path) -> None:
    assert "not screened" in called("list")
    printed = called("hash", str(samples / "astronaut.jpg"))
    assert [line.split(",")[2] for line in printed.splitlines()] == ["part", "picture", "face"]
    path = written(tmp_path, printed)
    said = called("import", str(path), "--name", "own", "--kind", "watch", "--reason", "a person asked")
    assert "2 hashes" in said
    assert "own" in called("list")
    assert "no more" in called("remove", "own", "--reason", "done")
    with pytest.raises(CommandError, match="list_missing"):
        called("remove", "own", "--reason", "done")
    with pytest.raises(CommandError, match="no such moderator"):
        called("remove", "own", "--reason", "done", "--moderator", "nobody@example.org")


def test_the_bench_finds_what_it_planted() -> None:
    said = called("bench", "--entries", "5000")
    assert "found 100 of 100" in said
