"""What is worth telling: made in the transaction of what happened, and told after its commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.db import transaction

from consent.models import Consent
from webapp.jobs.models import Job, Output
from webapp.outbox import services as outbox
from webapp.webhooks.delivery import TOPIC
from webapp.webhooks.models import WebhookDelivery, WebhookEndpoint, WebhookEvent

MOST_IDS: Final = 200  # in one payload, which stays under 20 kB
_CONSENT: Final = {
    "given": "consent.given",
    "refused": "consent.refused",
    "lapsed": "consent.lapsed",
    "expired": "consent.expired",
    "withdrawn": "consent.withdrawn",
    "revoked": "consent.revoked",
}
_JOB: Final = {
    Job.State.SUCCEEDED: "job.succeeded",
    Job.State.FAILED: "job.failed",
    Job.State.REFUSED: "job.refused",
    Job.State.CANCELED: "job.canceled",
}
TYPES: Final = (*_CONSENT.values(), *_JOB.values(), "output.hidden")
TEST: Final = "test.ping"


def tell(organisation_id: str, type: str, data: Mapping[str, Any], *, only: WebhookEndpoint | None = None) -> None:
    """Write an event and a message per endpoint that wants it, in the caller's transaction. No endpoint: no row."""
    endpoints = [only] if only is not None else _wanting(organisation_id, type)
    if not endpoints:
        return
    with transaction.atomic():
        event = WebhookEvent.objects.create(organisation_id=organisation_id, type=type, data=dict(data))
        for endpoint in endpoints:
            delivery = WebhookDelivery.objects.create(endpoint=endpoint, event=event)
            outbox.enqueue(TOPIC, {"delivery": delivery.pk, "try": 0})


def on_consent_changed(consent: Consent, old: str, new: str) -> None:
    """A person answered, took it back, or time did. With the end of a permission come the outputs to be deleted."""
    if new not in _CONSENT:
        return
    data: dict[str, Any] = {"object": "consent", "id": consent.pk, "state": new, "role": consent.role}
    if new in ("withdrawn", "revoked"):
        made = Output.objects.filter(job__in=Job.objects.on_consents([consent])).order_by("pk")
        data["delete_outputs"] = list(made.values_list("pk", flat=True)[:MOST_IDS])
    tell(consent.organisation_id, _CONSENT[new], data)


def on_outputs_hidden(outputs: Sequence[Output]) -> None:
    """Results nobody gets any more: the partner has to delete its copies too."""
    for output in outputs:
        data = {"object": "output", "id": output.pk, "job": output.job_id, "permission": output.permission}
        tell(output.organisation_id, "output.hidden", data)


def on_job_ended(job: Job) -> None:
    """A job is over."""
    data: dict[str, Any] = {"object": "job", "id": job.pk, "state": job.state}
    if job.failure_code:
        data["code"] = job.failure_code
    tell(job.organisation_id, _JOB[Job.State(job.state)], data)


def _wanting(organisation_id: str, type: str) -> list[WebhookEndpoint]:
    rows = WebhookEndpoint.objects.filter(organisation_id=organisation_id, disabled_at__isnull=True).order_by("pk")
    return [endpoint for endpoint in rows if not endpoint.events or type in endpoint.events]
