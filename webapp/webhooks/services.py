"""The verbs of webhook endpoints: made, changed, their secret renewed, tried out, and a delivery sent again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from consent import keys
from webapp import net
from webapp.accounts.models import Organisation
from webapp.jobs.errors import JobsError
from webapp.outbox import services as outbox
from webapp.webhooks import delivery, events, signing
from webapp.webhooks.models import WebhookDelivery, WebhookEndpoint, endpoint_id

MOST_ENDPOINTS = 10
ROTATION = timedelta(hours=24)  # in which the old secret signs as well
LONGEST_DESCRIPTION = 200
LONGEST_URL = 500

State = WebhookDelivery.State


def create_endpoint(
    organisation: Organisation, *, url: str, wanted: Sequence[str] = (), description: str = ""
) -> tuple[WebhookEndpoint, str]:
    """A new endpoint and its secret, which is shown this once. `wanted` are types of events, none for all.

    Raises JobsError: url_invalid, event_unknown, too_many_endpoints (409).
    """
    _check(url, wanted)
    secret = signing.new_secret()
    endpoint = WebhookEndpoint(
        id=endpoint_id(),
        organisation=organisation,
        url=url,
        events=list(dict.fromkeys(wanted)),
        description=" ".join(description.split())[:LONGEST_DESCRIPTION],
    )
    with transaction.atomic():
        Organisation.objects.select_for_update().get(pk=organisation.pk)
        if WebhookEndpoint.objects.filter(organisation=organisation).count() >= MOST_ENDPOINTS:
            raise JobsError(
                "too_many_endpoints",
                f"An organisation has at most {MOST_ENDPOINTS} endpoints; none was made. Delete one first.",
                status=409,
            )
        endpoint.key_id = keys.create_key(f"webhook:{endpoint.pk}")
        endpoint.secret_sealed = endpoint.seal("secret", secret)
        endpoint.signing_key_sealed = endpoint.seal("signing_key", signing.new_seed())
        endpoint.save(force_insert=True)
    return endpoint, secret


def change_endpoint(
    endpoint: WebhookEndpoint,
    *,
    url: str | None = None,
    wanted: Sequence[str] | None = None,
    description: str | None = None,
    enabled: bool | None = None,
) -> WebhookEndpoint:
    """Change what is given. Enabling one that was disabled begins anew; what failed meanwhile is sent again by hand."""
    _check(endpoint.url if url is None else url, endpoint.events if wanted is None else wanted)
    if url is not None:
        endpoint.url = url
    if wanted is not None:
        endpoint.events = list(dict.fromkeys(wanted))
    if description is not None:
        endpoint.description = " ".join(description.split())[:LONGEST_DESCRIPTION]
    if enabled is True:
        endpoint.disabled_at, endpoint.disabled_reason = None, ""
    elif enabled is False and endpoint.disabled_at is None:
        endpoint.disabled_at, endpoint.disabled_reason = timezone.now(), "by_account"
    endpoint.save()
    return endpoint


def rotate_secret(endpoint: WebhookEndpoint) -> str:
    """A new secret, shown this once; for ROTATION the old one signs as well, so that no message is lost."""
    secret = signing.new_secret()
    with transaction.atomic():
        locked = WebhookEndpoint.objects.select_for_update().get(pk=endpoint.pk)
        locked.previous_secret_sealed = locked.seal("previous_secret", locked.unseal("secret"))
        locked.previous_until = timezone.now() + ROTATION
        locked.secret_sealed = locked.seal("secret", secret)
        locked.save(update_fields=["previous_secret_sealed", "previous_until", "secret_sealed"])
    endpoint.refresh_from_db()
    return secret


def delete_endpoint(endpoint: WebhookEndpoint) -> None:
    """Nothing is told there any more; its log and its secrets are gone."""
    key_id = endpoint.key_id
    endpoint.delete()
    keys.destroy_key(key_id)


def send_test(endpoint: WebhookEndpoint) -> None:
    """Tell this endpoint that nothing happened, to see whether it listens. Raises JobsError endpoint_disabled (409)."""
    _require_enabled(endpoint)
    events.tell(endpoint.organisation_id, events.TEST, {"object": "test", "endpoint": endpoint.pk}, only=endpoint)


def replay(sent: WebhookDelivery) -> WebhookDelivery:
    """Send an event to the same endpoint again, as a delivery of its own under the same `webhook-id`.

    Raises JobsError endpoint_disabled, delivery_pending (409).
    """
    _require_enabled(sent.endpoint)
    if sent.state == State.PENDING:
        raise JobsError(
            "delivery_pending", "This delivery is still being tried by itself; nothing was sent again.", status=409
        )
    with transaction.atomic():
        again = WebhookDelivery.objects.create(endpoint=sent.endpoint, event=sent.event)
        outbox.enqueue(delivery.TOPIC, {"delivery": again.pk, "try": 0})
    return again


def _require_enabled(endpoint: WebhookEndpoint) -> None:
    if endpoint.disabled_at is not None:
        raise JobsError(
            "endpoint_disabled", "This endpoint is disabled; nothing was sent. Enable it first.", status=409
        )


def _check(url: str, wanted: Sequence[str]) -> None:
    try:
        net.check(url, delivery.policy())
    except net.FetchError:
        url = ""
    if not 0 < len(url) <= LONGEST_URL:
        raise JobsError(
            "url_invalid",
            f"The address must be https, on the usual port, at most {LONGEST_URL} characters; nothing was changed. "
            "Correct it.",
        )
    unknown = sorted(set(wanted) - set(events.TYPES))
    if unknown:
        raise JobsError(
            "event_unknown",
            f"There is no event {unknown[0]!r}; nothing was changed. There are {', '.join(events.TYPES)}.",
        )
