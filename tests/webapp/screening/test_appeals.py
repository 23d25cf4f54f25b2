"""An account appeals once against what the gate refused; two people decide, and what they decide holds."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from consent import ledger
from consent import services as consents
from consent.ledger import verifying
from consent.ledger.models import LedgerEntry
from tests.webapp.screening import gate
from webapp.accounts import services as accounts
from webapp.jobs import running, upkeep
from webapp.screening import appeals, forgetting, services
from webapp.screening.models import Review, ScreeningRecord
from worker.gate import signals

pytestmark = pytest.mark.django_db

WHY = "This is my own face, photographed by my sister."


@pytest.fixture
def eve(db: None) -> Any:
    """A second moderator."""
    return accounts.create_user(email="eve@example.org", password="x" * 12, organisation=None, moderator=True)


def refusal(about: Any, statement: str = WHY) -> str:
    with pytest.raises(services.ScreeningError) as error:
        appeals.appeal(about, None, statement)
    return error.value.code


def test_an_appealed_upload_is_in_review_again_and_two_people_make_it_ready(stage: Any, eve: Any) -> None:
    asset = gate.refused(stage)
    assert (asset.state, asset.failure_code) == ("refused", "face_too_small")
    review = appeals.appeal(asset, stage.cleo, f"  {WHY}\r\nSecond line.  ")
    assert (asset.state, asset.failure_code) == ("in_review", "")
    assert (review.kind, review.appellant, review.statement) == ("appeal", stage.cleo, f"{WHY}\nSecond line.")
    assert timedelta(hours=3, minutes=59) < review.due_at - timezone.now() <= timedelta(hours=4)
    waits = services.release_review(review, stage.mod, "looks fine")
    assert waits.waits_for_second
    asset.refresh_from_db()
    assert asset.state == "in_review"
    services.release_review(review, eve, "agreed")
    asset.refresh_from_db()
    assert (asset.state, asset.failure_code) == ("ready", "")


def test_a_job_with_an_upload_that_was_let_through_on_appeal_passes_the_question_for_its_files_evidence(
    stage: Any, eve: Any
) -> None:
    target = gate.refused(stage)
    review = appeals.appeal(target, stage.cleo, WHY)
    for person in (stage.mod, eve):
        services.release_review(review, person, "fine")
    target.refresh_from_db()
    source = stage.ready("source")
    ScreeningRecord.objects.create(
        asset=source, profile="evaluation", policy_version="1", signals=[], decision="accept"
    )
    assert running.asset_profiles(stage.submit(target=target, source=source)) == ["evaluation", "evaluation"]
    Review.objects.update(state="rejected")
    assert running.asset_profiles(stage.submit(target=target, source=source)) == ["", "evaluation"]


def test_an_appealed_job_goes_on_where_it_was_stopped(stage: Any, eve: Any) -> None:
    job = gate.refused_job(stage)
    assert job.finished_at is not None
    review = appeals.appeal(job, stage.cleo, WHY)
    assert (job.state, job.failure_code, job.finished_at) == ("in_review", "", None)
    for person in (stage.mod, eve):
        services.release_review(review, person, "the same person")
    job.refresh_from_db()
    assert job.state == "ready"
    assert running.screening_of(job) == review.screening
    stage.run(job)


def test_a_consent_withdrawn_during_the_appeal_ends_the_job_and_nobody_releases_it_any_more(
    stage: Any, eve: Any
) -> None:
    job = gate.refused_job(stage)
    review = appeals.appeal(job, stage.cleo, WHY)
    services.release_review(review, stage.mod, "fine")
    consents.withdraw_consent(job.consents()[0])
    job.refresh_from_db()
    assert (job.state, job.failure_code) == ("refused", "consent_withdrawn")
    assert not services.waiting().exists()
    with pytest.raises(services.ScreeningError) as error:
        services.release_review(review, eve, "fine")
    assert error.value.code == "subject_moved_on"
    assert refusal(job) == appeals.MADE_BEFORE


def test_a_rejected_appeal_refuses_for_good(stage: Any) -> None:
    asset = gate.refused(stage)
    services.reject_review(appeals.appeal(asset, stage.cleo, WHY), stage.mod, "no")
    asset.refresh_from_db()
    assert (asset.state, asset.failure_code) == ("refused", "appeal_rejected")
    assert refusal(asset) == appeals.MADE_BEFORE


def test_there_is_one_appeal_only(stage: Any) -> None:
    asset = gate.refused(stage)
    appeals.appeal(asset, None, WHY)
    assert refusal(asset) == appeals.MADE_BEFORE
    assert Review.objects.count() == 1


@pytest.mark.parametrize("statement", ["", "   too  ", "nine char", "x" * 1001, "\x00" * 20, " " * 2000])
def test_a_statement_has_ten_to_a_thousand_characters(stage: Any, statement: str) -> None:
    asset = gate.refused(stage)
    assert refusal(asset, statement) == "statement_length"
    asset.refresh_from_db()
    assert asset.state == "refused"
    assert not Review.objects.exists()


@pytest.mark.parametrize("length", [10, 1000])
def test_the_bounds_themselves_are_taken(stage: Any, length: int) -> None:
    assert len(appeals.appeal(gate.refused(stage), None, "x" * length).statement) == length


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ({"stay_down": signals.stay_down("mark", 1)}, "write to"),
        ({"stay_down": signals.stay_down("picture", 1), "faces": signals.faces("target", [20.0])}, "write to"),
        ({"faces": signals.faces("target", [])}, "Choose another file"),
        ({"markable": signals.markable("flat")}, "Choose another file"),
    ],
)
def test_what_nobody_could_let_through_cannot_be_appealed(stage: Any, found: dict[str, Any], why: str) -> None:
    asset = gate.refused(stage, **found)
    assert asset.state == "refused"
    assert why in appeals.prospect(asset).message
    assert refusal(asset) == appeals.NOT_POSSIBLE


def test_only_the_gates_own_refusal_can_be_appealed(stage: Any) -> None:
    ready = gate.settled(stage, gate.decision())
    held, review = gate.held(stage, "age_unsure")
    assert refusal(ready) == refusal(held) == appeals.NOT_POSSIBLE
    services.reject_review(review, stage.mod, "no")  # a person's word
    held.refresh_from_db()
    assert refusal(held) == appeals.NOT_POSSIBLE
    job = stage.screened(stage.submit())
    consents.withdraw_consent(job.consents()[0])
    job.refresh_from_db()
    assert job.state == "refused"
    assert refusal(job) == appeals.NOT_POSSIBLE


def test_an_erased_file_cannot_be_appealed_and_one_erased_meanwhile_leaves_the_queue(stage: Any) -> None:
    gone, appealed = gate.refused(stage), gate.refused(stage)
    upkeep.erase_asset_now(gone)
    assert refusal(gone) == appeals.NOT_POSSIBLE
    appeals.appeal(appealed, None, WHY)
    assert services.waiting().count() == 1
    upkeep.erase_asset_now(appealed)
    assert services.waiting().count() == 0


def test_nobody_decides_their_own_appeal(stage: Any) -> None:
    review = appeals.appeal(gate.refused(stage), stage.mod, WHY)
    for verb in (services.release_review, services.reject_review):
        with pytest.raises(services.ScreeningError) as error:
            verb(review, stage.mod, "mine")
        assert error.value.code == "reviewer_not_allowed"


def test_the_appeal_and_both_releases_are_in_the_ledger_and_edits_are_found(stage: Any, eve: Any) -> None:
    review = appeals.appeal(gate.refused(stage), stage.cleo, WHY)
    services.release_review(review, stage.mod, "fine")
    services.release_review(review, eve, "yes")
    ledger.sequence()
    types = LedgerEntry.objects.filter(ref=review.screening_id).order_by("seq").values_list("type", flat=True)
    assert list(types) == ["reject", "appealed", "review_first_released", "review_released"]
    assert verifying.verify().findings == []
    for change in ({"statement": "another"}, {"first_reason": "another"}, {"reason": "another"}, {"priority": True}):
        was = Review.objects.values(*change).get()
        Review.objects.update(**change)
        found = verifying.verify().findings
        if change == {"priority": True}:  # an appeal takes two people with or without it
            assert found == []
        else:
            assert {each.code for each in found} == {"row_edited"}, change
        Review.objects.update(**was)


def test_an_appeal_slipped_in_past_the_service_is_found(stage: Any) -> None:
    asset = gate.refused(stage)
    evidence = asset.screenings.get()
    Review.objects.create(screening=evidence, kind="appeal", due_at=timezone.now())
    ledger.sequence()
    assert [each.code for each in verifying.verify().findings] == ["row_not_entered"]


def test_statement_and_reasons_are_forgotten_with_time_and_accuse_nobody(stage: Any, eve: Any) -> None:
    review = appeals.appeal(gate.refused(stage), stage.cleo, WHY)
    services.release_review(review, stage.mod, "Ada Byron wrote")
    services.release_review(review, eve, "yes, Ada")
    forgetting.forget_old(timezone.now() + timedelta(days=4000))
    review.refresh_from_db()
    assert (review.statement, review.first_reason, review.reason) == ("", "", "")
    assert verifying.verify().findings == []
