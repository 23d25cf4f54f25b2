"""The worker's side of a job: taking it, being allowed to run it, and publishing what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from consent import services as consent_services
from watermark.payload import new_mark_id
from webapp.ids import output_id as new_output_id
from webapp.jobs import flow, leases, permission, repository, segments, signing, transitions
from webapp.jobs.errors import JobsError
from webapp.jobs.intake import WORN_OUT
from webapp.jobs.models import Asset, Job, JobEvent, Output
from webapp.screening.models import Review, ScreeningRecord

State = Job.State
FRESH = {"fraction": 0.0, "stage": "start", "frames_done": 0, "frames_total": None, "eta_seconds": None}
FURTHER = 0.02  # a run counts as further than all before it from this much more of the whole


@dataclass(frozen=True)
class Draft:
    """A finished, marked, signed and re-read result, ready to be published. Its object is stored already."""

    mime: str
    sha256: str
    size: int
    media: Mapping[str, Any]
    object_name: str
    key_id: str
    mark_id: bytes
    mark_key: str
    manifest_label: str
    manifest_store: bytes
    time_stamp: str
    fingerprint: Mapping[str, Any]
    timings: Mapping[str, float]
    quality: Mapping[str, Any]
    warnings: Sequence[str]
    output_id: str = field(default_factory=new_output_id)  # drawn before signing: the manifest names its status page


def claim_job(job_id: str, owner: str, *, from_state: str = State.READY, to_state: str = State.RUNNING) -> Job | None:
    """Take a job; None if it is not there to be taken (another worker has it, it was canceled, it wore out)."""
    with transaction.atomic():
        if not leases.claim(Job, job_id, owner, [from_state], to_state):
            return None
        job = Job.objects.select_related("target", "declaration", "organisation").get(pk=job_id)
        if to_state == State.RUNNING:
            job.mark_id = job.mark_id or new_mark_id()  # drawn once: a restarted job keeps its mark
            job.started_at = job.started_at or timezone.now()
            kept = {name: job.progress[name] for name in ("best", "stages") if name in job.progress}
            job.progress = {**FRESH, **kept}  # what is shown starts again, what counts against crashes does not
            job.save(update_fields=["mark_id", "started_at", "progress"])
        JobEvent.objects.create(job=job, from_state=from_state, to_state=to_state, code="started", message="")
    return job


def screening_of(job: Job) -> ScreeningRecord | None:
    """The evidence on which this job may run: accepted by the gate, or released by a person. None: it may not.

    Made under the profile that holds now; the gate has then asked the same of every asset (`asset_profiles`).
    """
    return _let_through(job.screenings.filter(profile=settings.PROFILE))


def asset_profiles(job: Job) -> list[str]:
    """Under which profile the target and each source were let through; "" for one without evidence."""
    found = [_let_through(asset.screenings.all()) for asset in job.inputs()]
    return [evidence.profile if evidence is not None else "" for evidence in found]


def asset_gaps(job: Job) -> frozenset[str] | None:
    """The kinds that the target or a source was not screened for; None where one of them has no evidence."""
    gaps: set[str] = set()
    for asset in job.inputs():
        evidence = _let_through(asset.screenings.all())
        if evidence is None:
            return None
        gaps |= set(evidence.not_screened)
    return frozenset(gaps)


def _let_through(records: QuerySet[ScreeningRecord]) -> ScreeningRecord | None:
    for record in records.order_by("-created_at"):
        if record.decision == "accept":
            return record
        # A refusal too, after an appeal: nothing else opens a review of one.
        if Review.objects.filter(screening=record, state=Review.State.RELEASED).exists():
            return record
    return None


@consent_services.survives_deadlocks
def authorise(job_id: str, owner: str) -> bool:
    """The last question before the work: assets ready, gate evidence there, every consent covers and is reserved.

    False if not: the job is refused, or taken from this owner, or sent to the gate again because its evidence was made
    under another profile. Idempotent over restarts.
    """
    with transaction.atomic():
        _locked_consents(job_id)
        job = Job.objects.select_related("target").get(pk=job_id)
        if job.lease_owner != owner or job.state != State.RUNNING:
            return False
        for asset in job.inputs():
            if asset.state != Asset.State.READY or asset.erased_at is not None:
                return _refuse(job_id, owner, "asset_refused", f"The file {asset.pk} may no longer be used.")
        if screening_of(job) is None:
            if job.screenings.exclude(profile=settings.PROFILE).exists():
                _screen_again(job_id, owner)
                return False
            return _refuse(job_id, owner, "not_screened", "There is no evidence that the input was screened.")
        for consent, use in permission.uses(job):
            decision = consent_services.reserve_use(consent.pk, job_id=job_id, use=use)
            if not decision.ok:
                return _refuse(job_id, owner, decision.rule, decision.message)
        return True


def _screen_again(job_id: str, owner: str) -> None:
    """Back to the gate; what was reserved for the run is given back, or the job would stand in its own way."""
    moved = transitions.move(
        job_id,
        [State.RUNNING],
        State.QUEUED,
        code="screened_under_other_profile",
        owner=owner,
        lease_owner="",
        lease_expires_at=None,
        starts_without_progress=0,
    )
    if moved:
        segments.stop(Job.objects.get(pk=job_id))
        transitions.release_uses(job_id)
        transitions.send_job(job_id)


def report(job_id: str, owner: str, progress: Mapping[str, Any]) -> None:
    """Show how far the run is. Further than any earlier start, or a stage none has reached: its crashes count anew."""
    job = Job.objects.filter(pk=job_id, lease_owner=owner).only("progress").first()
    if job is None:
        return
    before = job.progress
    stages = list(before.get("stages", []))
    best = float(before.get("best", 0.0))
    fraction = float(progress["fraction"])
    further = progress["stage"] not in stages or fraction >= best + FURTHER
    if progress["stage"] not in stages:
        stages.append(progress["stage"])
    shown = {**progress, "best": max(best, fraction) if further else best, "stages": stages}
    Job.objects.filter(pk=job_id, lease_owner=owner).update(progress=shown)
    if further:
        leases.note_progress(Job, job_id, owner)


def begin_finishing(job_id: str, owner: str) -> bool:
    """The pipeline has written its file; labels, signature and the checks follow."""
    return transitions.move(job_id, [State.RUNNING], State.FINISHING, code="rendered", owner=owner)


def publish_output(job_id: str, owner: str, draft: Draft) -> Output:
    """Publish, in one transaction: consents asked again under lock, uses counted, output row, job succeeded.

    Raises JobsError with the consent's code (the job is then refused), or `lease_lost` if the job is no longer this
    owner's: then nothing is published and the caller discards the draft. Any other error does not say that; see
    `finishing.discard`.
    """
    try:
        return _publish(job_id, owner, draft)
    except consent_services.ConsentError as error:
        _refuse(job_id, owner, error.code, error.message)
        raise JobsError(error.code, error.message) from error


@consent_services.survives_deadlocks
def _publish(job_id: str, owner: str, draft: Draft) -> Output:
    with transaction.atomic():
        _locked_consents(job_id)
        job = Job.objects.select_related("target").get(pk=job_id)
        answer = permission.outlook(job, reserved=True)
        if answer.answer != "go":
            raise consent_services.ConsentError(
                answer.code or "consent_not_given",
                answer.message or "A consent is not in force. Nothing was published.",
            )
        # The job first: counting the last use exhausts the consent, and its effects must find this job succeeded.
        moved = transitions.move(
            job_id,
            [State.FINISHING],
            State.SUCCEEDED,
            code="published",
            owner=owner,
            timings=dict(draft.timings),
            quality=dict(draft.quality),
            warnings=list(draft.warnings),
            progress={**job.progress, "fraction": 1.0, "eta_seconds": 0.0},
        )
        if not moved:
            raise JobsError("lease_lost", "The job is no longer this worker's; nothing was published.", status=409)
        for consent, _ in permission.uses(job):
            consent_services.count_use(consent.pk, job_id)
        output = Output.objects.create(
            id=draft.output_id,
            organisation_id=job.organisation_id,
            job=job,
            livemode=job.livemode,
            mime=draft.mime,
            sha256=draft.sha256,
            size=draft.size,
            media=dict(draft.media),
            object_name=draft.object_name,
            key_id=draft.key_id,
            mark_id=draft.mark_id,
            mark_key=draft.mark_key,
            manifest_label=draft.manifest_label,
            manifest_store=draft.manifest_store,
            time_stamp=draft.time_stamp,
            fingerprint=dict(draft.fingerprint),
            expires_at=timezone.now() + timedelta(days=settings.OUTPUT_RETENTION_DAYS),
        )
        repository.record(output)
        return output


def fail_job(job_id: str, owner: str, code: str, message: str) -> bool:
    """The work cannot be done; the job ends as failed. False if it was not this owner's any more."""
    states = (*flow.AT_WORK, State.SCREENING)
    return transitions.move(job_id, states, State.FAILED, code=code, message=message, owner=owner)


