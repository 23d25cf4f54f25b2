"""Where a detector is sure, and where a refusal is overridden, two different people decide."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.utils import timezone

from consent import ledger
from consent.ledger import verifying
from consent.ledger.models import LedgerEntry
from tests.webapp.screening import gate
from webapp.accounts import services as accounts
from webapp.screening import reasons, services
from webapp.screening.models import Review
from worker.gate import content_policy, profiles, signals
from worker.gate.signals import Signal

pytestmark = pytest.mark.django_db


@pytest.fixture
def eve(db: None) -> Any:
    """A second moderator."""
    return accounts.create_user(email="eve@example.org", password="x" * 12, organisation=None, moderator=True)


def refusal(verb: Any, *args: Any) -> str:
    with pytest.raises(services.ScreeningError) as error:
        verb(*args)
    return error.value.code


@pytest.mark.parametrize(
    ("codes", "priority"),
    [
        (("face_forgery_likely",), True),
        (("ai_image_high", "nsfw_unsure"), True),
        (("nsfw_unsure", "ai_image_likely"), True),
        (("face_forgery_suspected",), False),
        (("not_screened_face_forgery",), False),
        (("rights_attested",), False),
    ],
)
def test_what_a_detector_is_sure_of_has_priority_and_is_due_earlier(
    stage: Any, codes: tuple[str, ...], priority: bool
) -> None:
    _, review = gate.held(stage, *codes)
    assert (review.priority, review.needs_two) == (priority, priority)
    hours = 4 if priority else 24
    assert abs(review.due_at - review.opened_at - timedelta(hours=hours)) < timedelta(seconds=5)


@pytest.mark.parametrize("kind", reasons.DETECTED_KINDS)
@pytest.mark.parametrize(("p", "priority"), [(0.6, False), (0.9, True), (0.99, True)])
def test_the_policys_own_codes_of_a_sure_detector_are_known_here(kind: str, p: float, priority: bool) -> None:
    sure = Signal(kind, "measured", {"p": p, "review": 0.5, "high": 0.9, "packs": []}, "packs")
    found = content_policy.findings({kind: sure}, profiles.named("standard"))
    assert [each.verdict for each in found] == ["review"]
    assert reasons.is_priority(each.code for each in found) is priority
    assert reasons.is_coarse(each.code for each in found)


def test_the_policys_hard_stop_is_released_by_nobody_and_told_to_nobody() -> None:
    nude = Signal("nsfw", "measured", {"highest": 0.5}, "x")
    young = Signal("age", "measured", {"youngest": 20.0, "not_applicable": 0}, "x")
    found = content_policy.findings({"nsfw": nude, "age": young}, profiles.named("standard"))
    assert found[0].code == content_policy.HARD_STOP
    assert content_policy.HARD_STOP in reasons.NEVER_RELEASED
    assert content_policy.HARD_STOP in reasons.COARSE


def test_one_release_waits_the_same_person_cannot_complete_it_another_can(stage: Any, eve: Any) -> None:
    asset, review = gate.held(stage, "face_forgery_likely")
    first = services.release_review(review, stage.mod, "  a film,   seen the papers ")
    assert (first.state, first.waits_for_second) == ("open", True)
    assert (first.first_reviewer, first.first_reason) == (stage.mod, "a film, seen the papers")
    assert refusal(services.release_review, review, stage.mod, "again") == "second_reviewer_required"
    asset.refresh_from_db()
    assert asset.state == "in_review"
    done = services.release_review(review, eve, "agreed")
    asset.refresh_from_db()
    assert (done.state, done.reviewer, asset.state) == ("released", eve, "ready")
    assert refusal(services.release_review, review, stage.mod, "late") == "review_decided"
    ledger.sequence()
    types = LedgerEntry.objects.filter(ref=review.screening_id).order_by("seq").values_list("type", flat=True)
    assert list(types) == ["review", "review_first_released", "review_released"]
    assert verifying.verify().findings == []
    Review.objects.update(priority=False)
    assert {each.code for each in verifying.verify().findings} == {"row_edited"}


def test_either_may_reject_alone_before_and_after_the_first_release(stage: Any, eve: Any) -> None:
    for first, last in ((None, stage.mod), (stage.mod, eve), (stage.mod, stage.mod)):
        asset, review = gate.held(stage, "face_forgery_likely")
        if first is not None:
            services.release_review(review, first, "fine")
        done = services.reject_review(review, last, "no")
        asset.refresh_from_db()
        assert (done.state, done.reviewer, asset.state) == ("rejected", last, "refused")


def test_an_ordinary_review_takes_one_person(stage: Any) -> None:
    asset, review = gate.held(stage, "nsfw_unsure")
    assert services.release_review(review, stage.mod, "a statue").state == "released"
    asset.refresh_from_db()
    assert asset.state == "ready"


def test_the_first_release_of_something_that_ended_meanwhile_is_not_written_down(stage: Any) -> None:
    asset, review = gate.held(stage, "face_forgery_likely")
    type(asset).objects.filter(pk=asset.pk).update(state="failed")
    assert refusal(services.release_review, review, stage.mod, "fine") == "subject_moved_on"
    review.refresh_from_db()
    assert review.first_at is None


def test_a_first_reviewer_whose_account_was_deleted_counts_as_another_person(stage: Any, eve: Any) -> None:
    asset, review = gate.held(stage, "face_forgery_likely")
    services.release_review(review, stage.mod, "fine")
    stage.mod.delete()
    services.release_review(review, eve, "fine")
    asset.refresh_from_db()
    assert asset.state == "ready"


def test_the_database_itself_refuses_a_release_by_one_person(stage: Any) -> None:
    _, review = gate.held(stage, "face_forgery_likely")
    one = {"state": "released", "reviewer": stage.mod}
    for change in (one, {**one, "first_reviewer": stage.mod, "first_at": timezone.now()}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Review.objects.filter(pk=review.pk).update(**change)


def test_the_overdue_come_first_whatever_their_kind(stage: Any, settings: Any) -> None:
    _, ordinary = gate.held(stage, "nsfw_unsure")
    _, sure = gate.held(stage, "face_forgery_likely")
    _, late = gate.held(stage, "nsfw_unsure")
    Review.objects.filter(pk=late.pk).update(due_at=timezone.now() - timedelta(hours=1))
    assert [each.pk for each in services.waiting()] == [late.pk, sure.pk, ordinary.pk]


def test_the_command_says_who_is_still_to_come(stage: Any, eve: Any) -> None:
    asset, review = gate.held(stage, "face_forgery_likely")
    out = StringIO()
    call_command("review", "list", stdout=out)
    assert "two reviewers" in out.getvalue()
    release = ["review", "release", review.pk, "--reason", "fine"]
    call_command(*release, "--reviewer", stage.mod.username, stdout=out)
    assert "waits for a second reviewer" in out.getvalue()
    with pytest.raises(CommandError, match="second_reviewer_required"):
        call_command(*release, "--reviewer", stage.mod.username, stdout=out)
    call_command("review", "list", stdout=out)
    assert out.getvalue().rstrip().endswith("second reviewer")
    call_command(*release, "--reviewer", eve.username, stdout=out)
    asset.refresh_from_db()
    assert asset.state == "ready"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"listed_face": gate.ON_THE_LIST}, "refused_by_screening"),
        ({"stay_down": signals.stay_down("mark", 1)}, "refused_by_screening"),
        ({"faces": signals.faces("target", []), "listed_face": gate.ON_THE_LIST}, "refused_by_screening"),
        ({"faces": signals.faces("target", [])}, "no_face"),
        ({"faces": signals.faces("target", [20.0])}, "face_too_small"),
    ],
)
def test_who_tries_out_what_gets_through_reads_one_code_for_all(stage: Any, changes: dict[str, Any], code: str) -> None:
    asset = gate.refused(stage, **changes)
    assert (asset.state, asset.failure_code) == ("refused", code)
    fine = asset.screenings.get().reasons
    if code == "refused_by_screening":
        assert (
            asset.failure_message
            == "This file may not be used here. Nothing was made; write to the operator if you object."
        )
        assert code not in fine
    else:
        assert fine[0] == code
