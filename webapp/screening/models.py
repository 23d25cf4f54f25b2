"""What the gate saw and decided, and what a person decided after it."""

from __future__ import annotations

from django.db import models

from webapp.accounts.models import User
from webapp.ids import new_id, review_id, screening_id
from webapp.jobs.models import Asset, Banded, Job


def stay_down_id() -> str:
    return new_id("std")


class ScreeningRecord(models.Model):
    """The evidence of one gate run: every signal, the policy's version and its decision. Never changed."""

    id = models.CharField(primary_key=True, max_length=32, default=screening_id, editable=False)
    asset = models.ForeignKey(Asset, on_delete=models.CASCADE, null=True, blank=True, related_name="screenings")
    job = models.ForeignKey(Job, on_delete=models.CASCADE, null=True, blank=True, related_name="screenings")
    profile = models.CharField(max_length=12)
    policy_version = models.CharField(max_length=20)
    signals = models.JSONField()
    decision = models.CharField(max_length=8)  # accept | review | reject
    reasons = models.JSONField(default=list)
    not_screened = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.id}: {self.decision}"


class Review(models.Model):
    """A person's decision on what the gate would not decide alone, or on an appeal against what it refused.

    An appeal, and one with `priority`, takes two people to release: `first_*` is the first one's release, and the
    review stays open until another person decides. `due_at` was promised when it was opened.
    """

    class State(models.TextChoices):
        OPEN = "open"
        RELEASED = "released"
        REJECTED = "rejected"

    class Kind(models.TextChoices):
        GATE = "gate"
        APPEAL = "appeal"

    id = models.CharField(primary_key=True, max_length=32, default=review_id, editable=False)
    screening = models.OneToOneField(ScreeningRecord, on_delete=models.PROTECT, related_name="review")
    kind = models.CharField(max_length=8, choices=Kind.choices, default=Kind.GATE)
    priority = models.BooleanField(default=False)  # a detector is surer than its second threshold
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    statement = models.CharField(max_length=1000, blank=True, default="")  # of who appeals
    appellant = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    first_reviewer = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    first_reason = models.CharField(max_length=500, blank=True, default="")
    first_at = models.DateTimeField(null=True, blank=True)
    reviewer = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    reason = models.CharField(max_length=500, blank=True)
    opened_at = models.DateTimeField(auto_now_add=True)
    due_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["state", "due_at"])]
        constraints = [
            models.CheckConstraint(
                condition=~models.Q(state="released")
                | models.Q(kind="gate", priority=False)
                | models.Q(first_at__isnull=False),
                name="review_released_by_two",
            ),
            models.CheckConstraint(
                condition=~models.Q(state="released", first_reviewer=models.F("reviewer")),
                name="review_two_are_not_one",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.id}: {self.state}"

    @property
    def needs_two(self) -> bool:
        """Does it take two people to release it?"""
        return self.priority or self.kind == self.Kind.APPEAL

    @property
    def waits_for_second(self) -> bool:
        """Has one of the two released it?"""
        return self.state == self.State.OPEN and self.first_at is not None


class StayDown(models.Model):
    """A result whose permission ended: whoever sends it again is refused.

    It points at nothing and names nobody, so that it outlives the erasure of everything it came from. `spared` are
    SHA-256s of the files the result was made from, which look like it and are not it.
    """

    class Reason(models.TextChoices):
        WITHDRAWN = "withdrawn"
        REVOKED = "revoked"
        TAKEN_DOWN = "taken_down"

    id = models.CharField(primary_key=True, max_length=32, default=stay_down_id, editable=False)
    mark_id = models.BinaryField(max_length=8, unique=True)
    reason = models.CharField(max_length=12, choices=Reason.choices)
    spared = models.JSONField(default=list, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.id}: {self.reason}"


class StayDownPicture(Banded):
    """What such a result looked like: its fingerprint, and the grid of luma, sealed."""

    entry = models.ForeignKey(StayDown, on_delete=models.CASCADE, related_name="pictures")
    grid_sealed = models.BinaryField()

    class Meta:
        indexes = [models.Index(fields=[f"band_{number}"], name=f"stay_down_band_{number}") for number in range(11)]

    def __str__(self) -> str:
        return f"a picture of {self.entry_id}"


# In modules of their own; Django finds them by these imports.
from webapp.screening.hash_listed import HashList  # noqa: E402, F401
from webapp.screening.listed import ListedFace  # noqa: E402, F401
