"""What was asked of a depicted person, what they answered, and every use made of it.

State changes in `services` only. Whatever names or reaches a person is stored sealed (AES-256-GCM under that person's
own key, columns `…_sealed`); destroying the key erases it. Plain columns hold ids, hashes, scope and times.
"""

from __future__ import annotations

from typing import Any

from django.db import models

from webapp.ids import new_id


def subject_id() -> str:
    return new_id("sbj")


def consent_id() -> str:
    return new_id("cns")


def attestation_id() -> str:
    return new_id("att")


def data_key_id() -> str:
    return new_id("key")


class DataKey(models.Model):
    """A 256-bit data key, wrapped by the master key. Lives in the key store (database alias `keys`), see `keys`."""

    id = models.CharField(primary_key=True, max_length=40, default=data_key_id, editable=False)
    owner = models.CharField(max_length=80, db_index=True)  # whose data: "subject:sbj_…", "asset:ast_…"
    wrapped = models.BinaryField()
    master = models.CharField(max_length=16)  # which master key wrapped it, by fingerprint
    created_at = models.DateTimeField(auto_now_add=True)
    destroyed_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.id


class Sealed(models.Model):
    """A row with columns sealed under one data key; associated data binds each value to table, row and column."""

    key_id = models.CharField(max_length=40)

    class Meta:
        abstract = True

    def seal(self, column: str, text: str) -> bytes:
        """`text` sealed for `column` of this row; assign it to `<column>_sealed`."""
        from consent import keys

        return keys.encrypt(self.key_id, self._place(column), text.encode())

    def unseal(self, column: str) -> str:
        """The plain text of `<column>_sealed`, "" if it was never set. Raises keys.KeyDestroyedError after erasure."""
        from consent import keys

        value = getattr(self, f"{column}_sealed")
        return keys.decrypt(self.key_id, self._place(column), bytes(value)).decode() if value else ""

    def _place(self, column: str) -> bytes:
        return f"{self._meta.db_table}|{self.pk}|{column}|1".encode()


class Subject(Sealed):
    """One depicted person of this deployment, by keyed hash of their contact; without a contact, one per request.

    It has no name: two organisations may know the person by different names, and neither learns the other's.
    """

    id = models.CharField(primary_key=True, max_length=32, default=subject_id, editable=False)
    contact_hmac = models.CharField(max_length=64, unique=True, null=True, blank=True)
    contact_sealed = models.BinaryField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    erased_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.id

    @property
    def contact(self) -> str:
        """The e-mail address or number; "" without one."""
        return self.unseal("contact")


