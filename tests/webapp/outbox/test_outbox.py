"""The outbox: with its transaction or not at all, at least once, and never a reason to fail."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import transaction
from django.utils import timezone

from webapp.outbox import services
from webapp.outbox.models import OutboxMessage

pytestmark = pytest.mark.django_db


@pytest.fixture
def received() -> Iterator[list[dict[str, Any]]]:
    """What the topic `letter` delivered."""
    found: list[dict[str, Any]] = []
    services.register("letter", found.append)
    yield found
    services._handlers.pop("letter")


def later(seconds: float) -> None:
    """As if that much time had passed."""
    for message in OutboxMessage.objects.all():
        OutboxMessage.objects.filter(pk=message.pk).update(not_before=message.not_before - timedelta(seconds=seconds))


def test_a_message_leaves_once_and_its_payload_is_forgotten(received: list[dict[str, Any]]) -> None:
    services.enqueue("letter", {"to": "ada"})
    assert services.relay() == 1
    assert services.relay() == 0
    assert received == [{"to": "ada"}]
    message = OutboxMessage.objects.get()
    assert message.payload == {}
    assert message.sent_at is not None


def test_a_message_of_a_transaction_that_fails_never_leaves(received: list[dict[str, Any]]) -> None:
    with transaction.atomic():
        services.enqueue("letter", {"to": "ada"})
        transaction.set_rollback(True)
    assert services.relay() == 0
    assert received == []


@pytest.mark.usefixtures("committed")
def test_outside_a_transaction_nothing_can_be_promised_so_it_is_refused() -> None:
    with pytest.raises(services.OutboxError):
        services.enqueue("letter", {})


def test_a_delayed_message_waits(received: list[dict[str, Any]]) -> None:
    services.enqueue("letter", {"n": 1}, delay=60)
    assert services.relay() == 0
    later(61)
    assert services.relay() == 1


def test_a_failing_delivery_is_tried_again_later_and_later_and_others_go_on(received: list[dict[str, Any]]) -> None:
    tries: list[int] = []

    def refuse(payload: dict[str, Any]) -> None:
        tries.append(1)
        raise ConnectionRefusedError(111, "Connection refused")

    services.register("broken", refuse)
    services.enqueue("broken", {})
    services.enqueue("letter", {"n": 1})
    assert services.relay() == 1
    message = OutboxMessage.objects.get(topic="broken")
    assert message.last_error == "ConnectionRefusedError: Connection refused"
    waits = []
    for _ in range(10):
        message.refresh_from_db()
        waits.append((message.not_before - timezone.now()).total_seconds())
        assert services.relay() == 0
        later(1000)
        services.relay()
    assert waits[0] < waits[1] < waits[2]
    assert max(waits) <= services.LONGEST_PAUSE
    services.register("broken", lambda payload: None)
    later(1000)
    assert services.relay() == 1


def test_an_error_text_that_may_quote_an_address_is_not_kept() -> None:
    def refuse(payload: dict[str, Any]) -> None:
        raise ValueError("ada@example.org was refused")

    services.register("broken", refuse)
    services.enqueue("broken", {})
    services.relay()
    assert OutboxMessage.objects.get().last_error == "ValueError"


def test_a_topic_nobody_delivers_waits_for_its_handler() -> None:
    services.enqueue("later-version", {"n": 1})
    assert services.relay() == 0
    found: list[Any] = []
    services.register("later-version", found.append)
    later(10)
    assert services.relay() == 1
    assert found == [{"n": 1}]


def test_a_message_another_relay_has_taken_is_left_to_it(received: list[dict[str, Any]]) -> None:
    message = services.enqueue("letter", {"n": 1})
    stale = OutboxMessage.objects.get(pk=message.pk)
    assert services._deliver(message)
    assert not services._deliver(stale)
    assert len(received) == 1


def test_a_relay_killed_while_delivering_costs_a_second_delivery_not_the_message(
    received: list[dict[str, Any]],
) -> None:
    services.enqueue("letter", {"n": 1})

    def killed(payload: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    handler = services._handlers["letter"]
    services.register("letter", killed)
    with pytest.raises(KeyboardInterrupt):
        services.relay()
    services.register("letter", handler)
    assert services.relay() == 0  # for a while it might still be on its way
    later(services.DELIVERY_LEASE.total_seconds() + 1)
    assert services.relay() == 1
    assert len(received) == 1


def test_a_mail_is_sent_with_a_subject_on_one_line() -> None:
    services.enqueue("mail", {"to": "ada@example.org", "subject": "Your\nlink", "body": "Hello"})
    assert services.relay() == 1
    assert (mail.outbox[0].subject, mail.outbox[0].to) == ("Your link", ["ada@example.org"])


@pytest.mark.usefixtures("committed")
def test_a_task_reaches_the_spool_right_after_the_commit(settings: Any) -> None:
    folder = settings.SPOOL_DIR / "ctl"
    before = len(list(folder.glob("*.msg"))) if folder.exists() else 0
    with transaction.atomic():
        services.enqueue("task", {"name": "worker.tick", "args": [], "queue": "ctl"})
        assert (len(list(folder.glob("*.msg"))) if folder.exists() else 0) == before
    assert len(list(folder.glob("*.msg"))) == before + 1
    assert OutboxMessage.objects.get().sent_at is not None


def test_old_delivered_rows_are_forgotten_and_undelivered_ones_never(received: list[dict[str, Any]]) -> None:
    services.enqueue("letter", {"n": 1})
    services.relay()
    services.enqueue("letter", {"n": 2}, delay=3600)
    OutboxMessage.objects.filter(sent_at__isnull=False).update(sent_at=timezone.now() - timedelta(days=8))
    assert services.forget_sent() == 1
    assert OutboxMessage.objects.count() == 1
