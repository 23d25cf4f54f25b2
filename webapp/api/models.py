"""What the API itself must remember: answers to requests that may be sent twice."""

from __future__ import annotations

from django.db import models


class IdempotentRequest(models.Model):
    """The answer to a POST that carried an `Idempotency-Key`, for 24 hours; without one, it is in flight."""

    key_prefix = models.CharField(max_length=12)  # of the partner's API key
    idempotency_key = models.CharField(max_length=255)
    method = models.CharField(max_length=8)
    path = models.CharField(max_length=255)
    body_sha256 = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    # Encrypted: the answer to a consent request holds the person's link.
    response_sealed = models.BinaryField(null=True, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["key_prefix", "idempotency_key", "method", "path"], name="idempotent_request_once"
            )
        ]
        indexes = [models.Index(fields=["created_at"], name="idempotent_request_age")]

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.idempotency_key}"
