"""Answers that can be read again: what was found in a file, never the file."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from webapp.ids import verification_id


class Verification(models.Model):
    """What one file showed. The verdict is made of it anew at each view, so that permission is as it is then.

    `running → done | failed`. A running row says until when its process is believed to live; one that fell silent
    counts as failed, wherever it is read.
    """

    class State(models.TextChoices):
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    id = models.CharField(primary_key=True, max_length=32, default=verification_id, editable=False)
    state = models.CharField(max_length=8, choices=State.choices, default=State.RUNNING)
    evidence = models.JSONField(default=dict, blank=True)
    kind = models.CharField(max_length=8, blank=True)  # photo | video
    duration = models.FloatField(default=0.0)  # seconds of a video
    alive_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.id

    @property
    def current_state(self) -> str:
        """The state, as it must be taken now."""
        silent = self.alive_until is None or self.alive_until < timezone.now()
        return self.State.FAILED if self.state == self.State.RUNNING and silent else self.state
