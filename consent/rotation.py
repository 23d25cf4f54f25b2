"""A new master key for the house: every data key is wrapped anew, no data is touched, and no derived key changes.

It may be stopped or killed at any row: each row is wrapped by one master or by the other, both stay readable, and the
next run goes on with what is left. Other processes go on working meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.db import connections
from django.db.models import Count, QuerySet

from consent import keys, masters
from consent.key_errors import KeyStoreError
from consent.models import DataKey

Progress = Callable[[int, int], None]

BATCH = 200


@dataclass(frozen=True)
class Wrapped:
    """The living keys under one master key, by its fingerprint; can they be opened here?"""

    master: str
    count: int
    in_use: bool
    readable: bool


@dataclass(frozen=True)
class Status:
    """Where the master key is, and what lies under it and under earlier ones."""

    uri: str
    master: str
    wrapped: tuple[Wrapped, ...]

    @property
    def waiting(self) -> int:
        """Keys that a `rewrap` would wrap anew."""
        return sum(each.count for each in self.wrapped if not each.in_use)

    @property
    def lost(self) -> int:
        """Keys whose master key is at hand nowhere."""
        return sum(each.count for each in self.wrapped if not each.readable)


def status() -> Status:
    """Which master key wraps how many living data keys. Raises KeyStoreError where the one in use cannot be read."""
    master = masters.current()
    mine = masters.fingerprint(master)
    rows = _living().values("master").annotate(count=Count("pk")).order_by("master")
    return Status(
        masters.uri(),
        mine,
        tuple(
            Wrapped(row["master"], row["count"], row["master"] == mine, _readable(row["master"], master))
            for row in rows
        ),
    )


def rotate(progress: Progress = lambda done, of: None) -> tuple[str, int]:
    """Draw a new master key in the place of the one in use and wrap everything by it: (its fingerprint, how many keys).

    Nothing is drawn before every key there is can be opened. Raises KeyStoreError.
    """
    keys.subkey("check")  # the root is there, under the old master key, before that is put aside
    before = status()
    if before.lost:
        raise _lost(before)
    new = masters.provider().renew()
    return masters.fingerprint(new), rewrap(progress)


def rewrap(progress: Progress = lambda done, of: None) -> int:
    """Wrap by the master key in use whatever lies under an earlier one; how many. Begun again, it does what is left.

    Raises KeyStoreError, before the first row, if the master key of some of them is nowhere at hand.
    """
    keys.subkey("check")
    found = status()
    if found.lost:
        raise _lost(found)
    master = masters.current()
    mine = masters.fingerprint(master)
    done, of, last = 0, found.waiting, ""
    while True:
        batch = list(_living().exclude(master=mine).filter(pk__gt=last).order_by("pk")[:BATCH])
        if not batch:
            break
        for record in batch:
            done += keys.rewrap_key(record, master)
            progress(done, max(of, done))
        last = batch[-1].pk
    _overwrite()
    return done


def _living() -> QuerySet[DataKey]:
    return DataKey.objects.filter(destroyed_at__isnull=True)


def _readable(wanted: str, master: bytes) -> bool:
    try:
        masters.by_fingerprint(wanted, master)
    except KeyStoreError:
        return False
    return True


def _lost(found: Status) -> KeyStoreError:
    names = ", ".join(each.master for each in found.wrapped if not each.readable)
    return KeyStoreError(
        f"{found.lost} keys lie under the master key {names}, which is nowhere at hand. Nothing was changed. Bring it "
        "back beside the one in use, or name its place in MASTER_KEY_PREVIOUS."
    )


def _overwrite() -> None:
    """The write-ahead log still holds the keys as they were wrapped before; SQLite overwrites what it frees."""
    connection = connections[keys.ALIAS]
    if connection.vendor == "sqlite" and not connection.in_atomic_block:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
