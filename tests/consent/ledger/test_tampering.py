"""Somebody with the database, and neither the key store nor the log's key, edits it: it is always found.

Each case makes the same history, takes the triggers away as an attacker would, and does one thing to one row that the
case's seed chooses. Where a cleverer attacker would repair what depends on it (hashes, chain), the case does that too.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from consent.ledger import tree, verifying
from consent.ledger.checking import Report
from consent.ledger.models import AuditRecord, LedgerCheckpoint, LedgerEntry, LedgerTile
from consent.models import Attestation, Consent, Event, Subject, Use

pytestmark = pytest.mark.django_db

SHORT, LONG = 3, 200

Edit = Callable[[random.Random], None]


def _pick(model: Any, rng: random.Random, **filters: Any) -> Any:
    return rng.choice(list(model.objects.filter(**filters).order_by("pk")))


def _flip(data: Any, rng: random.Random) -> bytes:
    changed = bytearray(bytes(data))
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _set(row: Any, **values: Any) -> None:
    type(row).objects.filter(pk=row.pk).update(**values)


def _erase(row: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {row._meta.db_table} WHERE {row._meta.pk.column} = %s", [row.pk])


def _repair(first: int = 0) -> None:
    """Numbers, hashes, chain and tiles made to fit the leaves again, by somebody who knows how they are made."""
    rows = list(LedgerEntry.objects.filter(seq__isnull=False).order_by("seq"))
    LedgerEntry.objects.filter(seq__isnull=False).update(seq=None, leaf=None, leaf_hash=None, chain=None)
    chain = bytes(32)
    for seq, row in enumerate(rows):
        leaf = json.loads(bytes(row.leaf))
        leaf |= {
            "seq": seq,
            "type": row.type,
            "kind": row.kind,
            "payload_commit": bytes(row.payload_commit).hex(),
            "ref_commit": bytes(row.ref_commit).hex(),
            "row_commit": bytes(row.row_commit).hex(),
        }
        data = json.dumps(leaf, sort_keys=True, separators=(",", ":")).encode()
        chain = hashlib.sha256(chain + data).digest()
        _set(row, seq=seq, leaf=data, leaf_hash=tree.leaf_hash(data), chain=chain)


# --- the log itself -------------------------------------------------------------------------------------------------


def edit_leaf(rng: random.Random) -> None:
    entry = _pick(LedgerEntry, rng)
    _set(entry, leaf=_flip(entry.leaf, rng))


def edit_leaf_and_repair(rng: random.Random) -> None:
    entry = _pick(LedgerEntry, rng)
    _set(entry, type=rng.choice(["given", "withdrawn", "viewed", "nothing"]) + "x")
    _repair()


def edit_entry_column(rng: random.Random) -> None:
    entry = _pick(LedgerEntry, rng)
    column = rng.choice(["ref_commit", "payload_commit", "row_commit", "leaf_hash", "chain", "opening_sealed"])
    _set(entry, **{column: _flip(getattr(entry, column), rng)})


def edit_entry_text(rng: random.Random) -> None:
    entry = _pick(LedgerEntry, rng)
    column = rng.choice(["kind", "type", "ref", "source", "key_id"])
    _set(entry, **{column: getattr(entry, column)[:-1] + "~"})


def remove_entry(rng: random.Random) -> None:
    _erase(_pick(LedgerEntry, rng))


def remove_entry_and_repair(rng: random.Random) -> None:
    _erase(_pick(LedgerEntry, rng))
    _repair()


def remove_event_and_entry_and_repair(rng: random.Random) -> None:
    event = _pick(Event, rng)
    _erase(event.ledger_entry)
    _erase(event)
    _repair()


def reorder_entries(rng: random.Random) -> None:
    one, two = rng.sample(list(LedgerEntry.objects.all()), 2)
    _set(one, seq=None, leaf=None, leaf_hash=None, chain=None)
    _set(two, seq=one.seq, leaf=one.leaf, leaf_hash=one.leaf_hash, chain=one.chain)
    _set(one, seq=two.seq, leaf=two.leaf, leaf_hash=two.leaf_hash, chain=two.chain)


def reorder_entries_and_repair(rng: random.Random) -> None:
    one, two = rng.sample(list(LedgerEntry.objects.all()), 2)
    _set(one, seq=None, leaf=None, leaf_hash=None, chain=None)
    _set(two, seq=one.seq)
    _set(one, seq=two.seq, leaf=one.leaf, leaf_hash=one.leaf_hash, chain=one.chain)
    _repair()


def insert_entry(rng: random.Random) -> None:
    """A copy of an honest entry, put at the end as if it had just been sequenced."""
    entry = _pick(LedgerEntry, rng)
    entry.pk, entry.event_id, entry.source = None, None, ""
    last = LedgerEntry.objects.order_by("-seq").first()
    entry.seq = last.seq + 1
    entry.leaf = bytes(entry.leaf).replace(
        f'"seq":{json.loads(bytes(entry.leaf))["seq"]}'.encode(), b'"seq":%d' % entry.seq
    )
    entry.leaf_hash = tree.leaf_hash(entry.leaf)
    entry.chain = hashlib.sha256(bytes(last.chain) + entry.leaf).digest()
    entry.save(force_insert=True)


def insert_waiting_entry(rng: random.Random) -> None:
    entry = _pick(LedgerEntry, rng)
    entry.pk, entry.event_id, entry.source = None, None, ""
    entry.seq = entry.leaf = entry.leaf_hash = entry.chain = None
    entry.save(force_insert=True)


def truncate_tail(rng: random.Random) -> None:
    """The last entries, what they speak of, and every checkpoint over them: an older state, whole in itself."""
    size = LedgerEntry.objects.count()
    keep = rng.randrange(1, size)
    for entry in LedgerEntry.objects.filter(seq__gte=keep):
        event = entry.event
        _erase(entry)
        if event is not None:
            _erase(event)
        elif entry.source.startswith("audit:"):
            _erase(AuditRecord.objects.get(pk=entry.source[6:]))
        elif entry.source.startswith("attestation:"):
            _erase(Attestation.objects.get(pk=entry.source[12:]))
    LedgerCheckpoint.objects.filter(size__gt=keep).delete()
    for consent in Consent.objects.all():
        last = consent.events.last()
        if last is not None:
            _set(consent, state=last.state)


def edit_checkpoint(rng: random.Random) -> None:
    checkpoint = _pick(LedgerCheckpoint, rng)
    column = rng.choice(["note", "root", "size"])
    if column == "root":
        _set(checkpoint, root=_flip(checkpoint.root, rng))
    elif column == "size":
        _set(checkpoint, size=checkpoint.size + 1)
    else:
        at = rng.randrange(len(checkpoint.note) - 1)
        _set(checkpoint, note=checkpoint.note[:at] + "~" + checkpoint.note[at + 1 :])


def remove_newest_checkpoints_and_edit(rng: random.Random) -> None:
    LedgerCheckpoint.objects.all().delete()
    edit_leaf_and_repair(rng)


def edit_tile(rng: random.Random) -> None:
    kind = rng.choice(["insert", "insert_high"])
    LedgerTile.objects.create(
        level=0 if kind == "insert" else 1, number=rng.randrange(5), hashes=rng.randbytes(8192), root=rng.randbytes(32)
    )


# --- the rows that entries speak of ---------------------------------------------------------------------------------


def edit_event(rng: random.Random) -> None:
    event = _pick(Event, rng)
    column = rng.choice(["type", "state", "code", "data", "at", "consent"])
    if column == "data":
        _set(event, data={**event.data, "by": rng.randrange(1000)})
    elif column == "at":
        _set(event, at=event.at.replace(microsecond=(event.at.microsecond + 1) % 1_000_000))
    elif column == "consent":
        other = rng.choice(list(Consent.objects.exclude(pk=event.consent_id)))
        _set(event, consent=other)
    else:
        _set(event, **{column: getattr(event, column)[:8] + "~"})


def remove_event(rng: random.Random) -> None:
    _erase(_pick(Event, rng))


def reorder_events(rng: random.Random) -> None:
    one, two = rng.sample(list(Event.objects.all()), 2)
    columns = ("type", "state", "code", "data", "at", "consent_id")
    first = {name: getattr(one, name) for name in columns}
    _set(one, **{name: getattr(two, name) for name in columns})
    _set(two, **first)


def insert_event(rng: random.Random) -> None:
    event = _pick(Event, rng)
    event.pk = None
    event.save(force_insert=True)


def withdraw_silently(rng: random.Random) -> None:
    """What the fight is about: a withdrawal taken back, with its event."""
    consent = _pick(Consent, rng, state="withdrawn")
    _erase(consent.events.last())
    _set(consent, state="given", ended_at=None)


def edit_attestation(rng: random.Random) -> None:
    attestation = _pick(Attestation, rng)
    column = rng.choice(["kind", "basis", "target_sha256", "text_sha256", "made_by", "organisation_id"])
    _set(attestation, **{column: getattr(attestation, column)[:12] + "~"})


def remove_attestation(rng: random.Random) -> None:
    _erase(_pick(Attestation, rng))


def insert_attestation(rng: random.Random) -> None:
    attestation = _pick(Attestation, rng)
    attestation.pk = f"att_{rng.randrange(10**9)}"
    attestation.save(force_insert=True)


def edit_audit(rng: random.Random) -> None:
    record = _pick(AuditRecord, rng)
    column = rng.choice(["actor_id", "action", "subject_ref", "reason_sealed"])
    if column == "reason_sealed":
        if record.reason_sealed is None:
            _set(record, reason_sealed=b"x")
        else:
            _set(record, reason_sealed=rng.choice([None, _flip(record.reason_sealed, rng)]))
    else:
        _set(record, **{column: getattr(record, column)[:-1] + "~"})


def remove_audit(rng: random.Random) -> None:
    _erase(_pick(AuditRecord, rng))


def insert_audit(rng: random.Random) -> None:
    record = _pick(AuditRecord, rng)
    record.pk = f"aud_{rng.randrange(10**9)}"
    record.save(force_insert=True)


# --- the rows that events made what they are ------------------------------------------------------------------------


def edit_consent_state(rng: random.Random) -> None:
    consent = _pick(Consent, rng)
    _set(consent, state=rng.choice([state for state in Consent.State.values if state != consent.state]))


def edit_consent_scope(rng: random.Random) -> None:
    consent = _pick(Consent, rng, state="given")
    edits: list[dict[str, Any]] = [
        {"purposes": ["personal", "social", "advertising", "film"]},
        {"photos": [{"asset_id": "ast_x", "sha256": "d" * 64, "face": 0}]},
        {"targets": [{**consent.targets[0], "sha256": "e" * 64}]},
        {"targets": [{**consent.targets[0], "face": consent.targets[0]["face"] + 1}]},
        {"targets": []},
        {"partners": ["Anybody Ltd"]},
        {"territories": ["XX"]},
        {"max_total_seconds": 1e6},
        {"max_outputs": consent.max_outputs + rng.randrange(1, 90)},
        {"max_seconds": 3600.0},
        {"no_sexual": False},
        {"no_political": False},
        {"valid_until": consent.valid_until.replace(year=consent.valid_until.year + 1)},
        {"livemode": not consent.livemode},
        {"assurance": "L2"},
        {"organisation_id": "org_dan"},
        {"notice_sha256": "f" * 64},
        {"ticks": {**consent.ticks, "purpose_film": True}},
        {"typed_name_sealed": None},
        {"typed_name_sealed": _flip(consent.typed_name_sealed, rng)},
    ]
    _set(consent, **rng.choice(edits))


def edit_question_scope(rng: random.Random) -> None:
    consent = _pick(Consent, rng, state__in=["refused", "withdrawn"])
    _set(consent, **rng.choice([{"purposes": ["film"]}, {"max_outputs": 99}, {"role": "target_person"}]))


def remove_consent(rng: random.Random) -> None:
    consent = _pick(Consent, rng)
    consent.uses.all().delete()
    for event in consent.events.all():
        _erase(event)
    _erase(consent)


def insert_consent(rng: random.Random) -> None:
    consent = _pick(Consent, rng, state="given")
    consent.pk, consent.token_sha256 = f"cns_{rng.randrange(10**9)}", rng.randbytes(32).hex()
    consent.save(force_insert=True)


def edit_use(rng: random.Random) -> None:
    use = _pick(Use, rng)
    edits: list[dict[str, Any]] = [
        {"state": rng.choice([state for state in Use.State.values if state != use.state])},
        {"job_id": "job_other"},
        {"seconds": 5.0},
        {"consent": rng.choice(list(Consent.objects.exclude(pk=use.consent_id)))},
    ]
    _set(use, **rng.choice(edits))


def remove_use(rng: random.Random) -> None:
    _erase(_pick(Use, rng))


def insert_use(rng: random.Random) -> None:
    Use.objects.create(consent=_pick(Consent, rng), job_id=f"job_{rng.randrange(10**9)}", state="counted")


def edit_subject(rng: random.Random) -> None:
    subject = _pick(Subject, rng, contact_hmac__isnull=False)
    _set(subject, contact_hmac=rng.choice([None, rng.randbytes(32).hex()]))


EDITS: list[Edit] = [
    edit_leaf,
    edit_leaf_and_repair,
    edit_entry_column,
    edit_entry_text,
    remove_entry,
    remove_entry_and_repair,
    remove_event_and_entry_and_repair,
    reorder_entries,
    reorder_entries_and_repair,
    insert_entry,
    insert_waiting_entry,
    truncate_tail,
    edit_checkpoint,
    remove_newest_checkpoints_and_edit,
    edit_tile,
    edit_event,
    remove_event,
    reorder_events,
    insert_event,
    withdraw_silently,
    edit_attestation,
    remove_attestation,
    insert_attestation,
    edit_audit,
    remove_audit,
    insert_audit,
    edit_consent_state,
    edit_consent_scope,
    edit_question_scope,
    remove_consent,
    insert_consent,
    edit_use,
    remove_use,
    insert_use,
    edit_subject,
]


@pytest.fixture
def attacked(history: Callable[[], None]) -> Iterator[Callable[[Edit, int], Report]]:
    """Makes the history once; each edit is done to it, looked at and taken back."""
    history()
    for name in ("0002_append_only", "0003_ledger"):
        importlib.import_module(f"consent.migrations.{name}").remove(connection)
    assert verifying.verify().findings == []

    def attack(edit: Edit, seed: int) -> Report:
        with transaction.atomic():
            _without_foreign_keys()
            edit(random.Random(f"{edit.__name__} {seed}"))
            report = verifying.verify()
            transaction.set_rollback(True)
        return report

    yield attack
    assert verifying.verify().findings == []


def _without_foreign_keys() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL session_replication_role = replica")
        else:
            cursor.execute("PRAGMA defer_foreign_keys = ON")


def _all_found(attack: Callable[[Edit, int], Report], edit: Edit, cases: int) -> None:
    unseen = [seed for seed in range(cases) if attack(edit, seed).ok]
    assert not unseen, f"{edit.__name__} was not found with the seeds {unseen}"


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_every_kind_of_edit_is_found(attacked, edit: Edit) -> None:
    _all_found(attacked, edit, SHORT)


@pytest.mark.soak
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_two_hundred_edits_of_every_kind_are_found(attacked, edit: Edit) -> None:
    _all_found(attacked, edit, LONG)
