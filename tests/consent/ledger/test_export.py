"""An export verifies alone, and a changed one does not."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from consent import ledger, services
from consent.ledger import export, notes
from consent.ledger import house as signers
from consent.ledger.errors import LedgerError

pytestmark = pytest.mark.django_db

SHORT, LONG = 8, 200


@pytest.fixture
def lines(history) -> list[str]:
    history()
    file = io.StringIO()
    assert export.write(file) == 20
    return file.getvalue().splitlines(keepends=True)


@pytest.fixture
def checked(tmp_path: Path) -> Callable[..., export.Report]:
    def check(lines: list[str], **options: object) -> export.Report:
        path = tmp_path / "log.ledger"
        path.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
        return export.check(path, **options)  # type: ignore[arg-type]

    return check


def test_an_honest_export_verifies_without_the_database(lines, checked, django_db_blocker) -> None:
    key = ledger.public_key()
    with django_db_blocker.block():
        report = checked(lines, keys=[key])
    assert report.findings == []
    assert (report.leaves, report.covered, report.checkpoints) == (20, 20, 2)


def test_a_leaf_line_is_the_very_bytes_that_are_hashed(lines) -> None:
    from consent.ledger import tree
    from consent.ledger.models import LedgerEntry

    first = next(line for line in lines if line.startswith('{"kind"'))
    assert tree.leaf_hash(first[:-1].encode()) == bytes(LedgerEntry.objects.get(seq=0).leaf_hash)


def test_entries_after_the_last_checkpoint_are_not_in_it(lines, house, checked) -> None:
    house.given(contact="late@example.org", photos=[services.PhotoRef("ast_other", "9" * 64)])
    file = io.StringIO()
    assert export.write(file) == 20
    assert checked(file.getvalue().splitlines(keepends=True)).findings == []


def _leaf(lines: list[str], rng: random.Random) -> int:
    return rng.choice([at for at, line in enumerate(lines) if line.startswith('{"kind"')])


def edited(lines: list[str], rng: random.Random) -> list[str]:
    at = _leaf(lines, rng)
    leaf = json.loads(lines[at])
    name = rng.choice(sorted(leaf))
    leaf[name] = leaf[name] + 1 if isinstance(leaf[name], int) else leaf[name][:-1] + "~"
    return [*lines[:at], json.dumps(leaf, sort_keys=True, separators=(",", ":")) + "\n", *lines[at + 1 :]]


def flipped(lines: list[str], rng: random.Random) -> list[str]:
    at = _leaf(lines, rng)
    data = bytearray(lines[at][:-1].encode())
    data[rng.randrange(len(data))] ^= 1
    return [*lines[:at], data.decode("utf-8", "surrogateescape") + "\n", *lines[at + 1 :]]


def removed(lines: list[str], rng: random.Random) -> list[str]:
    at = _leaf(lines, rng)
    return [*lines[:at], *lines[at + 1 :]]


def reordered(lines: list[str], rng: random.Random) -> list[str]:
    one = two = _leaf(lines, rng)
    while two == one:
        two = _leaf(lines, rng)
    changed = list(lines)
    changed[one], changed[two] = changed[two], changed[one]
    return changed


def inserted(lines: list[str], rng: random.Random) -> list[str]:
    at = _leaf(lines, rng)
    return [*lines[:at], lines[_leaf(lines, rng)], *lines[at:]]


def cut_short(lines: list[str], rng: random.Random) -> list[str]:
    return lines[: _leaf(lines, rng)]


def cut_short_and_closed(lines: list[str], rng: random.Random) -> list[str]:
    """The tail is gone, the counts fit, and the checkpoints are still there."""
    end = _leaf(lines, rng)
    count = sum(line.startswith('{"kind"') for line in lines[:end])
    header = {**json.loads(lines[0]), "leaves": count}
    return [json.dumps(header) + "\n", *lines[1:end], json.dumps({"end": count}) + "\n"]


def checkpoint_changed(lines: list[str], rng: random.Random) -> list[str]:
    at = rng.choice([at for at, line in enumerate(lines) if line.startswith('{"checkpoint"')])
    note = json.loads(lines[at])["checkpoint"]
    where = rng.randrange(len(note) - 1)
    changed = note[:where] + chr(ord(note[where]) ^ 1) + note[where + 1 :]
    return [*lines[:at], json.dumps({"checkpoint": changed}, separators=(",", ":")) + "\n", *lines[at + 1 :]]


KINDS = [edited, flipped, removed, reordered, inserted, cut_short, cut_short_and_closed, checkpoint_changed]


def _unseen(lines, checked, kind, cases: int) -> list[int]:
    return [seed for seed in range(cases) if checked(kind(lines, random.Random(seed))).ok]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_changed_export_is_found(lines, checked, kind) -> None:
    assert _unseen(lines, checked, kind, SHORT) == []


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_two_hundred_changed_exports_of_every_kind_are_found(lines, checked, kind) -> None:
    assert _unseen(lines, checked, kind, LONG) == []


def test_a_tail_taken_off_with_its_checkpoint_is_found_by_a_kept_one_only(lines, checked) -> None:
    kept = ledger.checkpoint()
    first = next(json.loads(line)["checkpoint"] for line in lines if line.startswith('{"checkpoint"'))
    size = notes.open_checkpoint(first, signers.verifiers()).size
    older = [json.dumps({**json.loads(lines[0]), "leaves": size}) + "\n", lines[1], *lines[3 : 3 + size]]
    older.append(json.dumps({"end": size}) + "\n")
    assert checked(older).ok  # an older export is whole in itself
    found = checked(older, kept=[kept])
    assert [finding.code for finding in found.findings] == ["log_truncated"]


def test_a_log_forged_whole_under_another_key_is_not_the_houses(lines, checked) -> None:
    forger = notes.Signer(signers.signer().name, bytes(32))
    forged = [json.dumps({**json.loads(lines[0]), "keys": [forger.verifier.text]}) + "\n"]
    for line in lines[1:]:
        if line.startswith('{"checkpoint"'):
            head = notes.open_checkpoint(json.loads(line)["checkpoint"], signers.verifiers())
            line = json.dumps({"checkpoint": forger.sign(head.text)}, separators=(",", ":")) + "\n"  # noqa: PLW2901
        forged.append(line)
    assert checked(forged).ok
    assert not checked(forged, keys=[ledger.public_key()]).ok


@pytest.mark.parametrize(
    "text",
    ["", "{}\n", "[]\n", "\x00\xff", '{"format":"imprimatur-ledger","version":2}\n', "x" * 200_000, "[" * 50_000],
)
def test_what_is_no_export_is_refused_with_a_sentence(checked, text: str) -> None:
    with pytest.raises(LedgerError) as caught:
        checked([text])
    assert caught.value.code in {"export_invalid", "note_invalid"}


def test_a_file_that_is_not_there_is_refused_with_a_sentence(tmp_path) -> None:
    with pytest.raises(LedgerError, match="cannot be read"):
        export.check(tmp_path / "none")
