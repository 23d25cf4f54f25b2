"""The list "never my face": one row per entry, of which only a turned and sealed descriptor is kept."""

from __future__ import annotations

from django.db import models

from consent.models import Sealed, Subject
from webapp.ids import new_id
from webapp.jobs.models import Leased


def listed_id() -> str:
    return new_id("lst")


class ListedFace(Sealed, Leased):
    """A face that may not be used here: `waiting → working → listed`, or `failed`; removing it deletes the row.

    `key_id` is a key of the entry's own; the photo lies under another one, which is destroyed with it as soon as the
    descriptor is there. `descriptor_sealed` holds it turned by the list's key (`worker.gate.looks.face_list`).
    `protected`: entered by a moderator, without a notice; the reason stands in the audit log.
    """

    class State(models.TextChoices):
        WAITING = "waiting"
        WORKING = "working"
        LISTED = "listed"
        FAILED = "failed"

    id = models.CharField(primary_key=True, max_length=32, default=listed_id, editable=False)
    subject = models.ForeignKey(Subject, on_delete=models.CASCADE, related_name="listed_faces")
    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING, db_index=True)
    descriptor_sealed = models.BinaryField(null=True, blank=True)
    model_sha256 = models.CharField(max_length=64, blank=True, default="")  # which model's descriptor it is
    list_key_id = models.CharField(max_length=40, blank=True, default="")  # what turned it
    photo_name = models.CharField(max_length=80, blank=True, default="")
    photo_key_id = models.CharField(max_length=40, blank=True, default="")
    protected = models.BooleanField(default=False)
    notice_version = models.CharField(max_length=12, blank=True, default="")
    notice_sha256 = models.CharField(max_length=64, blank=True, default="")
    locale = models.CharField(max_length=12, default="en")
    failure_code = models.CharField(max_length=60, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    listed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=~models.Q(state="listed") | models.Q(descriptor_sealed__isnull=False, photo_name=""),
                name="listed_face_without_photo",
            )
        ]

    def __str__(self) -> str:
        return f"{self.id}: {self.state}"
