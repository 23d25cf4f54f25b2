"""The gate's evidence is written here once, and what a person decides after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from webapp.accounts.models import User
from webapp.jobs import flow, intake
from webapp.jobs.models import Asset, Job
from webapp.screening import ledgered
from webapp.screening.models import Review, ScreeningRecord

if TYPE_CHECKING:
    from worker.gate.policy import GateDecision

LONGEST_REASON = 500


class ScreeningError(Exception):
    """A decision that cannot be taken; `code` is stable."""

    def __init__(self, code: str, message: str, *, status: int = 409) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


def record(decision: GateDecision, *, asset: Asset | None = None, job: Job | None = None) -> ScreeningRecord:
    """Write the evidence of one gate run about one asset or one job; it is never changed afterwards."""
    if (asset is None) == (job is None):
        raise ScreeningError("evidence_unbound", "Evidence is about one asset or one job; nothing was written.")
    with transaction.atomic():
        evidence = ScreeningRecord.objects.create(
            asset=asset,
            job=job,
            profile=decision.profile,
            policy_version=decision.policy_version,
            signals=[signal.to_dict() for signal in decision.signals],
            decision=decision.decision,
            reasons=list(decision.reasons),
            not_screened=list(decision.not_screened),
        )
        ledgered.enter_record(evidence)
    return evidence


def settle_asset(decision: GateDecision, asset_id: str, owner: str) -> bool:
    """Evidence, decision and its consequence for an asset, in one transaction; False if the lease was gone."""
    with transaction.atomic():
        asset = Asset.objects.filter(pk=asset_id, lease_owner=owner, state=Asset.State.SCREENING).first()
        if asset is None:
            return False
        evidence = record(decision, asset=asset)
        if decision.decision == "accept":
            return intake.asset_accepted(asset_id, owner=owner)
        if decision.decision == "review":
            open_review(evidence)
            return intake.asset_held(asset_id, owner=owner)
        return intake.asset_refused(asset_id, decision.reasons[0], decision.message, owner=owner)


def settle_job(decision: GateDecision, job_id: str, owner: str) -> bool:
    """Evidence, decision and its consequence for a job, in one transaction; False if the lease was gone."""
    with transaction.atomic():
        job = Job.objects.filter(pk=job_id, lease_owner=owner, state=Job.State.SCREENING).first()
        if job is None:
            return False
        evidence = record(decision, job=job)
        if decision.decision == "accept":
            return flow.gate_passed(job_id, Job.State.SCREENING, owner=owner)
        if decision.decision == "review":
            open_review(evidence)
            return flow.gate_held(job_id, owner=owner)
        return flow.gate_refused(job_id, decision.reasons[0], decision.message, owner=owner)


def open_review(evidence: ScreeningRecord) -> Review:
    """Ask a person; one review per record."""
    return Review.objects.get_or_create(screening=evidence)[0]


def release_review(review: Review, reviewer: User, reason: str) -> Review:
    """A moderator lets it through: the asset becomes ready, or the job goes on to its consents.

    Raises ScreeningError: reviewer_not_allowed (403), reason_required (422), review_decided, subject_moved_on (409).
    """
    with transaction.atomic():
        review = _decide(review, reviewer, reason, Review.State.RELEASED)
        evidence = review.screening
        if evidence.asset_id is not None:
            moved = intake.asset_accepted(evidence.asset_id)
        else:
            moved = flow.gate_passed(str(evidence.job_id), Job.State.IN_REVIEW, code="review_released")
        _require(moved)
    return review


def reject_review(review: Review, reviewer: User, reason: str) -> Review:
    """A moderator refuses it; raises as `release_review`."""
    with transaction.atomic():
        review = _decide(review, reviewer, reason, Review.State.REJECTED)
        evidence = review.screening
        message = "A person looked at it and refused it. Nothing was made; write to the operator if you object."
        if evidence.asset_id is not None:
            moved = intake.asset_refused(evidence.asset_id, "review_rejected", message)
        else:
            moved = flow.gate_refused(str(evidence.job_id), "review_rejected", message)
        _require(moved)
    return review


def waiting() -> QuerySet[Review]:
    """Open reviews, oldest first, with what they are about."""
    return (
        Review.objects.filter(state=Review.State.OPEN)
        .select_related("screening", "screening__asset", "screening__job")
        .order_by("opened_at")
    )


def _decide(review: Review, reviewer: User, reason: str, state: str) -> Review:
    if not (reviewer.is_active and reviewer.is_staff):
        raise ScreeningError(
            "reviewer_not_allowed", "Only a moderator of the house decides a review. Nothing was changed.", status=403
        )
    reason = " ".join(reason.split())
    if not reason:
        raise ScreeningError(
            "reason_required", "A decision needs its reason. Nothing was changed; add one.", status=422
        )
    decided = Review.objects.filter(pk=review.pk, state=Review.State.OPEN).update(
        state=state, reviewer=reviewer, reason=reason[:LONGEST_REASON], decided_at=timezone.now()
    )
    if not decided:
        raise ScreeningError("review_decided", "Somebody has decided this review already. Nothing was changed.")
    decision = Review.objects.select_related("screening").get(pk=review.pk)
    ledgered.enter_decision(decision)
    return decision


def _require(moved: bool) -> None:
    if not moved:
        raise ScreeningError(
            "subject_moved_on", "What was to be reviewed has ended in the meantime. Nothing was changed."
        )