class Consent(Sealed):
    """One request to one person, and the answer. `key_id` is the subject's key.

    `purposes` and `photos` are what was asked while the request is open, and what the person granted (a part of it)
    from then on; the first event keeps what was asked.
    """

    class State(models.TextChoices):
        REQUESTED = "requested"
        VIEWED = "viewed"
        GIVEN = "given"
        REFUSED = "refused"
        LAPSED = "lapsed"
        EXPIRED = "expired"
        EXHAUSTED = "exhausted"
        WITHDRAWN = "withdrawn"
        REVOKED = "revoked"
        SUPERSEDED = "superseded"

    class Role(models.TextChoices):
        FACE_DONOR = "face_donor"
        TARGET_PERSON = "target_person"

    class Relationship(models.TextChoices):
        """What the person is to the one who asks, as that one says; "" where nobody said."""

        SELF = "self"
        FRIEND = "friend"
        EMPLOYEE = "employee"  # not free to say no: told so on their page, and a moderator looks at each job
        TALENT = "talent"
        OTHER = "other"

    id = models.CharField(primary_key=True, max_length=32, default=consent_id, editable=False)
    organisation_id = models.CharField(max_length=32, db_index=True)  # plain: consent knows no tenant model
    subject = models.ForeignKey(Subject, on_delete=models.PROTECT, related_name="consents")
    state = models.CharField(max_length=12, choices=State.choices, default=State.REQUESTED)
    role = models.CharField(max_length=16, choices=Role.choices)
    livemode = models.BooleanField(default=False)
    assurance_asked = models.CharField(max_length=2, default="L1")  # consent.levels: what a yes needs here
    assurance = models.CharField(max_length=2, default="L1")  # what was reached; the link alone is L1
    supersedes = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True, related_name="+")

    # Scope: what exactly is asked for.
    purposes = models.JSONField(default=list)
    photos = models.JSONField(default=list, blank=True)  # [{"asset_id", "sha256", "face"}] of the donor
    targets = models.JSONField(default=list, blank=True)  # [{"asset_id", "sha256", "face"}]; none: any (a donor's)
    max_outputs = models.PositiveIntegerField(default=1)
    max_seconds = models.FloatField(null=True, blank=True)  # of one output
    max_total_seconds = models.FloatField(null=True, blank=True)  # of all outputs together
    partners = models.JSONField(default=list, blank=True)  # names of organisations that may get outputs too
    territories = models.JSONField(default=list, blank=True)  # ISO 3166-1 alpha-2; none: everywhere
    intended_use_sealed = models.BinaryField(null=True, blank=True)
    relationship = models.CharField(max_length=10, choices=Relationship.choices, blank=True, default="")
    no_sexual = models.BooleanField(default=True)
    no_political = models.BooleanField(default=True)  # False while open: the person may tick that it may
    valid_from = models.DateTimeField(null=True, blank=True)
    valid_until = models.DateTimeField()

    # Who asks and who is asked, in the words the person was shown.
    organisation_name = models.CharField(max_length=120)
    requested_by_sealed = models.BinaryField(null=True, blank=True)
    name_sealed = models.BinaryField(null=True, blank=True)
    note_sealed = models.BinaryField(null=True, blank=True)

    # The link: 256 random bits, of which only the SHA-256 is kept.
    token_sha256 = models.CharField(max_length=64, unique=True)
    link_expires_at = models.DateTimeField()

    # Evidence of the answer.
    locale = models.CharField(max_length=12, default="en")
    notice_id = models.CharField(max_length=60, blank=True, default="")
    notice_version = models.CharField(max_length=12, blank=True, default="")
    notice_sha256 = models.CharField(max_length=64, blank=True, default="")
    notice_text_sealed = models.BinaryField(null=True, blank=True)
    typed_name_sealed = models.BinaryField(null=True, blank=True)
    ticks = models.JSONField(default=dict, blank=True)
    evidence = models.JSONField(default=dict, blank=True)  # browser family, keyed hashes of address and browser
    # The answered form, until the check that its level asks for has passed.
    draft_sealed = models.BinaryField(null=True, blank=True)
    answered_at = models.DateTimeField(null=True, blank=True)

    created_at = models.DateTimeField(auto_now_add=True)
    viewed_at = models.DateTimeField(null=True, blank=True)
    given_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        indexes = [
            models.Index(fields=["organisation_id", "-created_at"], name="consent_of_organisation"),
            models.Index(fields=["state", "valid_until"], name="consent_due"),
            models.Index(fields=["given_at"], name="consent_given"),
        ]
        constraints = [
            models.CheckConstraint(condition=models.Q(max_outputs__gte=1), name="consent_allows_something"),
            # The database's own word on the law of levels: nobody is in force below the level that was asked.
            models.CheckConstraint(
                condition=models.Q(state__in=["requested", "viewed", "refused", "lapsed"])
                | models.Q(assurance__gte=models.F("assurance_asked")),
                name="consent_level_reached",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.id}: {self.state}"

    @property
    def name(self) -> str:
        """The person's name as the organisation that asks wrote it."""
        return self.unseal("name")

    @property
    def requested_by_name(self) -> str:
        """The person who asks, as shown to the one who is asked."""
        return self.unseal("requested_by")

    @property
    def note(self) -> str:
        """The message that came with the request."""
        return self.unseal("note")

    @property
    def typed_name(self) -> str:
        """The name the person signed with."""
        return self.unseal("typed_name")

    @property
    def intended_use(self) -> str:
        """What the results are for, in the words of the one who asks; "" where they said nothing."""
        return self.unseal("intended_use")

    @property
    def notice_text(self) -> str:
        """The exact text the person agreed to; its SHA-256 is `notice_sha256`."""
        return self.unseal("notice_text")

    @property
    def photo_sha256s(self) -> list[str]:
        """The SHA-256s of the donor's photos this consent binds to."""
        return [photo["sha256"] for photo in self.photos]


class Event(models.Model):
    """What happened to a consent. Append-only: the database itself refuses UPDATE and DELETE. No personal data."""

    consent = models.ForeignKey(Consent, on_delete=models.PROTECT, related_name="events")
    at = models.DateTimeField()
    type = models.CharField(max_length=20)
    state = models.CharField(max_length=12)  # the state after it
    code = models.CharField(max_length=60, blank=True, default="")
    data: models.JSONField[Any, Any] = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.consent_id}: {self.type}"


