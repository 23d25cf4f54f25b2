"""Evidence is written once, and a person decides what the gate would not."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from consent import ledger
from consent.ledger import verifying
from consent.ledger.models import LedgerEntry
from webapp.jobs import intake, running
from webapp.jobs.models import Asset, Job
from webapp.screening import forgetting, services
from webapp.screening.models import Review, ScreeningRecord
from worker.gate import policy, profiles, signals

pytestmark = pytest.mark.django_db


def decided(profile: str, **changes: Any) -> policy.GateDecision:
    found = {
        "dimensions": signals.dimensions(512, 512, None),
        "faces": signals.faces("target", [180.0]),
        "markable": signals.markable(None),
        "own_mark": signals.own_mark(None, "full"),
        "stay_down": signals.stay_down("", 0),
        "credentials": signals.credentials("none", is_ours=False, issuer=None, source_types=[]),
        "listed_face": signals.listed_face([], entries=0, threshold=0.0, one_to_many=False, chance=0.0),
        **changes,
    }
    gaps = [gap for gap in signals.not_installed() if gap.kind not in found]
    return policy.decide_asset([*found.values(), *gaps], profiles.named(profile), "target")


def screening(stage: Any) -> Asset:
    asset = intake.claim_asset(stage.upload("target").pk, "screener")
    assert asset is not None
    return asset


def in_review(stage: Any) -> tuple[Asset, Review]:
    asset = screening(stage)
    assert services.settle_asset(decided("standard"), asset.pk, "screener")
    asset.refresh_from_db()
    assert asset.state == "in_review"
    return asset, services.waiting().get(screening__asset=asset)


def test_an_accepted_asset_is_ready_and_its_evidence_holds_every_signal(stage: Any) -> None:
    asset = screening(stage)
    assert services.settle_asset(decided("evaluation"), asset.pk, "screener")
    asset.refresh_from_db()
    record = ScreeningRecord.objects.get(asset=asset)
    assert (asset.state, record.decision, record.profile) == ("ready", "accept", "evaluation")
    assert {signal["kind"] for signal in record.signals} == {*policy.TARGET_NEEDS, *signals.NOT_SCREENED}
    assert record.not_screened == list(signals.NOT_SCREENED)


def test_every_gate_decision_and_every_persons_decision_is_entered_into_the_ledger(stage: Any) -> None:
    _, review = in_review(stage)
    services.release_review(review, stage.mod, "it is a painting")
    ledger.sequence()
    kinds = LedgerEntry.objects.filter(kind="screening").order_by("seq")
    assert [entry.type for entry in kinds] == ["review", "review_released"]
    assert {entry.ref for entry in kinds} == {review.screening_id}
    assert verifying.verify().findings == []


@pytest.mark.parametrize(
    ("model", "change"),
    [
        (ScreeningRecord, {"decision": "accept"}),
        (ScreeningRecord, {"signals": []}),
        (ScreeningRecord, {"policy_version": "0"}),
        (Review, {"reason": "another"}),
        (Review, {"state": "rejected"}),
        (Review, {"state": "open"}),
    ],
)
def test_a_decision_that_somebody_edits_is_found(stage: Any, model: Any, change: Any) -> None:
    _, review = in_review(stage)
    services.release_review(review, stage.mod, "it is a painting")
    ledger.sequence()
    model.objects.update(**change)
    assert {found.code for found in verifying.verify().findings} == {"row_edited"}


def test_what_was_forgotten_in_time_accuses_nobody_and_the_decision_stays_bound(stage: Any) -> None:
    _, review = in_review(stage)
    services.release_review(review, stage.mod, "Ada Byron wrote to us")
    forgetting.forget_old(timezone.now() + timedelta(days=100_000 // 24))
    review.refresh_from_db()
    assert (review.reason, review.screening.signals) == ("", [])
    assert verifying.verify().findings == []
    ScreeningRecord.objects.update(decision="accept")
    assert [found.code for found in verifying.verify().findings] == ["row_edited"]


def test_evidence_that_somebody_inserts_or_removes_is_found(stage: Any) -> None:
    _, review = in_review(stage)
    ledger.sequence()
    evidence = review.screening
    evidence.pk = "scr_inserted"
    evidence.save(force_insert=True)
    assert [found.code for found in verifying.verify().findings] == ["row_not_entered"]
    evidence.delete()
    review.delete()
    ScreeningRecord.objects.all().delete()
    assert [found.code for found in verifying.verify().findings] == ["row_missing"]


def test_a_rejected_asset_is_refused_with_the_first_reason(stage: Any) -> None:
    asset = screening(stage)
    services.settle_asset(decided("evaluation", faces=signals.faces("target", [])), asset.pk, "screener")
    asset.refresh_from_db()
    assert (asset.state, asset.failure_code) == ("refused", "no_face")


def test_a_screening_whose_lease_is_gone_writes_nothing(stage: Any) -> None:
    asset = screening(stage)
    assert not services.settle_asset(decided("evaluation"), asset.pk, "somebody else")
    assert ScreeningRecord.objects.count() == 0


def test_a_released_review_makes_the_asset_ready_and_a_rejected_one_refuses_it(stage: Any) -> None:
    for decide, state in ((services.release_review, "ready"), (services.reject_review, "refused")):
        asset, review = in_review(stage)
        decide(review, stage.mod, "  looked   at it ")
        asset.refresh_from_db()
        review.refresh_from_db()
        assert asset.state == state
        assert (review.reason, review.reviewer) == ("looked at it", stage.mod)
        assert not services.waiting().exists()


def test_only_a_moderator_with_a_reason_decides_and_only_once(stage: Any) -> None:
    _, review = in_review(stage)
    for reviewer, reason, code in ((stage.cleo, "x", "reviewer_not_allowed"), (stage.mod, " ", "reason_required")):
        with pytest.raises(services.ScreeningError) as error:
            services.release_review(review, reviewer, reason)
        assert error.value.code == code
    services.reject_review(review, stage.mod, "no")
    with pytest.raises(services.ScreeningError) as error:
        services.release_review(review, stage.mod, "yes")
    assert error.value.code == "review_decided"


def held_job(stage: Any) -> tuple[Job, Review]:
    job = stage.submit()
    assert running.claim_job(job.pk, "gate", from_state="queued", to_state="screening") is not None
    found = [signals.identity([0.5]), signals.assurance(["L1", "L1"]), *signals.not_installed()]
    assert services.settle_job(policy.decide_job(found, profiles.named("evaluation")), job.pk, "gate")
    job.refresh_from_db()
    assert job.state == "in_review"
    return job, services.waiting().get(screening__job=job)


def test_a_held_job_runs_after_its_release_and_its_evidence_counts(stage: Any) -> None:
    job, review = held_job(stage)
    assert running.screening_of(job) is None
    services.release_review(review, stage.mod, "same person")
    job.refresh_from_db()
    assert job.state == "ready"
    assert running.screening_of(job) == review.screening
    stage.run(job)


def test_a_held_job_is_refused_by_a_rejection_and_a_canceled_one_can_no_longer_be_released(stage: Any) -> None:
    from webapp.jobs import services as jobs

    job, review = held_job(stage)
    services.reject_review(review, stage.mod, "two persons")
    job.refresh_from_db()
    assert (job.state, job.failure_code) == ("refused", "review_rejected")
    job, review = held_job(stage)
    jobs.cancel_job(job)
    with pytest.raises(services.ScreeningError) as error:
        services.release_review(review, stage.mod, "late")
    assert error.value.code == "subject_moved_on"
    review.refresh_from_db()
    assert review.state == "open"


def test_the_command_lists_releases_and_rejects(stage: Any) -> None:
    asset, review = in_review(stage)
    out = StringIO()
    call_command("review", "list", stdout=out)
    assert review.pk in out.getvalue()
    assert asset.pk in out.getvalue()
    call_command("review", "release", review.pk, "--reason", "fine", stdout=out)
    asset.refresh_from_db()
    assert asset.state == "ready"
    with pytest.raises(CommandError, match="review_decided"):
        call_command("review", "reject", review.pk, "--reason", "no", stdout=out)
    with pytest.raises(CommandError, match="no review"):
        call_command("review", "reject", "rev_x", "--reason", "no", stdout=out)
