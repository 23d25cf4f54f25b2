"""One try of a person to show that they are alive and themselves: what was asked, and what became of it.

No biometrics: the report holds movements and distances, the clip and its stills lie encrypted in the storage under the
person's key and are gone after the dispute time; their hash and the numbers stay.
"""

from __future__ import annotations

from typing import Any

from django.db import models

from consent.models import Consent, Sealed
from webapp.ids import new_id


def challenge_id() -> str:
    return new_id("chl")


class Challenge(Sealed):
    """Three random movements, issued before the camera opens, for one use within minutes. `key_id` is the subject's."""

    class State(models.TextChoices):
        ISSUED = "issued"
        SUBMITTED = "submitted"
        CHECKING = "checking"
        PASSED = "passed"
        REVIEW = "review"
        FAILED = "failed"
        EXPIRED = "expired"

    id = models.CharField(primary_key=True, max_length=32, default=challenge_id, editable=False)
    consent = models.ForeignKey(Consent, on_delete=models.PROTECT, related_name="challenges")
    state = models.CharField(max_length=10, choices=State.choices, default=State.ISSUED)
    actions = models.JSONField()
    issued_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    submitted_at = models.DateTimeField(null=True, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)

    # The clip: an encrypted object in the storage, until `clip_until`; its hash stays.
    clip_name = models.CharField(max_length=64, blank=True, default="")
    clip_sha256 = models.CharField(max_length=64, blank=True, default="")
    clip_mime = models.CharField(max_length=40, blank=True, default="")
    clip_size = models.PositiveIntegerField(default=0)
    clip_until = models.DateTimeField(null=True, blank=True)
    stills = models.JSONField(default=list, blank=True)  # names of encrypted objects, for the reviewer

    # The check.
    codes = models.JSONField(default=list, blank=True)
    report: models.JSONField[Any, Any] = models.JSONField(default=dict, blank=True)
    match: models.JSONField[Any, Any] = models.JSONField(default=dict, blank=True)  # score, threshold, model
    decided_by = models.CharField(max_length=40, blank=True, default="")  # "policy", or the moderator's id
    reason_sealed = models.BinaryField(null=True, blank=True)  # a moderator's words

    # Which worker is responsible, as for jobs (webapp.jobs.leases).
    queued_at = models.DateTimeField(null=True, blank=True)
    lease_owner = models.CharField(max_length=80, blank=True, default="")
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    starts = models.PositiveIntegerField(default=0)
    starts_without_progress = models.PositiveIntegerField(default=0)

    class Meta:
        app_label = "consent"
        indexes = [
            models.Index(fields=["consent", "-issued_at"], name="challenge_of_consent"),
            models.Index(fields=["state", "queued_at"], name="challenge_waiting"),
        ]
        constraints = [
            # One at a time: a person cannot choose among several sets of movements.
            models.UniqueConstraint(
                fields=["consent"],
                condition=models.Q(state__in=["issued", "submitted", "checking", "review"]),
                name="challenge_one_open",
            )
        ]

    def __str__(self) -> str:
        return f"{self.id}: {self.state}"

    @property
    def reason(self) -> str:
        """Why a moderator decided so; "" if none did."""
        return self.unseal("reason")
