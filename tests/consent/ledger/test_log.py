"""Every event gets its entry, its place and its proof; and what is signed never contradicts what was signed."""

from __future__ import annotations

import hashlib
import importlib
import json
from itertools import pairwise
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from consent import keys, ledger, services
from consent.ledger import house as signers
from consent.ledger import notes, proofs, sequencer, tree
from consent.ledger.models import AuditRecord, LedgerCheckpoint, LedgerEntry, LedgerTile
from consent.models import Event

pytestmark = pytest.mark.django_db


def _fill(count: int) -> list[LedgerEntry]:
    with transaction.atomic():
        return [ledger.append("audit", "noted", {"number": number}, ref=f"ref_{number}") for number in range(count)]


def _proven(entry: LedgerEntry) -> bool:
    proof = ledger.proof(entry)
    assert proof is not None
    head = notes.open_checkpoint(proof.checkpoint, signers.verifiers())
    assert head.size == proof.size
    return tree.verify_inclusion(tree.leaf_hash(proof.leaf), proof.index, proof.size, proof.path, head.root)


def test_every_event_of_a_consent_has_its_entry_in_the_same_transaction(house) -> None:
    consent = house.given()
    assert [event.ledger_entry.type for event in consent.events.all()] == ["requested", "viewed", "given"]
    with transaction.atomic():
        services.withdraw_consent(consent)
        assert LedgerEntry.objects.count() == 4
        transaction.set_rollback(True)
    assert LedgerEntry.objects.count() == Event.objects.count() == 3


def test_a_proof_comes_with_the_next_batch(house) -> None:
    entry = house.given().events.last().ledger_entry
    assert ledger.proof(entry) is None
    assert ledger.sequence() == 3
    assert _proven(entry)
    assert ledger.sequence() == 0
    assert LedgerCheckpoint.objects.count() == 1


def test_a_leaf_tells_nothing_but_kind_type_and_time(house) -> None:
    consent = house.given()
    ledger.sequence()
    entry = consent.events.last().ledger_entry
    leaf = json.loads(bytes(entry.leaf))
    assert set(leaf) == {"v", "seq", "time", "kind", "type", "ref_commit", "payload_commit", "row_commit"}
    for text in (consent.id, consent.subject_id, consent.photo_sha256s[0], consent.key_id):
        assert text.encode() not in bytes(entry.leaf)
    opening = ledger.open_entry(entry)
    assert ledger.opens(entry, opening)
    assert opening.ref == consent.id
    assert opening.payload["type"] == "given"
    assert not ledger.opens(entry, ledger.Opening(opening.salt, opening.ref, {**opening.payload, "state": "viewed"}))


def test_erasing_a_person_leaves_the_tree_and_takes_the_meaning(house) -> None:
    consent = house.given()
    ledger.sequence()
    keys.destroy_key(consent.key_id)
    entry = consent.events.last().ledger_entry
    with pytest.raises(keys.KeyDestroyedError):
        ledger.open_entry(entry)
    assert _proven(entry)


def test_each_link_of_the_chain_is_the_hash_of_the_one_before_and_the_leaf() -> None:
    _fill(5)
    ledger.sequence()
    previous = bytes(32)
    for entry in LedgerEntry.objects.order_by("seq"):
        previous = hashlib.sha256(previous + bytes(entry.leaf)).digest()
        assert bytes(entry.chain) == previous


def test_trees_of_many_sizes_prove_every_leaf_and_continue_each_other() -> None:
    entries = _fill(600)
    heads = []
    for limit in (1, 1, 3, 250, 1, 1, 255, 1000):
        ledger.sequence(limit)
        heads.append(notes.open_checkpoint(ledger.checkpoint(), signers.verifiers()))
    assert [head.size for head in heads] == [1, 2, 5, 255, 256, 257, 512, 600]
    assert LedgerTile.objects.count() == 2
    hashes = [tree.leaf_hash(leaf) for leaf in proofs.leaves(0, 1000)]
    for old, new in pairwise(heads):
        assert new.root == tree.root_of(hashes[: new.size])
        path = proofs.consistency_path(old.size, new.size)
        assert tree.verify_consistency(old.size, new.size, old.root, new.root, path)
    for at in (0, 1, 254, 255, 256, 257, 511, 512, 598, 599):
        assert _proven(entries[at])


def test_a_batch_has_at_most_a_thousand_leaves_under_one_checkpoint() -> None:
    _fill(1100)
    assert ledger.sequence(5000) == 1000
    assert ledger.sequence(5000) == 100
    assert list(LedgerCheckpoint.objects.order_by("size").values_list("size", flat=True)) == [1000, 1100]


def test_an_audit_entry_has_a_row_to_read_and_its_reason_sealed() -> None:
    record = ledger.audit("usr_1", "viewed_face", "cns_1", "Complaint 17 by Ada Byron")
    again = AuditRecord.objects.get(pk=record.pk)
    assert again.reason == "Complaint 17 by Ada Byron"
    assert b"Ada" not in bytes(again.reason_sealed)
    entry = LedgerEntry.objects.get(source=f"audit:{record.pk}")
    assert ledger.open_entry(entry).payload["reason"] == "Complaint 17 by Ada Byron"


