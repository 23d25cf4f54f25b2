"""One worker at a time is responsible for a row: claim, heart-beat, release, and what happens when it dies.

The row is the truth and the broker only a hint (DESIGN.md decision 1). Every step is one conditional UPDATE, so it
holds on SQLite and on PostgreSQL alike and two workers can never both win.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models import F, Q
from django.utils import timezone

if TYPE_CHECKING:
    from consent.models import Challenge
    from webapp.jobs.models import Asset, Job, Segment
    from webapp.screening.listed import ListedFace

    LeasedModel = type[Asset] | type[Job] | type[Challenge] | type[ListedFace] | type[Segment]

POLL_SECONDS = 1.0  # how soon a running worker learns that its row was taken from it


def new_owner() -> str:
    """A name for one run of one worker process; unique, so that no earlier run of the process can pass for it."""
    return f"{socket.gethostname()[:30]}:{os.getpid()}:{secrets.token_hex(6)}"


def claim(model: LeasedModel, pk: str, owner: str, from_states: Iterable[str], to_state: str) -> bool:
    """Move the row from one of `from_states` to `to_state` under a fresh lease; True if this owner won.

    A row that has reached the cap of starts without progress is not claimed (`reap` fails it).
    """
    now = timezone.now()
    won = model._default_manager.filter(
        Q(lease_owner="") | Q(lease_expires_at__lt=now),
        pk=pk,
        state__in=list(from_states),
        starts_without_progress__lt=settings.MAX_STARTS_WITHOUT_PROGRESS,
    ).update(
        state=to_state,
        lease_owner=owner,
        lease_expires_at=now + timedelta(seconds=settings.LEASE_SECONDS),
        starts=F("starts") + 1,
        starts_without_progress=F("starts_without_progress") + 1,
    )
    return bool(won)


def heartbeat(model: LeasedModel, pk: str, owner: str, states: Iterable[str]) -> bool:
    """Prolong the lease; False when the row is no longer this owner's to work on (withdrawn, canceled, reaped)."""
    return bool(
        model._default_manager.filter(pk=pk, lease_owner=owner, state__in=list(states)).update(
            lease_expires_at=timezone.now() + timedelta(seconds=settings.LEASE_SECONDS)
        )
    )


def held(model: LeasedModel, pk: str, owner: str, states: Iterable[str]) -> bool:
    """Is the row still this owner's? Reads only."""
    return model._default_manager.filter(pk=pk, lease_owner=owner, state__in=list(states)).exists()


def note_progress(model: LeasedModel, pk: str, owner: str) -> bool:
    """The run got further than any before it: its crashes are counted anew. False if the lease is gone."""
    return bool(model._default_manager.filter(pk=pk, lease_owner=owner).update(starts_without_progress=0))


@dataclass(frozen=True)
class Expired:
    """A row whose worker fell silent."""

    pk: str
    owner: str
    state: str


def expired(model: LeasedModel, states: Iterable[str], limit: int = 100) -> list[Expired]:
    """Rows in `states` whose lease has run out."""
    rows = model._default_manager.filter(
        state__in=list(states), lease_expires_at__lt=timezone.now(), lease_expires_at__isnull=False
    ).exclude(lease_owner="")
    fields = ("pk", "lease_owner", "state")
    found = rows.order_by("lease_expires_at").values_list(*fields)[:limit]
    return [Expired(str(pk), owner, state) for pk, owner, state in found]


def resend(model: LeasedModel, waiting: Q, send: Callable[[str], None], at_once: int) -> int:
    """`send` again, at most `at_once`, the rows that are `waiting` (by their state and `queued_at`); how many."""
    rows = model._default_manager.filter(waiting)
    count = 0
    for pk in rows.order_by("queued_at").values_list("pk", flat=True)[:at_once]:
        with transaction.atomic():
            if rows.filter(pk=pk).update(queued_at=timezone.now()):
                send(str(pk))
                count += 1
    return count


class Lease:
    """Keeps a claimed row alive from a thread of its own, and tells when the work must stop.

    As a context manager: the thread starts with the block and ends with it. `lost()` is cheap, for calling per frame.
    """

    def __init__(self, model: LeasedModel, pk: str, owner: str, states: Iterable[str]) -> None:
        self.model = model
        self.pk = pk
        self.owner = owner
        self.states = tuple(states)
        self._lost = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease-{pk}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(timeout=30)

    def lost(self) -> bool:
        """True from the moment the row was taken away, withdrawn or canceled."""
        return self._lost.is_set()

    def wait(self, seconds: float) -> None:
        """Let `seconds` pass while the row is kept; raises LeaseLostError as soon as it is taken away."""
        self._lost.wait(seconds)
        self.guard()

    def guard(self, action: Callable[[], None] | None = None) -> None:
        """Raise LeaseLostError if the row is gone, after asking the database itself; else run `action`."""
        if self.lost() or not held(self.model, self.pk, self.owner, self.states):
            self._lost.set()
            raise LeaseLostError(self.pk)
        if action is not None:
            action()

    def _beat(self) -> None:
        """Each second: is the row still ours? Each third of a lease: prolong it."""
        pause = min(POLL_SECONDS, settings.LEASE_SECONDS / 4)
        beats = max(1, int(settings.LEASE_SECONDS / 3 / pause))
        valid_until = timezone.now() + timedelta(seconds=settings.LEASE_SECONDS)
        count = 0
        try:
            while not self._done.wait(pause):
                count += 1
                try:
                    if count % beats == 0:
                        ours = heartbeat(self.model, self.pk, self.owner, self.states)
                        if ours:
                            valid_until = timezone.now() + timedelta(seconds=settings.LEASE_SECONDS)
                    else:
                        ours = held(self.model, self.pk, self.owner, self.states)
                except DatabaseError:
                    # A database that is away for a moment does not end the work; one that stays away past the lease
                    # does, because another worker may by then have been given the row.
                    connection.close()
                    ours = timezone.now() < valid_until
                if not ours:
                    self._lost.set()
                    return
        finally:
            connection.close()


class LeaseLostError(Exception):
    """The row is no longer this worker's: withdrawn, canceled, or given to another after a silence."""

    code = "lease_lost"