class Use(models.Model):
    """One job's claim on a consent: reserved when it is authorised, counted when it publishes, else released."""

    class State(models.TextChoices):
        RESERVED = "reserved"
        COUNTED = "counted"
        RELEASED = "released"

    consent = models.ForeignKey(Consent, on_delete=models.PROTECT, related_name="uses")
    job_id = models.CharField(max_length=32, db_index=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.RESERVED)
    seconds = models.FloatField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["consent", "job_id"], name="consent_use_once_per_job")]

    def __str__(self) -> str:
        return f"{self.consent_id} for {self.job_id}: {self.state}"


class Block(models.Model):
    """A wish not to be asked again, by keyed hash of organisation and contact, or of organisation and picture."""

    key_hmac = models.CharField(max_length=64, db_index=True)
    until = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"until {self.until:%Y-%m-%d}"


class Attestation(Sealed):
    """What an account declared, in which words. Never changed: the database refuses UPDATE and DELETE."""

    class Kind(models.TextChoices):
        DECLARATION = "declaration"
        TARGET_RIGHTS = "target_rights"

    id = models.CharField(primary_key=True, max_length=32, default=attestation_id, editable=False)
    organisation_id = models.CharField(max_length=32, db_index=True)
    kind = models.CharField(max_length=16, choices=Kind.choices)
    basis = models.CharField(max_length=24, blank=True, default="")  # of target rights
    target_sha256 = models.CharField(max_length=64, blank=True, default="")  # of target rights: the file it speaks of
    statement_sealed = models.BinaryField(null=True, blank=True)
    locale = models.CharField(max_length=12, default="en")
    text_sha256 = models.CharField(max_length=64)
    text_version = models.CharField(max_length=12)
    ticks = models.JSONField(default=dict)
    made_by = models.CharField(max_length=40)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.id}: {self.kind}"

    @property
    def statement(self) -> str:
        """The account's own words on its rights; "" for a declaration."""
        return self.unseal("statement")


# Tables of this app that have a module of their own.
from consent.challenge.models import Challenge  # noqa: E402
from consent.forgetting import Erasure, MasterKey  # noqa: E402
from consent.ledger.models import AuditRecord, LedgerCheckpoint, LedgerEntry, LedgerLock, LedgerTile  # noqa: E402
from consent.portal.models import Note, PortalAsk, PortalLink, PortalSession, Restriction, Wishes  # noqa: E402
from consent.receipts.models import Receipt, ReceiptKey  # noqa: E402

__all__ = [
    "Attestation",
    "AuditRecord",
    "Block",
    "Challenge",
    "Consent",
    "DataKey",
    "Erasure",
    "Event",
    "LedgerCheckpoint",
    "LedgerEntry",
    "LedgerLock",
    "LedgerTile",
    "MasterKey",
    "Note",
    "PortalAsk",
    "PortalLink",
    "PortalSession",
    "Receipt",
    "ReceiptKey",
    "Restriction",
    "Sealed",
    "Subject",
    "Use",
    "Wishes",
    "attestation_id",
    "consent_id",
    "data_key_id",
    "subject_id",
]
