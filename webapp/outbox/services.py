"""Write a message with the state change it speaks of, and deliver it afterwards, at least once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import Any

from django.db import DatabaseError, connection, connections, transaction
from django.db.models import Q
from django.utils import timezone

from webapp.outbox.models import OutboxMessage

logger = logging.getLogger(__name__)

Handler = Callable[[dict[str, Any]], None]

DELIVERY_LEASE = timedelta(seconds=30)  # while one relay delivers, no other takes the message
LONGEST_PAUSE = 300.0  # seconds between two attempts, after about nine failures
SLOW_AT_ONCE = 4  # messages on their way to somebody else's server
KEEP_SENT = timedelta(days=7)
PAUSE_AFTER_FAILURE = 5.0  # seconds in which a commit does not try a broker that has just failed

_handlers: dict[str, Handler] = {}
_slow: set[str] = set()
_aside = threading.Lock()
_immediate: dict[str, float] = {"paused_until": 0.0}


class OutboxError(Exception):
    """A message that could never be delivered, found before it is written."""

    code = "outbox_misuse"


def register(topic: str, handler: Handler, *, slow: bool = False) -> None:
    """`handler(payload)` delivers messages of `topic`; it raises when it could not, and may be called twice.

    `slow`: it waits for somebody else's server, so `relay` leaves it to `relay_aside`.
    """
    _handlers[topic] = handler
    if slow:
        _slow.add(topic)


def enqueue(topic: str, payload: dict[str, Any], *, delay: float = 0) -> OutboxMessage:
    """Write one message inside the caller's transaction; it leaves only if that transaction commits.

    `delay` is in seconds. A task is handed to the broker right after the commit, anything else (and whatever failed
    there) by the next relay. Raises OutboxError outside a transaction, where the promise could not be kept.
    """
    if not connection.in_atomic_block:
        raise OutboxError("An outbox message is written in the transaction of its state change. Wrap the two in one.")
    message = OutboxMessage.objects.create(
        topic=topic, payload=payload, not_before=timezone.now() + timedelta(seconds=delay)
    )
    if topic == "task" and delay <= 0:
        transaction.on_commit(partial(_deliver_now, message.pk), robust=True)
    return message


def relay(limit: int = 100, *, topics: Sequence[str] | None = None) -> int:
    """Deliver what is due, oldest first; returns how many messages left. Never raises.

    Each message is taken by a compare-and-set on its due time, so any number of relays on any database may run at
    once, and one killed in the middle costs a second delivery after DELIVERY_LEASE, never the message.
    """
    try:
        due = OutboxMessage.objects.filter(sent_at__isnull=True, not_before__lte=timezone.now())
        due = due.exclude(topic__in=_slow) if topics is None else due.filter(topic__in=topics)
        return sum(_deliver(message) for message in due.order_by("not_before", "pk")[:limit])
    except DatabaseError:
        logger.exception("The outbox could not be read; its messages stay and the next relay takes them.")
        return 0


def relay_aside() -> bool:
    """Deliver what is due of the slow topics in threads of their own, so that nothing else waits for them.

    At most one such round runs in a process. False if there is nothing to do, or one runs already.
    """
    try:
        due = OutboxMessage.objects.filter(sent_at__isnull=True, not_before__lte=timezone.now(), topic__in=_slow)
        if not due.exists() or not _aside.acquire(blocking=False):
            return False
    except DatabaseError:
        return False
    threading.Thread(target=_round_aside, name="outbox-aside", daemon=True).start()
    return True


def _round_aside() -> None:
    try:
        threads = [threading.Thread(target=_deliver_aside, daemon=True) for _ in range(SLOW_AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        _aside.release()


def _deliver_aside() -> None:
    """One message after the other, each taken as by any relay: several at once do no harm."""
    try:
        relay(topics=sorted(_slow))
    finally:
        connections.close_all()


def forget_sent() -> int:
    """Delete the rows of messages delivered more than a week ago; returns how many."""
    deleted, _ = OutboxMessage.objects.filter(sent_at__lt=timezone.now() - KEEP_SENT).delete()
    return deleted


def _deliver_now(pk: int) -> None:
    """After the commit: spare the usual case the wait for the next relay."""
    if monotonic() < _immediate["paused_until"]:
        return
    message = OutboxMessage.objects.filter(pk=pk, sent_at__isnull=True).first()
    if message is not None and not _deliver(message):
        _immediate["paused_until"] = monotonic() + PAUSE_AFTER_FAILURE


def _deliver(message: OutboxMessage) -> bool:
    """Take and deliver one message; False if another relay has it, or if it failed and waits for its next try."""
    now = timezone.now()
    taken = OutboxMessage.objects.filter(
        Q(pk=message.pk), sent_at__isnull=True, not_before=message.not_before, attempts=message.attempts
    ).update(not_before=now + DELIVERY_LEASE, attempts=message.attempts + 1)
    if not taken:
        return False
    try:
        handler = _handlers.get(message.topic)
        if handler is None:
            raise OutboxError(f"no handler for {message.topic}")
        handler(message.payload)
    except Exception as error:
        pause = min(2.0**message.attempts, LONGEST_PAUSE)
        OutboxMessage.objects.filter(pk=message.pk).update(
            not_before=timezone.now() + timedelta(seconds=pause), last_error=_describe(error)
        )
        logger.warning("Outbox message %s (%s) was not delivered: %s", message.pk, message.topic, _describe(error))
        return False
    # The payload may hold an address or a link with a token: once delivered, nobody needs it here.
    OutboxMessage.objects.filter(pk=message.pk).update(sent_at=timezone.now(), payload={}, last_error="")
    return True


def _describe(error: BaseException) -> str:
    """The kind of the error. Its text may quote an address, so only an operating system's own words are kept."""
    reason = error.strerror if isinstance(error, OSError) else str(error) if isinstance(error, OutboxError) else ""
    return f"{type(error).__name__}: {reason}"[:300] if reason else type(error).__name__
