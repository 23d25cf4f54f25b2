"""Where partners want to be told, what there is to tell, and each telling with its tries."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from consent.models import Sealed
from webapp.accounts.models import Organisation
from webapp.ids import new_id
from webapp.jobs.models import TenantQuerySet


def endpoint_id() -> str:
    return new_id("whe")


def event_id() -> str:
    return new_id("evt")


def delivery_id() -> str:
    return new_id("whd")


class WebhookEndpoint(Sealed):
    """An https address of an organisation, with the secrets its messages are signed with.

    `events` are the types it wants, none for all. During a rotation the previous secret signs as well.
    """

    id = models.CharField(primary_key=True, max_length=32, default=endpoint_id, editable=False)
    organisation = models.ForeignKey(Organisation, on_delete=models.CASCADE, related_name="webhook_endpoints")
    url = models.CharField(max_length=500)
    description = models.CharField(max_length=200, blank=True, default="")
    events = models.JSONField(default=list, blank=True)
    secret_sealed = models.BinaryField()
    previous_secret_sealed = models.BinaryField(null=True, blank=True)
    previous_until = models.DateTimeField(null=True, blank=True)
    signing_key_sealed = models.BinaryField()  # Ed25519 seed, base64
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_reason = models.CharField(max_length=40, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[TenantQuerySet] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    def __str__(self) -> str:
        return self.id


class WebhookEvent(models.Model):
    """Something that happened, as it is told: its type and a thin payload of ids and states."""

    id = models.CharField(primary_key=True, max_length=32, default=event_id, editable=False)
    organisation = models.ForeignKey(Organisation, on_delete=models.CASCADE, related_name="+")
    type = models.CharField(max_length=40)
    data = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    objects: ClassVar[TenantQuerySet] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    def __str__(self) -> str:
        return f"{self.id}: {self.type}"


class WebhookDelivery(models.Model):
    """One event on its way to one endpoint, with a log of its tries: [{"at", "status", "error", "milliseconds"}]."""

    class State(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed"  # every try failed, or the endpoint is disabled; it can be sent again by hand

    id = models.CharField(primary_key=True, max_length=32, default=delivery_id, editable=False)
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries")
    event = models.ForeignKey(WebhookEvent, on_delete=models.CASCADE, related_name="deliveries")
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    tries = models.JSONField(default=list, blank=True)
    next_at = models.DateTimeField(null=True, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["endpoint", "-created_at"], name="delivery_of_endpoint")]

    def __str__(self) -> str:
        return f"{self.id}: {self.state}"
