"""Assets, jobs, outputs and the lease that makes one worker at a time responsible for one of them.

State changes in `services.py` and `leases.py` only; everything else reads, through querysets scoped to a tenant.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Self

from django.db import models

from consent.models import Attestation, Consent
from webapp.accounts.models import Organisation, User
from webapp.ids import asset_id, job_id, output_id


class TenantQuerySet(models.QuerySet):
    """Reads are always scoped: `Job.objects.of(organisation)`."""

    def of(self, organisation: Organisation) -> Self:
        """Rows of one tenant; a foreign id is then simply not found."""
        return self.filter(organisation=organisation)


class JobQuerySet(TenantQuerySet):
    """Jobs, also found by the permissions they stand on."""

    def on_consents(self, consents: Iterable[Consent | str]) -> Self:
        """The jobs of which any of these consents (or ids) answers for somebody, each once."""
        ids = list(consents)
        swaps = JobSwap.objects.filter(models.Q(donor_consent__in=ids) | models.Q(target_consent__in=ids))
        return self.filter(pk__in=swaps.values("job"))

    def whole(self) -> Self:
        """With everything that is shown of a job, in a fixed number of queries."""
        swaps = JobSwap.objects.select_related("donor_consent", "target_consent", "target_attestation")
        return self.select_related("target").prefetch_related(models.Prefetch("swaps", swaps), "swaps__photos")


class Leased(models.Model):
    """A row that one worker at a time works on (claim, heart-beat, reaper: see `leases.py`)."""

    lease_owner = models.CharField(max_length=64, blank=True, default="")
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    starts = models.PositiveIntegerField(default=0)
    starts_without_progress = models.PositiveIntegerField(default=0)
    queued_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True


class Asset(Leased):
    """An uploaded file: `uploaded → screening → ready | in_review | refused`, or `failed` (our fault)."""

    class State(models.TextChoices):
        UPLOADED = "uploaded"
        SCREENING = "screening"
        READY = "ready"
        IN_REVIEW = "in_review"
        REFUSED = "refused"
        FAILED = "failed"

    class Role(models.TextChoices):
        SOURCE = "source"
        TARGET = "target"

    id = models.CharField(primary_key=True, max_length=32, default=asset_id, editable=False)
    organisation = models.ForeignKey(Organisation, on_delete=models.PROTECT, related_name="assets")
    uploaded_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    role = models.CharField(max_length=8, choices=Role.choices)
    state = models.CharField(max_length=12, choices=State.choices, default=State.UPLOADED)
    name = models.CharField(max_length=200, blank=True)
    kind = models.CharField(max_length=8, blank=True)  # photo | video, known after intake
    mime = models.CharField(max_length=40, blank=True)
    sha256 = models.CharField(max_length=64)
    size = models.BigIntegerField()
    media = models.JSONField(default=dict, blank=True)  # MediaInfo as JSON
    faces = models.JSONField(default=list, blank=True)  # the analysis' summary: faces or tracks to pick from
    object_name = models.CharField(max_length=80)
    analysis_name = models.CharField(max_length=80, blank=True)
    previews = models.JSONField(default=dict, blank=True)  # face or track index (as text) → name of a stored JPEG
    key_id = models.CharField(max_length=40)
    failure_code = models.CharField(max_length=60, blank=True)
    failure_message = models.CharField(max_length=500, blank=True)
    progress = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    erased_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[TenantQuerySet] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        indexes = [models.Index(fields=["organisation", "-created_at"]), models.Index(fields=["state"])]

    def __str__(self) -> str:
        return self.id


class Job(Leased):
    """One replacement job, of one or several faces of its target; states as in DESIGN.md section 4."""

    class State(models.TextChoices):
        QUEUED = "queued"
        SCREENING = "screening"
        IN_REVIEW = "in_review"
        AWAITING_CONSENT = "awaiting_consent"
        READY = "ready"
        RUNNING = "running"
        FINISHING = "finishing"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELED = "canceled"
        REFUSED = "refused"

    FINAL = (State.SUCCEEDED, State.FAILED, State.CANCELED, State.REFUSED)

    id = models.CharField(primary_key=True, max_length=32, default=job_id, editable=False)
    organisation = models.ForeignKey(Organisation, on_delete=models.PROTECT, related_name="jobs")
    submitted_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    state = models.CharField(max_length=16, choices=State.choices, default=State.QUEUED)
    livemode = models.BooleanField(default=False)
    target = models.ForeignKey(Asset, on_delete=models.PROTECT, related_name="+")
    declaration = models.OneToOneField(Attestation, on_delete=models.PROTECT, related_name="+")  # it is about one job
    purpose = models.CharField(max_length=20, default="personal")
    options = models.JSONField(default=dict, blank=True)
    progress = models.JSONField(default=dict, blank=True)
    timings = models.JSONField(default=dict, blank=True)
    quality = models.JSONField(default=dict, blank=True)
    warnings = models.JSONField(default=list, blank=True)
    cancel_requested = models.BooleanField(default=False)
    failure_code = models.CharField(max_length=60, blank=True)
    failure_message = models.CharField(max_length=500, blank=True)
    mark_id = models.BinaryField(max_length=8, null=True, blank=True)  # drawn once, kept over restarts
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[JobQuerySet] = JobQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        indexes = [models.Index(fields=["organisation", "-created_at"]), models.Index(fields=["state"])]

    def __str__(self) -> str:
        return self.id

    def inputs(self) -> list[Asset]:
        """The target, then every source photo, each file once."""
        photos = JobSource.objects.filter(swap__job=self).order_by("swap__position", "position").select_related("asset")
        return list({asset.pk: asset for asset in (self.target, *(photo.asset for photo in photos))}.values())

    def consents(self) -> list[Consent]:
        """Everybody's permission, each once: of each replacement the donor's, then the replaced person's."""
        swaps = self.swaps.all()
        found = [consent for swap in swaps for consent in (swap.donor_consent, swap.target_consent)]
        return list({consent.pk: consent for consent in found if consent is not None}.values())


