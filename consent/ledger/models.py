"""The ledger's tables. Rows are written once; the database itself refuses to change or remove them (migration 0003)."""

from __future__ import annotations

from django.db import models

from consent.models import Event, Sealed
from webapp.ids import new_id


def audit_id() -> str:
    return new_id("aud")


class LedgerEntry(models.Model):
    """One commitment. Written with what it speaks of; its place in the tree is assigned once, by the sequencer.

    `opening_sealed` is the salt and the committed payload under the key `key_id`: with the key destroyed, the
    commitments say nothing to anybody, and the tree still verifies.
    """

    class Kind(models.TextChoices):
        CONSENT = "consent"
        SCREENING = "screening"
        AUDIT = "audit"

    kind = models.CharField(max_length=12, choices=Kind.choices)
    type = models.CharField(max_length=40)
    at = models.DateTimeField()
    ref = models.CharField(max_length=80, blank=True, default="", db_index=True)  # what it is about
    source = models.CharField(max_length=80, blank=True, default="")  # the row it commits to, "" for none
    event = models.OneToOneField(
        Event, on_delete=models.DO_NOTHING, null=True, blank=True, related_name="ledger_entry"
    )  # the database refuses to delete either
    key_id = models.CharField(max_length=40)
    opening_sealed = models.BinaryField()
    ref_commit = models.BinaryField()
    payload_commit = models.BinaryField()
    row_commit = models.BinaryField()

    # Assigned together, once.
    seq = models.BigIntegerField(null=True, blank=True, unique=True)
    leaf = models.BinaryField(null=True, blank=True)
    leaf_hash = models.BinaryField(null=True, blank=True)
    chain = models.BinaryField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["id"], condition=models.Q(seq__isnull=True), name="ledger_waiting"),
            models.Index(fields=["leaf_hash"], name="ledger_leaf_hash"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["source"], condition=~models.Q(source=""), name="ledger_source_once"),
            models.CheckConstraint(
                condition=models.Q(seq__isnull=True, leaf__isnull=True, leaf_hash__isnull=True, chain__isnull=True)
                | models.Q(seq__gte=0, leaf__isnull=False, leaf_hash__isnull=False, chain__isnull=False),
                name="ledger_sequenced_whole",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.type}: {'waiting' if self.seq is None else self.seq}"

    @property
    def index(self) -> int | None:
        """Its place in the tree; None until it is sequenced."""
        return self.seq


class LedgerTile(models.Model):
    """256 neighbouring hashes of one level, kept when all are there; `level` 0 holds leaf hashes, 1 the roots of those.

    Derived from the leaves, so that a proof reads a handful of rows (the tiles of C2SP tlog-tiles, of height 8).
    """

    level = models.PositiveSmallIntegerField()
    number = models.BigIntegerField()
    hashes = models.BinaryField()
    root = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["level", "number"], name="ledger_tile_once")]

    def __str__(self) -> str:
        return f"tile {self.level}/{self.number}"


class LedgerCheckpoint(models.Model):
    """A signed tree head, as it was given out."""

    size = models.BigIntegerField(unique=True)
    root = models.BinaryField()
    note = models.TextField()
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"checkpoint of {self.size}"


class LedgerLock(models.Model):
    """The one row that whoever sequences or signs holds meanwhile."""

    id = models.PositiveSmallIntegerField(primary_key=True)

    def __str__(self) -> str:
        return f"lock {self.pk}"


class AuditRecord(Sealed):
    """Who did or looked at what, when and why; the reason may name people, so it lies sealed. Never changed."""

    id = models.CharField(primary_key=True, max_length=32, default=audit_id, editable=False)
    at = models.DateTimeField()
    actor_id = models.CharField(max_length=64, db_index=True)
    action = models.CharField(max_length=40)
    subject_ref = models.CharField(max_length=80, blank=True, default="", db_index=True)
    reason_sealed = models.BinaryField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["-at"], name="audit_newest")]

    def __str__(self) -> str:
        return f"{self.id}: {self.action}"

    @property
    def reason(self) -> str:
        """Why, in the actor's words; "" if none was given."""
        return self.unseal("reason")
