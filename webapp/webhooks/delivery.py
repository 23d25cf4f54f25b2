"""Telling an endpoint: one POST, signed, to a public address, and again later if it was not taken."""

from __future__ import annotations

import json
import logging
import secrets
import time
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from consent.keys import KeyStoreError, TamperedError
from webapp import net
from webapp.outbox import services as outbox
from webapp.webhooks import signing
from webapp.webhooks.models import WebhookDelivery, WebhookEndpoint, WebhookEvent

logger = logging.getLogger(__name__)

TOPIC: Final = "webhook"
# Seconds after each try that failed; with the first, ten tries within about 75 hours.
PAUSES: Final = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
JITTER: Final = 0.1  # share of a pause, up or down, so that many failures do not come back at once
SECONDS: Final = 15.0  # for one try, from the look-up of the name to the last byte of the answer
ANSWER_BYTES: Final = 64 << 10
KEEP: Final = timedelta(days=30)
GONE: Final = 410

State = WebhookDelivery.State


def policy() -> net.Policy:
    """https, public addresses, no redirects."""
    return net.Policy(
        max_bytes=ANSWER_BYTES,
        ports=frozenset(settings.WEBHOOK_PORTS),
        max_redirects=0,
        step_seconds=SECONDS,
        total_seconds=SECONDS,
    )


def deliver(payload: dict[str, Any]) -> None:
    """The outbox's handler: one try. What fails is tried again by a message of its own, never by the outbox's clock."""
    delivery = WebhookDelivery.objects.select_related("endpoint", "event").filter(pk=payload["delivery"]).first()
    # A second message about the same try (the first one's relay was killed) finds it made already.
    if delivery is None or delivery.state != State.PENDING or len(delivery.tries) != payload["try"]:
        return
    endpoint = delivery.endpoint
    if endpoint.disabled_at is not None:
        _end(delivery, State.FAILED, {"at": _now(), "status": None, "error": "endpoint_disabled", "milliseconds": 0})
        return
    began = time.monotonic()
    status, error = _post(endpoint, delivery.event)
    entry = {
        "at": _now(),
        "status": status,
        "error": error,
        "milliseconds": round((time.monotonic() - began) * 1000),
    }
    if status is not None and 200 <= status < 300:
        _end(delivery, State.DELIVERED, entry)
        return
    logger.warning("Webhook %s was not taken: %s", delivery.pk, error or status)
    if status == GONE:
        WebhookEndpoint.objects.filter(pk=endpoint.pk, disabled_at__isnull=True).update(
            disabled_at=timezone.now(), disabled_reason="answered_410"
        )
        _end(delivery, State.FAILED, entry)
        return
    made = len(delivery.tries)
    if made >= len(PAUSES):
        _end(delivery, State.FAILED, entry)
        return
    pause = _jittered(PAUSES[made])
    with transaction.atomic():
        if _note(delivery, State.PENDING, entry, next_at=timezone.now() + timedelta(seconds=pause)):
            outbox.enqueue(TOPIC, {"delivery": delivery.pk, "try": made + 1}, delay=pause)


def body_of(event: WebhookEvent) -> bytes:
    """The payload: thin, so that whoever wants to know more asks the API, with the state as it is then."""
    payload = {"type": event.type, "timestamp": event.created_at.isoformat(), "data": event.data}
    return json.dumps(payload, separators=(",", ":")).encode()


def forget_old() -> int:
    """Delete events, with their deliveries, that are older than KEEP; returns how many rows."""
    deleted, _ = WebhookEvent.objects.filter(created_at__lt=timezone.now() - KEEP).delete()
    return deleted


def _post(endpoint: WebhookEndpoint, event: WebhookEvent) -> tuple[int | None, str]:
    """(status, stable code of what went wrong): no status without an answer."""
    body, timestamp = body_of(event), int(time.time())
    try:
        shared = [endpoint.unseal("secret")]
        if endpoint.previous_until is not None and endpoint.previous_until > timezone.now():
            shared.append(endpoint.unseal("previous_secret"))
        signature = signing.sign(event.pk, timestamp, body, shared=shared, seed=endpoint.unseal("signing_key"))
    except (KeyStoreError, TamperedError):
        return None, "secret_unreadable"
    headers = {
        "Content-Type": "application/json",
        "webhook-id": event.pk,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature,
    }
    try:
        return net.post(endpoint.url, body, headers, policy()), ""
    except net.FetchError as error:
        return None, error.code
    except OSError:
        return None, "url_unreachable"


def _jittered(pause: float) -> float:
    return pause * (1 + JITTER * (secrets.randbelow(2001) - 1000) / 1000)


def _now() -> str:
    return timezone.now().isoformat()


def _end(delivery: WebhookDelivery, state: str, entry: dict[str, Any]) -> None:
    done = {"delivered_at": timezone.now()} if state == State.DELIVERED else {}
    _note(delivery, state, entry, next_at=None, **done)


def _note(delivery: WebhookDelivery, state: str, entry: dict[str, Any], **changes: Any) -> bool:
    """Write a try, unless the delivery changed in the meantime (sent again by hand, another relay)."""
    return bool(
        WebhookDelivery.objects.filter(pk=delivery.pk, state=State.PENDING, tries=delivery.tries).update(
            state=state, tries=[*delivery.tries, entry], **changes
        )
    )
