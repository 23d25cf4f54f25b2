"""Entries get their places in batches, and the tree its signed heads; whoever does it holds one row's lock.

Crash safe at every point: a batch is one transaction, a checkpoint is another, and each begins with what the database
says. Two at once are harmless: the second waits, and finds nothing left to do.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from django.db import connection, transaction
from django.utils import timezone

from consent.ledger import house, tree
from consent.ledger.canonical import CHAIN_START, leaf_of, link
from consent.ledger.entries import iso
from consent.ledger.errors import LedgerError
from consent.ledger.models import LedgerCheckpoint, LedgerEntry, LedgerLock
from consent.ledger.notes import Checkpoint, open_checkpoint
from consent.ledger.store import StoredTree, complete_tiles

logger = logging.getLogger(__name__)

BATCH = 1000  # leaves under one checkpoint at most


def sequence(limit: int = BATCH) -> int:
    """Give waiting entries their places, and sign a checkpoint if any leaf has none yet; returns how many were placed.

    Run at any time, by anybody. Raises LedgerError ledger_key_unusable, ledger_fork, ledger_rolled_back: then the
    places are given, and the checkpoint waits.
    """
    with _durably():
        done = _assign(min(limit, BATCH)) if LedgerEntry.objects.filter(seq__isnull=True).exists() else 0
        sign_checkpoint()
    return done


def sign_checkpoint() -> LedgerCheckpoint | None:
    """Sign the tree as it is, unless its last checkpoint covers it; None for an empty tree.

    What is signed continues the last checkpoint here and the last one this signer remembers: it never signs a fork.
    Raises LedgerError ledger_key_unusable, ledger_fork, ledger_rolled_back.
    """
    last = LedgerCheckpoint.objects.order_by("-size").first()
    size = tree_size()
    if size == 0 or (last is not None and last.size == size):
        _check_remembered(size)
        return last
    with transaction.atomic(), _held():
        last = LedgerCheckpoint.objects.order_by("-size").first()
        size = tree_size()
        if last is not None and last.size == size:
            return last
        signer = house.signer()
        try:
            stored = StoredTree()
            head = Checkpoint(signer.name, size, tree.root(size, stored.node))
            for before in _signed_before(last):
                _check_continues(before, head, stored)
        except LookupError as error:
            raise _fork(f"{error}") from error
        made = LedgerCheckpoint.objects.create(
            size=size, root=head.root, note=signer.sign(head.text), at=timezone.now()
        )
        # After the commit: a note that is remembered but not stored would accuse an honest house.
        transaction.on_commit(partial(_remember, size, made.note))
    return made


def tree_size() -> int:
    """How many leaves there are."""
    newest = LedgerEntry.objects.filter(seq__isnull=False).order_by("-seq").values_list("seq", flat=True).first()
    return 0 if newest is None else newest + 1


def _assign(limit: int) -> int:
    with transaction.atomic(), _held():
        waiting = list(
            LedgerEntry.objects.filter(seq__isnull=True)
            .order_by("id")
            .only("id", "kind", "type", "at", "ref_commit", "payload_commit", "row_commit")[:limit]
        )
        if not waiting:
            return 0
        seq, chain = tree_size(), CHAIN_START
        for newest in LedgerEntry.objects.filter(seq=seq - 1).values_list("chain", flat=True):
            chain = bytes(newest or b"")
        rows = []
        for entry in waiting:
            leaf = leaf_of(
                seq=seq,
                time=iso(entry.at),
                kind=entry.kind,
                type=entry.type,
                ref_commit=bytes(entry.ref_commit),
                payload_commit=bytes(entry.payload_commit),
                row_commit=bytes(entry.row_commit),
            )
            chain = link(chain, leaf)
            rows.append((seq, leaf, tree.leaf_hash(leaf), chain, entry.pk))
            seq += 1
        with connection.cursor() as cursor:
            table = connection.ops.quote_name(LedgerEntry._meta.db_table)
            cursor.executemany(
                f"UPDATE {table} SET seq = %s, leaf = %s, leaf_hash = %s, chain = %s "  # noqa: S608
                "WHERE id = %s AND seq IS NULL",
                rows,
            )
        complete_tiles(seq, len(rows))
    return len(rows)


@contextmanager
def _held() -> Iterator[None]:
    """Hold the ledger's row until the end of the transaction (on SQLite the transaction itself is the lock)."""
    LedgerLock.objects.get_or_create(pk=1)
    list(LedgerLock.objects.select_for_update().filter(pk=1))
    yield


@contextmanager
def _durably() -> Iterator[None]:
    """A signed head must never outlive its leaves: on SQLite, what is committed here has reached the disk."""
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous=FULL")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA synchronous=NORMAL")  # as settings.database has it


def _signed_before(last: LedgerCheckpoint | None) -> list[Checkpoint]:
    """The heads that the next one must continue; each must carry a signature of ours."""
    verifiers = house.verifiers()
    notes = [last.note] if last is not None else []
    if remembered := house.remembered():
        notes.append(remembered)
    try:
        return [open_checkpoint(note, verifiers) for note in notes]
    except LedgerError as error:
        raise _fork("the last checkpoint does not carry this log's signature") from error


def _check_continues(before: Checkpoint, head: Checkpoint, stored: StoredTree) -> None:
    if before.size > head.size:
        raise _rolled_back(before.size, head.size)
    path = tree.consistency(before.size, head.size, stored.node)
    if before.origin != head.origin or not tree.verify_consistency(
        before.size, head.size, before.root, head.root, path
    ):
        raise _fork(f"the tree of {head.size} leaves does not continue the signed one of {before.size}")


def _check_remembered(size: int) -> None:
    """Is the database as far as what was signed? Asked also while there is nothing to sign."""
    note = house.remembered()
    if note and (before := open_checkpoint(note, house.verifiers())).size > size:
        raise _rolled_back(before.size, size)


def _remember(size: int, note: str) -> None:
    known = house.remembered()
    if not known or open_checkpoint(known, house.verifiers()).size < size:
        house.remember(note)


def _rolled_back(signed: int, size: int) -> LedgerError:
    return LedgerError(
        "ledger_rolled_back",
        f"This log has signed {signed} leaves, the database holds {size}: its end was cut off, or an older backup was "
        "restored. Nothing was signed. Restore the newer database; `manage.py ledger verify` says what is missing.",
    )


def _fork(why: str) -> LedgerError:
    return LedgerError(
        "ledger_fork",
        f"The log would contradict what it has signed ({why}), so nothing was signed and entries wait. "
        "Somebody changed the database: run `manage.py ledger verify`.",
    )
