"""What two transactions at once overlooked, what a killed erasure left, and what a declaration is good for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from consent import keys, previews
from consent import services as consents
from consent.models import Use
from tests.webapp import cast
from webapp import storage
from webapp.api.models import IdempotentRequest
from webapp.jobs import flow, intake, running, services, upkeep
from webapp.jobs.errors import JobsError
from webapp.jobs.models import Asset, Job
from webapp.outbox.models import OutboxMessage
from webapp.screening.models import Review, ScreeningRecord
from worker import tasks

pytestmark = pytest.mark.django_db


def aged(job: Job) -> None:
    """As if it had been submitted a while ago."""
    Job.objects.filter(pk=job.pk).update(created_at=timezone.now() - upkeep.OVERLOOKED_AFTER - timedelta(seconds=1))


def waiting_for_its_file(stage: Any) -> Job:
    """A job submitted while its target was being screened, which is not known to the screening."""
    target = stage.upload("target")
    job: Job = stage.submit(target=target)
    assert (job.state, job.queued_at) == ("queued", None)
    return job


def awaiting(stage: Any) -> Job:
    """A job whose two consents were given at once: each saw the other one open."""
    job: Job = stage.screened(stage.submit())
    Job.objects.filter(pk=job.pk).update(state=Job.State.AWAITING_CONSENT, queued_at=None)
    OutboxMessage.objects.all().delete()
    return job


def test_a_job_whose_files_were_settled_unseen_is_sent_to_the_gate_by_the_sweep(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "RESEND_AT_ONCE", 1)
    rightly_waiting, overlooked, refused = (waiting_for_its_file(stage) for _ in range(3))
    for job, state in ((overlooked, Asset.State.READY), (refused, Asset.State.REFUSED)):
        Asset.objects.filter(pk=job.target_id).update(state=state)
    OutboxMessage.objects.all().delete()
    assert upkeep.sweep() == 0  # a transaction of this moment may still be on its way
    for job in (rightly_waiting, overlooked, refused):
        aged(job)
    assert [upkeep.sweep() for _ in range(3)] == [1, 1, 0]
    for job, state in ((rightly_waiting, "queued"), (overlooked, "queued"), (refused, "refused")):
        job.refresh_from_db()
        assert job.state == state
    assert (rightly_waiting.queued_at, refused.failure_code) == (None, "asset_refused")
    assert [m.payload["args"] for m in OutboxMessage.objects.filter(topic="task")] == [[overlooked.pk]]


def test_a_job_whose_consents_were_given_unseen_is_made_ready_by_the_sweep(stage: Any) -> None:
    job = awaiting(stage)
    assert upkeep.sweep() == 0
    aged(job)
    assert upkeep.sweep() == 1
    job.refresh_from_db()
    assert job.state == "ready"
    assert OutboxMessage.objects.get(topic="task").payload["name"] == "worker.run_job"
    assert upkeep.sweep() == 0


def test_a_job_whose_consent_was_withdrawn_unseen_is_refused_and_an_open_one_goes_on_waiting(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "RESEND_AT_ONCE", 1)
    target = stage.ready("target")
    asked = stage.ask("target_person", target, give=False)
    still_open = stage.screened(stage.submit(target=target, target_consent=asked))
    job = awaiting(stage)
    Job.objects.filter(pk=job.pk).update(state=Job.State.SUCCEEDED)
    consents.withdraw_consent(cast.donor(job))
    Job.objects.filter(pk=job.pk).update(state=Job.State.AWAITING_CONSENT)
    aged(still_open)
    aged(job)
    assert upkeep.sweep() == 1
    for each, state in ((job, "refused"), (still_open, "awaiting_consent")):
        each.refresh_from_db()
        assert each.state == state
    assert job.failure_code == "consent_withdrawn"


def test_an_erasure_that_was_killed_in_the_middle_is_finished_by_the_next_round(
    stage: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = stage.ready("source")
    picture = stage.folder / "preview"
    picture.write_bytes(b"a face")
    preview = storage.store_file(picture, key_id=asset.key_id, prefix="preview")
    old = timezone.now() - timedelta(hours=settings.INPUT_RETENTION_HOURS + 1) - upkeep.UNUSED_ASSETS
    Asset.objects.filter(pk=asset.pk).update(previews={"0": preview}, created_at=old)

    def killed(key_id: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(keys, "destroy_key", killed)
        with pytest.raises(KeyboardInterrupt):
            upkeep.erase_assets()
    asset.refresh_from_db()
    assert asset.erased_at is not None
    assert storage.exists(preview)
    assert upkeep.erase_assets() == 1
    assert not storage.exists(asset.object_name)
    assert not storage.exists(preview)
    with pytest.raises(keys.KeyDestroyedError):
        keys.data_key(asset.key_id)
    asset.refresh_from_db()
    assert (asset.object_name, asset.analysis_name, asset.previews) == ("", "", {})
    assert upkeep.erase_assets() == 0


def test_a_declaration_is_good_for_one_job(stage: Any) -> None:
    declaration = stage.declare()
    job = stage.submit(declaration=declaration)
    with pytest.raises(JobsError) as error:
        stage.submit(declaration=declaration)
    assert (error.value.code, error.value.status) == ("declaration_used", 422)
    assert Job.objects.filter(declaration=declaration).get() == job
    other = stage.submit()
    with pytest.raises(IntegrityError), transaction.atomic():
        Job.objects.filter(pk=other.pk).update(declaration=declaration)


def test_of_two_submissions_at_once_the_later_one_is_told_that_its_declaration_is_used(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    declaration = stage.declare()
    check, asked = services._check_unused, []

    def late(used: Any) -> None:
        asked.append(used)
        if len(asked) == 1:  # what the other transaction writes is not seen yet
            return
        check(used)

    stage.submit(declaration=declaration)
    monkeypatch.setattr(services, "_check_unused", late)
    with pytest.raises(JobsError) as error:
        stage.submit(declaration=declaration)
    assert error.value.code == "declaration_used"
    assert len(asked) == 2


def test_nobody_is_asked_about_or_shown_a_file_that_has_not_passed_its_screening(stage: Any) -> None:
    asset = stage.ready("target")
    picture = stage.folder / "preview"
    picture.write_bytes(b"a face")
    name = storage.store_file(picture, key_id=asset.key_id, prefix="preview")
    Asset.objects.filter(pk=asset.pk).update(previews={"0": name})
    asked = {
        "organisation_id": stage.studio.pk,
        "organisation_name": stage.studio.name,
        "requested_by": "Cleo",
        "role": "target_person",
        "name": "Ben",
        "purposes": ["personal"],
        "photos": [],
        "target": consents.TargetRef(asset.pk, asset.sha256, 0),
        "livemode": False,
    }
    consent, _ = services.request_consent(**asked)
    assert previews.target(consent) == b"a face"
    for state in (Asset.State.UPLOADED, Asset.State.SCREENING, Asset.State.IN_REVIEW, Asset.State.REFUSED):
        Asset.objects.filter(pk=asset.pk).update(state=state)
        with pytest.raises(previews.PreviewMissingError):
            previews.target(consent)
        assert services.asset_preview(asset.pk, 0) == b"a face"  # a moderator sees what they decide about
        with pytest.raises(JobsError) as error:
            services.request_consent(**asked)
        assert (error.value.code, error.value.status) == ("asset_not_screened", 409)
    Asset.objects.filter(pk=asset.pk).update(state=Asset.State.READY)
    with pytest.raises(JobsError) as error:
        services.request_consent(**{**asked, "organisation_id": stage.other.pk})
    assert error.value.code == "not_found"
    with pytest.raises(JobsError):
        intake.screened_preview("ast_none", 0)


def test_evidence_of_another_profile_does_not_run_a_job_but_sends_it_to_the_gate_again(
    stage: Any, settings: Any
) -> None:
    job = stage.run(stage.screened(stage.submit()))
    assert running.put_back(job.pk, "worker", code="test")
    settings.PROFILE = "standard"
    assert running.claim_job(job.pk, "second") is not None
    assert running.screening_of(job) is None
    assert not running.authorise(job.pk, "second")
    job.refresh_from_db()
    assert (job.state, job.lease_owner, job.failure_code) == ("queued", "", "")
    assert job.events.last().code == "screened_under_other_profile"
    assert set(Use.objects.filter(job_id=job.pk).values_list("state", flat=True)) == {"released"}
    assert running.claim_job(job.pk, "gate", from_state="queued", to_state="screening") is not None
    evidence = ScreeningRecord.objects.create(
        job=job, profile="standard", policy_version="test", signals=[], decision="accept"
    )
    assert flow.gate_passed(job.pk, Job.State.SCREENING, owner="gate")
    assert running.screening_of(stage.run(job, "third")) == evidence


def test_the_gate_is_told_under_which_profile_each_file_was_let_through(stage: Any) -> None:
    job = stage.submit()
    source = cast.photo(job)
    assert running.asset_profiles(job) == ["", ""]
    common = {"policy_version": "test", "signals": []}
    ScreeningRecord.objects.create(asset=job.target, profile="evaluation", decision="accept", **common)
    held = ScreeningRecord.objects.create(asset=source, profile="standard", decision="review", **common)
    review = Review.objects.create(screening=held, due_at=timezone.now())
    assert running.asset_profiles(job) == ["evaluation", ""]
    Review.objects.filter(pk=review.pk).update(state=Review.State.RELEASED)
    assert running.asset_profiles(job) == ["evaluation", "standard"]


def test_old_idempotent_answers_are_deleted_although_nobody_posts(stage: Any) -> None:
    for key, age in (("old", 25), ("new", 23)):
        IdempotentRequest.objects.create(
            key_prefix="p",
            idempotency_key=key,
            method="POST",
            path="/v1/jobs",
            body_sha256="0" * 64,
            created_at=timezone.now() - timedelta(hours=age),
        )
    tasks.retain()
    assert [row.idempotency_key for row in IdempotentRequest.objects.all()] == ["new"]
