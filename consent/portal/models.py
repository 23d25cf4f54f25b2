"""What the portal of the depicted person keeps: one-time links, sessions of their own, wishes, and notes to the house.

Links and sessions are bearer secrets, of which only the SHA-256 is stored. Words of the person are sealed under their
own key.
"""

from __future__ import annotations

from django.db import models

from consent.models import Consent, Sealed, Subject
from webapp.ids import new_id


def note_id() -> str:
    return new_id("nte")


class PortalAsk(models.Model):
    """One try to be let in, by keyed hash of the contact and of the network; counted, and gone after a day."""

    key_hmac = models.CharField(max_length=64)
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["key_hmac", "at"], name="portal_ask_recent")]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M}"


class PortalLink(models.Model):
    """A link that opens the portal once."""

    token_sha256 = models.CharField(max_length=64, unique=True)
    subject = models.ForeignKey(Subject, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(db_index=True)
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"until {self.expires_at:%Y-%m-%d %H:%M}"


class PortalSession(models.Model):
    """A person who was let in. With `consent`, by the link of that one request: then it shows that one alone."""

    token_sha256 = models.CharField(max_length=64, unique=True)
    subject = models.ForeignKey(Subject, on_delete=models.CASCADE, related_name="+")
    consent = models.ForeignKey(Consent, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    locale = models.CharField(max_length=12, default="en")
    created_at = models.DateTimeField(auto_now_add=True)
    seen_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"since {self.created_at:%Y-%m-%d %H:%M}"

    @property
    def whole(self) -> bool:
        """May it see and change everything of the person? Not by a link that somebody else was given as well."""
        return self.consent_id is None or not self.subject.contact_hmac


class Wishes(models.Model):
    """What a person wants for everything about them; none means the row need not exist."""

    subject = models.OneToOneField(Subject, on_delete=models.CASCADE, primary_key=True, related_name="wishes")
    restricted_at = models.DateTimeField(null=True, blank=True)  # nothing new is made with their face
    limited_at = models.DateTimeField(null=True, blank=True)  # the same, and no descriptor is kept (CCPA 1798.121)
    told_of_uses = models.BooleanField(default=False)
    locale = models.CharField(max_length=12, default="en")
    changed_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.subject_id


class Restriction(models.Model):
    """One consent that its person put on hold; the row goes when they lift it."""

    consent = models.OneToOneField(Consent, on_delete=models.CASCADE, primary_key=True, related_name="restriction")
    since = models.DateTimeField()

    def __str__(self) -> str:
        return self.consent_id


class Note(Sealed):
    """What a person writes to the operator: an objection, a correction, a decision to be looked at by a human."""

    class Kind(models.TextChoices):
        OBJECTION = "objection"
        RECTIFICATION = "rectification"
        HUMAN_REVIEW = "human_review"
        QUESTION = "question"

    class State(models.TextChoices):
        OPEN = "open"
        ANSWERED = "answered"

    id = models.CharField(primary_key=True, max_length=32, default=note_id, editable=False)
    subject = models.ForeignKey(Subject, on_delete=models.CASCADE, related_name="notes")
    consent = models.ForeignKey(Consent, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    text_sealed = models.BinaryField(null=True, blank=True)
    answer_sealed = models.BinaryField(null=True, blank=True)
    locale = models.CharField(max_length=12, default="en")
    created_at = models.DateTimeField(auto_now_add=True)
    answered_at = models.DateTimeField(null=True, blank=True)
    answered_by = models.CharField(max_length=40, blank=True, default="")  # id of the moderator

    class Meta:
        indexes = [models.Index(fields=["state", "created_at"], name="note_waiting")]

    def __str__(self) -> str:
        return f"{self.id}: {self.kind}"

    @property
    def text(self) -> str:
        """The person's own words."""
        return self.unseal("text")

    @property
    def answer(self) -> str:
        """The operator's answer; "" while there is none."""
        return self.unseal("answer")