def refuse_job(job_id: str, owner: str, code: str, message: str) -> bool:
    """The files do not allow what was asked; the job ends as refused. False if it was not this owner's any more."""
    states = (*flow.AT_WORK, State.SCREENING)
    return transitions.move(job_id, states, State.REFUSED, code=code, message=message, owner=owner)


def return_job(job_id: str, owner: str, code: str, message: str) -> bool:
    """Something passing went wrong (engine gone, database away): another start will do it, up to the cap."""
    with transaction.atomic():
        job = Job.objects.filter(pk=job_id, lease_owner=owner).first()
        if job is None:
            return False
        if job.starts_without_progress >= settings.MAX_STARTS_WITHOUT_PROGRESS:
            return fail_job(job_id, owner, code, message)
        return put_back(job_id, owner, code=code, message=message, delay=transitions.pause(job.starts))


def await_signing(job_id: str, owner: str, code: str, message: str) -> bool:
    """The key or time-stamp service is away: the job waits for it, however long, and this start does not count."""
    with transaction.atomic():
        job = Job.objects.filter(pk=job_id, lease_owner=owner).first()
        if job is None:
            return False
        moved = transitions.move(
            job_id,
            flow.AT_WORK,
            State.READY,
            code=code,
            message=message,
            owner=owner,
            lease_owner="",
            lease_expires_at=None,
            starts_without_progress=max(0, job.starts_without_progress - 1),
        )
        if moved:
            transitions.send_job(job_id, delay=transitions.pause(job.starts))
        return moved