@pytest.mark.parametrize("payload", [{"x": float("nan")}, {"x": 1 << 60}, {"x": "\ud800"}, {"x": object()}])
def test_what_json_cannot_say_exactly_is_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(ledger.LedgerError) as caught, transaction.atomic():
        ledger.append("audit", "noted", payload)
    assert caught.value.code == "payload_invalid"
    assert not LedgerEntry.objects.exists()


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ledger.LedgerError, match="kind"), transaction.atomic():
        ledger.append("gossip", "noted", {})


@pytest.fixture
def triggers() -> None:
    migration = importlib.import_module("consent.migrations.0003_ledger")
    migration.install(connection)
    migration.install(connection)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE consent_ledgerentry SET type = 'x'",
        "UPDATE consent_ledgerentry SET seq = NULL, leaf = NULL, leaf_hash = NULL, chain = NULL",
        "UPDATE consent_ledgerentry SET seq = seq + 100",
        "UPDATE consent_ledgerentry SET seq = 7, leaf = chain, leaf_hash = chain WHERE seq = 1",
        "DELETE FROM consent_ledgerentry",
        "UPDATE consent_ledgercheckpoint SET note = 'x'",
        "DELETE FROM consent_ledgercheckpoint",
        "UPDATE consent_ledgertile SET root = hashes",
        "DELETE FROM consent_ledgertile",
        "UPDATE consent_auditrecord SET action = 'x'",
        "DELETE FROM consent_auditrecord",
    ],
)
def test_the_database_refuses_every_change_of_the_log(triggers: None, statement: str) -> None:
    _fill(256)
    ledger.audit("usr_1", "viewed", "", "")
    ledger.sequence()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


def test_an_entry_that_waits_may_get_its_place_and_nothing_else(triggers: None) -> None:
    _fill(2)
    for column in ("type = 'x'", "ref = 'x'", "key_id = 'x'", "seq = NULL, at = '2020-01-01'"):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"UPDATE consent_ledgerentry SET {column}")
    assert ledger.sequence() == 2


def test_the_sequencer_signs_no_fork() -> None:
    _fill(3)
    ledger.sequence()
    importlib.import_module("consent.migrations.0003_ledger").remove(connection)
    LedgerEntry.objects.filter(seq=1).update(leaf_hash=bytes(32))
    _fill(1)
    with pytest.raises(ledger.LedgerError) as caught:
        ledger.sequence()
    assert caught.value.code == "ledger_fork"
    assert LedgerCheckpoint.objects.count() == 1


def test_the_sequencer_signs_nothing_after_another_ones_checkpoint() -> None:
    _fill(3)
    ledger.sequence()
    importlib.import_module("consent.migrations.0003_ledger").remove(connection)
    last = LedgerCheckpoint.objects.get()
    foreign = notes.Signer(signers.signer().name, bytes(32)).sign(
        notes.Checkpoint(signers.signer().name, 3, last.root).text
    )
    LedgerCheckpoint.objects.update(note=foreign)
    _fill(1)
    with pytest.raises(ledger.LedgerError) as caught:
        ledger.sequence()
    assert caught.value.code == "ledger_fork"


def test_the_signer_remembers_what_it_signed_when_the_database_was_cut_off() -> None:
    _fill(3)
    ledger.sequence()
    signers.remember(ledger.checkpoint())  # what follows the commit
    importlib.import_module("consent.migrations.0003_ledger").remove(connection)
    LedgerCheckpoint.objects.all().delete()
    LedgerEntry.objects.filter(seq__gte=1).delete()
    with pytest.raises(ledger.LedgerError) as caught:
        ledger.sequence()
    assert caught.value.code == "ledger_rolled_back"
    _fill(3)
    with pytest.raises(ledger.LedgerError) as caught:
        ledger.sequence()
    assert caught.value.code == "ledger_fork"


def test_a_rotated_key_leaves_what_it_signed_verifiable() -> None:
    _fill(1)
    ledger.sequence()
    first, old = ledger.checkpoint(), ledger.public_key()
    signers.rotate()
    _fill(1)
    ledger.sequence()
    assert ledger.public_key() != old
    for note in (first, ledger.checkpoint()):
        notes.open_checkpoint(note, signers.verifiers())
    with pytest.raises(ledger.LedgerError):
        notes.open_checkpoint(ledger.checkpoint(), [notes.Verifier.parse(old)])


def test_the_private_key_is_its_owners_alone(settings) -> None:
    signers.signer()
    path = next(iter(sorted(signers._folder().glob("*.key"), reverse=True)))
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    try:
        with pytest.raises(ledger.LedgerError) as caught:
            signers.signer()
        assert caught.value.code == "ledger_key_unusable"
        _fill(1)
        with pytest.raises(ledger.LedgerError):
            ledger.sequence()
        assert sequencer.tree_size() == 1  # the place is given, the checkpoint waits
    finally:
        path.chmod(0o600)
    ledger.sequence()
    assert LedgerCheckpoint.objects.count() == 1
