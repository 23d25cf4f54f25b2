"""Rows of the key store's masters, and of people who are being forgotten."""

from __future__ import annotations

from typing import Any

from django.db import models

from webapp.ids import new_id


def erasure_id() -> str:
    return new_id("ers")


class MasterKey(models.Model):
    """A master key that a service sealed (see `masters`). Lives in the key store; never the key itself."""

    fingerprint = models.CharField(primary_key=True, max_length=16)
    uri = models.CharField(max_length=300, db_index=True)
    sealed = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "consent"

    def __str__(self) -> str:
        return f"{self.fingerprint} at {self.uri}"


class Erasure(models.Model):
    """That a person is to be forgotten, written before anything is destroyed: a crash on the way is healed from it.

    `report` says afterwards what was destroyed and what is kept and why, in numbers and random ids.
    """

    class State(models.TextChoices):
        ERASING = "erasing"
        ERASED = "erased"

    class By(models.TextChoices):
        PERSON = "person"
        OPERATOR = "operator"
        RETENTION = "retention"
        RESTORE = "restore"  # a backup had brought back what was erased

    id = models.CharField(primary_key=True, max_length=32, default=erasure_id, editable=False)
    subject = models.OneToOneField("consent.Subject", on_delete=models.PROTECT, related_name="erasure")
    by = models.CharField(max_length=10, choices=By.choices)
    state = models.CharField(max_length=8, choices=State.choices, default=State.ERASING, db_index=True)
    begun_at = models.DateTimeField(auto_now_add=True)
    tried_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    report: models.JSONField[Any, Any] = models.JSONField(default=dict, blank=True)

    class Meta:
        app_label = "consent"

    def __str__(self) -> str:
        return f"{self.subject_id}: {self.state}"