class JobSwap(models.Model):
    """One replacement of a job: which face of the target, whose face in its place, and who answers for both people."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="swaps")
    position = models.PositiveIntegerField(default=0)
    target_face = models.PositiveIntegerField(default=0)
    donor_consent = models.ForeignKey(Consent, on_delete=models.PROTECT, related_name="+")
    # The replaced person is covered by their own consent or by a rights attestation; exactly one of the two.
    target_consent = models.ForeignKey(Consent, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    target_attestation = models.ForeignKey(
        Attestation, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["job", "position"], name="job_swap_in_order"),
            models.UniqueConstraint(fields=["job", "target_face"], name="job_face_replaced_once"),
            models.CheckConstraint(
                condition=models.Q(target_consent__isnull=False) ^ models.Q(target_attestation__isnull=False),
                name="job_swap_covered_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.job_id}/{self.position}"


class Segment(Leased):
    """A stretch of a video job's frames that one worker renders: `pending → running → done`.

    `address` names the result by all it follows from; of a done one, `object_name` holds it (encrypted under `key_id`)
    and `sha256` is of its plain bytes. Rows and parts are deleted as soon as the job has ended.
    """

    class State(models.TextChoices):
        PENDING = "pending"
        RUNNING = "running"
        DONE = "done"

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="segments")
    number = models.PositiveIntegerField()
    first_frame = models.PositiveIntegerField()
    last_frame = models.PositiveIntegerField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.PENDING)
    address = models.CharField(max_length=64)
    frames_done = models.PositiveIntegerField(default=0)
    facts = models.JSONField(default=dict, blank=True)  # `worker.pipeline.segments.Part` as JSON
    sha256 = models.CharField(max_length=64, blank=True)
    object_name = models.CharField(max_length=80, blank=True)
    key_id = models.CharField(max_length=40)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["job", "number"]
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="segment_once")]
        indexes = [models.Index(fields=["state", "lease_expires_at"])]

    def __str__(self) -> str:
        return f"{self.job_id}#{self.number}"


class JobSource(models.Model):
    """A source photo of a replacement, in order, with the donor's face in it."""

    swap = models.ForeignKey(JobSwap, on_delete=models.CASCADE, related_name="photos")
    asset = models.ForeignKey(Asset, on_delete=models.PROTECT)
    face = models.PositiveIntegerField(default=0)
    position = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["swap", "asset"], name="job_source_once")]

    def __str__(self) -> str:
        return f"{self.swap_id}/{self.position}"


