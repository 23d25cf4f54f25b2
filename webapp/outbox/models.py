"""Messages that leave the database only after the state change they speak of was committed (DESIGN.md decision 1)."""

from __future__ import annotations

from django.db import models


class OutboxMessage(models.Model):
    """One message, written in the transaction of its state change and delivered at least once by the relay."""

    topic = models.CharField(max_length=60)
    payload = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)
    not_before = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    last_error = models.CharField(max_length=300, blank=True)

    class Meta:
        indexes = [models.Index(fields=["not_before"], name="outbox_due", condition=models.Q(sent_at__isnull=True))]

    def __str__(self) -> str:
        return f"{self.topic} #{self.pk}"
