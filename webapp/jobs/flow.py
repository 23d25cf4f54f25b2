"""How a job goes on: when its assets are settled, when the gate has decided, when a consent changed."""

from __future__ import annotations

from django.db import transaction

from consent.models import Consent
from webapp.jobs import hiding, permission, transitions
from webapp.jobs.models import Asset, Job, Output

State = Job.State

BEFORE_RUN = (State.QUEUED, State.SCREENING, State.IN_REVIEW, State.AWAITING_CONSENT, State.READY)
AT_WORK = (State.RUNNING, State.FINISHING)
ENDED = {
    "refused": ("consent_refused", "The person did not give their consent. Nothing was made."),
    "lapsed": ("consent_lapsed", "The person did not answer in time. Nothing was made; ask them again if you wish."),
    "withdrawn": ("consent_withdrawn", "The person withdrew their consent. Nothing was published."),
    "revoked": ("consent_revoked", "The operator revoked the consent. Nothing was published."),
    "expired": ("consent_expired", "The consent has expired. Nothing was published; ask for a new one."),
    "superseded": ("consent_superseded", "Another consent took the place of this one. Nothing was published."),
    "exhausted": ("consent_exhausted", "The consent is used up. Nothing was made; ask for a new one."),
}
# What was published under the consent is hidden as well.
PERMISSION_ENDS = {"withdrawn": Output.Permission.WITHDRAWN, "revoked": Output.Permission.REVOKED}


def assets_changed(job_id: str) -> None:
    """A queued job looks at its assets: all ready sends it to the gate, one refused refuses it, else it waits."""
    with transaction.atomic():
        job = Job.objects.select_related("target").get(pk=job_id)
        assets = job.inputs()
        for asset in assets:
            if asset.state == Asset.State.REFUSED or asset.erased_at is not None:
                message = f"The file {asset.pk} may not be used: {asset.failure_message or 'it was erased.'}"
                transitions.move(job_id, [State.QUEUED], State.REFUSED, code="asset_refused", message=message)
                return
            if asset.state == Asset.State.FAILED:
                message = f"The file {asset.pk} could not be examined. {asset.failure_message}"
                transitions.move(job_id, [State.QUEUED], State.FAILED, code="asset_failed", message=message)
                return
        if all(asset.state == Asset.State.READY for asset in assets):
            transitions.send_job(job_id)


def gate_passed(job_id: str, from_state: str, *, owner: str | None = None, code: str = "gate_passed") -> bool:
    """The gate, or a reviewer, let the job through: on to its consents."""
    with transaction.atomic():
        job = Job.objects.select_related("target").get(pk=job_id)
        answer = permission.outlook(job)
        to_state = {"go": State.READY, "wait": State.AWAITING_CONSENT, "refuse": State.REFUSED}[answer.answer]
        moved = transitions.move(
            job_id,
            [from_state],
            to_state,
            code=answer.code or code,
            message=answer.message,
            owner=owner,
            lease_owner="",
            lease_expires_at=None,
            starts_without_progress=0,
        )
        if moved and to_state == State.READY:
            transitions.send_job(job_id)
        return moved


def gate_held(job_id: str, *, owner: str) -> bool:
    """The gate wants a person to look at the job."""
    return transitions.move(
        job_id,
        [State.SCREENING],
        State.IN_REVIEW,
        code="review_needed",
        owner=owner,
        lease_owner="",
        lease_expires_at=None,
        starts_without_progress=0,
    )


def gate_refused(job_id: str, code: str, message: str, *, owner: str | None = None) -> bool:
    """The gate, or a reviewer, refused the job."""
    return transitions.move(
        job_id, [State.SCREENING, State.IN_REVIEW], State.REFUSED, code=code, message=message, owner=owner
    )


def gate_appealed(job_id: str) -> bool:
    """The account appeals against the gate's refusal: the job is open again until people have looked at it."""
    return transitions.move(
        job_id,
        [State.REFUSED],
        State.IN_REVIEW,
        code="appealed",
        message="You appealed; two people look at it.",
        failure_code="",
        failure_message="",
        finished_at=None,
    )


def on_consent_changed(consent: Consent, old: str, new: str) -> None:
    """What a consent's new state means for jobs and outputs; runs inside the transaction of that change.

    Given: jobs that waited go on. Ended: jobs before and in work are refused at once (a worker in the middle learns it
    within a second from its row), and after a withdrawal or revocation the published outputs are hidden.
    """
    with transaction.atomic():
        jobs = Job.objects.on_consents([consent]).order_by("pk")
        if new == "given":
            for job in jobs.filter(state=State.AWAITING_CONSENT).select_related("target"):
                consents_changed(job)
            return
        if new not in ENDED:
            return
        code, message = ENDED[new]
        # Used up: whoever holds a reservation may finish, only those that have none yet are too late.
        states = (State.AWAITING_CONSENT,) if new == "exhausted" else (*BEFORE_RUN, *AT_WORK)
        for job_id in jobs.filter(state__in=states).values_list("pk", flat=True):
            transitions.move(job_id, states, State.REFUSED, code=code, message=message, cancel_requested=True)
        if new in PERMISSION_ENDS:
            hiding.hide(Output.objects.filter(job__in=jobs), PERMISSION_ENDS[new])


def companions_of(consent_id: str) -> set[str]:
    """The other consents of the jobs that a change of this one may move."""
    jobs = Job.objects.on_consents([consent_id]).exclude(state__in=Job.FINAL)
    return transitions.consents_under(jobs.values("pk")) - {consent_id}


def consents_changed(job: Job) -> None:
    """A job that awaits consent looks at its consents again: goes on, ends, or waits."""
    with transaction.atomic():
        _look_at_consents(job)


def _look_at_consents(job: Job) -> None:
    answer = permission.outlook(job)
    if answer.answer == "refuse":
        transitions.move(job.pk, [State.AWAITING_CONSENT], State.REFUSED, code=answer.code, message=answer.message)
    elif answer.answer == "go" and transitions.move(
        job.pk, [State.AWAITING_CONSENT], State.READY, code="consent_given"
    ):
        transitions.send_job(job.pk)
