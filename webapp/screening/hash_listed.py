"""A list of picture hashes that an operator imported; the hashes themselves lie in an encrypted object."""

from __future__ import annotations

from django.db import models

from webapp.ids import new_id


def hash_list_id() -> str:
    return new_id("hls")


class HashList(models.Model):
    """One import, never changed but for its end: another import under its name, or a removal.

    `sha256` is of the packed hashes, `source_sha256` of the file they came from. With the list ends the object; the
    row stays, because evidence names it.
    """

    class Kind(models.TextChoices):
        BLOCK = "block"  # a hit is refused
        WATCH = "watch"  # a hit is looked at by a person

    id = models.CharField(primary_key=True, max_length=32, default=hash_list_id, editable=False)
    name = models.CharField(max_length=40)
    kind = models.CharField(max_length=5, choices=Kind.choices)
    entries = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64)
    source_sha256 = models.CharField(max_length=64)
    object_name = models.CharField(max_length=80, blank=True)
    key_id = models.CharField(max_length=40)
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["name"], condition=models.Q(ended_at__isnull=True), name="hash_list_name_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.id}: {self.name}"