def awaited_signing(job: Job) -> bool:
    """Was this start preceded by one that ended because a service for signing was away?"""
    last = job.events.exclude(to_state=State.RUNNING).order_by("-pk").first()
    return last is not None and last.code in signing.AWAY


def put_back(
    job_id: str, owner: str, *, code: str, message: str = "", silent_since: Any = None, delay: float = 0
) -> bool:
    """From work to where it can be claimed again, with a message after `delay` seconds; one that wore out fails."""
    with transaction.atomic():
        job = Job.objects.filter(pk=job_id, lease_owner=owner).first()
        if job is None:
            return False
        if job.starts_without_progress >= settings.MAX_STARTS_WITHOUT_PROGRESS:
            return transitions.move(
                job_id,
                (*flow.AT_WORK, State.SCREENING),
                State.FAILED,
                code="worker_crash",
                message=WORN_OUT,
                owner=owner,
                silent_since=silent_since,
            )
        to_state = State.QUEUED if job.state == State.SCREENING else State.READY
        moved = transitions.move(
            job_id,
            (*flow.AT_WORK, State.SCREENING),
            to_state,
            code=code,
            message=message,
            owner=owner,
            silent_since=silent_since,
            lease_owner="",
            lease_expires_at=None,
        )
        if moved:
            transitions.send_job(job_id, delay=delay)
        return moved


def _refuse(job_id: str, owner: str, code: str, message: str) -> bool:
    """Always False, so that a caller can return it."""
    transitions.move(job_id, flow.AT_WORK, State.REFUSED, code=code, message=message, owner=owner)
    return False


def _locked_consents(job_id: str) -> list[str]:
    """Lock the job's consents before the job itself, in order of their ids (on SQLite the transaction is the lock)."""
    return consent_services.hold(transitions.consent_ids(job_id))
