"""The gate's evidence is written here once, and what a person decides after it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from webapp.accounts.models import User
from webapp.jobs import flow, intake
from webapp.jobs.models import Asset, Job
from webapp.screening import ledgered, reasons
from webapp.screening.models import Review, ScreeningRecord

if TYPE_CHECKING:
    from worker.gate.policy import GateDecision

LONGEST_REASON = 500
# What the account reads when a person refused it.
REFUSED = {
    Review.Kind.GATE: (
        "review_rejected",
        "A person looked at it and refused it. Nothing was made; write to the operator if you object.",
    ),
    Review.Kind.APPEAL: (
        "appeal_rejected",
        "A person looked at your appeal; the refusal stands. Nothing was made; write to the operator if you object.",
    ),
}


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
        return intake.asset_refused(asset_id, *reasons.told(decision.reasons, decision.message), owner=owner)


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
        return flow.gate_refused(job_id, *reasons.told(decision.reasons, decision.message), owner=owner)


def open_review(evidence: ScreeningRecord) -> Review:
    """Ask a person; one review per record."""
    priority = reasons.is_priority(evidence.reasons)
    defaults = {"priority": priority, "due_at": due(soon=priority)}
    return Review.objects.get_or_create(screening=evidence, defaults=defaults)[0]


def due(*, soon: bool) -> datetime:
    """Until when a review that is opened now should be decided."""
    return timezone.now() + timedelta(hours=settings.REVIEW_HOURS_PRIORITY if soon else settings.REVIEW_HOURS)


def release_review(review: Review, reviewer: User, reason: str) -> Review:
    """A moderator lets it through: the asset becomes ready, or the job goes on to its consents.

    Of one that `needs_two` the first release is written down and nothing else happens; somebody else's completes it.

    Raises ScreeningError: reviewer_not_allowed (403), reason_required (422), review_decided, second_reviewer_required,
    subject_moved_on (409).
    """
    reason = _checked(review, reviewer, reason)
    with transaction.atomic():
        if review.needs_two and _release_first(review, reviewer, reason):
            _require(_waits(review))
            return Review.objects.get(pk=review.pk)
        review = _decide(review, reviewer, reason, Review.State.RELEASED)
        evidence = review.screening
        if evidence.asset_id is not None:
            moved = intake.asset_accepted(evidence.asset_id)
        else:
            moved = flow.gate_passed(str(evidence.job_id), Job.State.IN_REVIEW, code="review_released")
        _require(moved)
    return review


def reject_review(review: Review, reviewer: User, reason: str) -> Review:
    """A moderator refuses it, alone; raises as `release_review`, but for second_reviewer_required."""
    reason = _checked(review, reviewer, reason)
    with transaction.atomic():
        review = _decide(review, reviewer, reason, Review.State.REJECTED)
        evidence = review.screening
        code, message = REFUSED[Review.Kind(review.kind)]
        if evidence.asset_id is not None:
            moved = intake.asset_refused(evidence.asset_id, code, message)
        else:
            moved = flow.gate_refused(str(evidence.job_id), code, message)
        _require(moved)
    return review


def waiting() -> QuerySet[Review]:
    """Open reviews, the overdue ones first, with what they are about; what has ended meanwhile waits for nobody."""
    gone = Q(screening__asset__erased_at__isnull=False) | Q(screening__job__state__in=Job.FINAL)
    return (
        Review.objects.filter(state=Review.State.OPEN)
        .exclude(gone)
        .select_related("screening", "screening__asset", "screening__job")
        .order_by("due_at", "opened_at")
    )


def _checked(review: Review, reviewer: User, reason: str) -> str:
    """The reason, on one line. Raises what forbids the decision whatever the review's state is."""
    if not (reviewer.is_active and reviewer.is_staff):
        raise ScreeningError(
            "reviewer_not_allowed", "Only a moderator of the house decides a review. Nothing was changed.", status=403
        )
    if review.appellant_id is not None and review.appellant_id == reviewer.pk:
        raise ScreeningError(
            "reviewer_not_allowed", "Nobody decides their own appeal. Nothing was changed.", status=403
        )
    reason = " ".join(reason.split())
    if not reason:
        raise ScreeningError(
            "reason_required", "A decision needs its reason. Nothing was changed; add one.", status=422
        )
    return reason[:LONGEST_REASON]


def _release_first(review: Review, reviewer: User, reason: str) -> bool:
    """Write down the first of two releases; False if there is one already, or the review is decided."""
    open_yet = Review.objects.filter(pk=review.pk, state=Review.State.OPEN, first_at__isnull=True)
    if not open_yet.update(first_reviewer=reviewer, first_reason=reason, first_at=timezone.now()):
        return False
    ledgered.enter_first(Review.objects.get(pk=review.pk))
    return True


def _decide(review: Review, reviewer: User, reason: str, state: str) -> Review:
    rows = Review.objects.filter(pk=review.pk, state=Review.State.OPEN)
    if state == Review.State.RELEASED:
        one_is_enough = Q(kind=Review.Kind.GATE, priority=False)
        rows = rows.filter(one_is_enough | (Q(first_at__isnull=False) & ~Q(first_reviewer=reviewer)))
    if not rows.update(state=state, reviewer=reviewer, reason=reason, decided_at=timezone.now()):
        if Review.objects.filter(pk=review.pk, state=Review.State.OPEN, first_reviewer=reviewer).exists():
            raise ScreeningError(
                "second_reviewer_required",
                "You have released it already; somebody else has to release it too. Nothing was changed.",
            )
        raise ScreeningError("review_decided", "Somebody has decided this review already. Nothing was changed.")
    decision = Review.objects.select_related("screening").get(pk=review.pk)
    ledgered.enter_decision(decision)
    return decision


def _waits(review: Review) -> bool:
    """Is what the review is about still there to be let through?"""
    evidence = review.screening
    if evidence.asset_id is not None:
        open_states = [Asset.State.UPLOADED, Asset.State.SCREENING, Asset.State.IN_REVIEW]
        return Asset.objects.filter(pk=evidence.asset_id, state__in=open_states, erased_at__isnull=True).exists()
    return Job.objects.filter(pk=evidence.job_id, state=Job.State.IN_REVIEW).exists()


def _require(moved: bool) -> None:
    if not moved:
        raise ScreeningError(
            "subject_moved_on", "What was to be reviewed has ended in the meantime. Nothing was changed."
        )