class JobEvent(models.Model):
    """What happened to a job, in order; shown on its page and kept with it."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField(auto_now_add=True)
    from_state = models.CharField(max_length=16)
    to_state = models.CharField(max_length=16)
    code = models.CharField(max_length=60, blank=True)
    message = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.job_id}: {self.from_state} → {self.to_state}"


class Output(models.Model):
    """A published result: its bytes (encrypted), its mark, its manifest and its fingerprint. One per job."""

    class Permission(models.TextChoices):
        IN_FORCE = "in_force"
        WITHDRAWN = "withdrawn"  # by a person shown in it
        REVOKED = "revoked"  # their permission was ended by the operator
        TAKEN_DOWN = "taken_down"

    class TimeStamp(models.TextChoices):
        TRUSTED = "trusted"  # an RFC 3161 service we know vouches for the time of the signature
        UNTRUSTED = "untrusted"  # stamped, but by a service whose root is not in TSA_ANCHORS_FILE
        NONE = "none"  # no service is configured
        MISSED = "missed"  # the service was down and the operator chose to publish all the same

    id = models.CharField(primary_key=True, max_length=32, default=output_id, editable=False)
    organisation = models.ForeignKey(Organisation, on_delete=models.PROTECT, related_name="outputs")
    job = models.OneToOneField(Job, on_delete=models.PROTECT, related_name="output")
    livemode = models.BooleanField(default=False)
    permission = models.CharField(max_length=12, choices=Permission.choices, default=Permission.IN_FORCE)
    permission_changed_at = models.DateTimeField(null=True, blank=True)
    mime = models.CharField(max_length=40)
    sha256 = models.CharField(max_length=64)
    size = models.BigIntegerField()
    media = models.JSONField(default=dict)
    object_name = models.CharField(max_length=80)
    key_id = models.CharField(max_length=40)
    mark_id = models.BinaryField(max_length=8, unique=True)
    mark_key = models.CharField(max_length=60)
    manifest_label = models.CharField(max_length=120, unique=True)
    manifest_store = models.BinaryField()
    time_stamp = models.CharField(max_length=12, choices=TimeStamp.choices, default=TimeStamp.NONE)
    fingerprint = models.JSONField(default=dict)
    copies_deleted_at = models.DateTimeField(null=True, blank=True)  # as the account says of what it had downloaded
    published_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    erased_at = models.DateTimeField(null=True, blank=True)

    ENDED = (Permission.WITHDRAWN, Permission.REVOKED)  # hidden, and deleted as soon as the grace is over

    objects: ClassVar[TenantQuerySet] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    def __str__(self) -> str:
        return self.id


class Banded(models.Model):
    """A picture's fingerprint: `pdq` are its 256 bits, the bands parts of them, which `repository.near` looks up."""

    pdq = models.BinaryField(max_length=32)
    band_0 = models.IntegerField()
    band_1 = models.IntegerField()
    band_2 = models.IntegerField()
    band_3 = models.IntegerField()
    band_4 = models.IntegerField()
    band_5 = models.IntegerField()
    band_6 = models.IntegerField()
    band_7 = models.IntegerField()
    band_8 = models.IntegerField()
    band_9 = models.IntegerField()
    band_10 = models.IntegerField()

    class Meta:
        abstract = True


class OutputFingerprint(Banded):
    """A fingerprint in the manifest repository: of a photo one, of a video one per second."""

    output = models.ForeignKey(Output, on_delete=models.CASCADE, related_name="fingerprints")
    seconds = models.FloatField(default=0.0)

    class Meta:
        indexes = [models.Index(fields=[f"band_{number}"], name=f"fingerprint_band_{number}") for number in range(11)]

    def __str__(self) -> str:
        return f"{self.output_id}@{self.seconds:g}"
