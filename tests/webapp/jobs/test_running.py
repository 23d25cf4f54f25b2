"""Leases, permission while running, publication in one transaction, and what ends it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from django.utils import timezone

from consent import services as consents
from consent.models import Consent, Use
from tests.webapp import cast
from webapp import storage
from webapp.jobs import intake, leases, running, services, upkeep, workfolder
from webapp.jobs.errors import JobsError
from webapp.jobs.models import Asset, Job, JobEvent, Output
from webapp.outbox.models import OutboxMessage

pytestmark = pytest.mark.django_db


def states(job: Job) -> list[str]:
    return list(JobEvent.objects.filter(job=job).values_list("to_state", flat=True))


def uses(job: Job) -> set[str]:
    return set(Use.objects.filter(job_id=job.pk).values_list("state", flat=True))


def silent(job: Job) -> None:
    """As if its worker had not been heard of for a while."""
    Job.objects.filter(pk=job.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=1))


def test_a_job_is_published_once_with_its_uses_counted_and_its_events_written(stage: Any) -> None:
    job = stage.run(stage.screened(stage.submit()))
    assert uses(job) == {"reserved"}
    output = stage.publish(job)
    job.refresh_from_db()
    assert (job.state, job.lease_owner) == ("succeeded", "")
    assert states(job) == ["queued", "screening", "ready", "running", "finishing", "succeeded"]
    assert uses(job) == {"counted"}
    assert output.mark_id == bytes(job.mark_id)
    with pytest.raises(JobsError):
        running.publish_output(job.pk, "worker", stage.draft(job))
    assert Output.objects.count() == 1


def test_only_one_of_two_workers_gets_a_job(stage: Any) -> None:
    job = stage.screened(stage.submit())
    assert running.claim_job(job.pk, "first") is not None
    assert running.claim_job(job.pk, "second") is None


@pytest.mark.usefixtures("committed")
def test_of_eight_threads_that_claim_at_once_one_wins(stage: Any) -> None:
    asset = stage.upload("source")
    barrier, won = threading.Barrier(8), []

    def race(name: str) -> None:
        barrier.wait()
        try:
            while True:
                try:
                    if intake.claim_asset(asset.pk, name) is not None:
                        won.append(name)
                    return
                except OperationalError as error:  # a test database in memory knows no waiting
                    if "locked" not in str(error):
                        raise
        finally:
            connection.close()

    threads = [threading.Thread(target=race, args=(f"w{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asset.refresh_from_db()
    assert won == [asset.lease_owner]
    assert asset.starts == 1


def test_whoever_waits_under_a_lease_learns_that_it_is_gone(stage: Any) -> None:
    job = stage.run(stage.screened(stage.submit()))
    lease = leases.Lease(Job, job.pk, "worker", ["running"])
    lease.wait(0)
    consents.withdraw_consent(cast.donor(job))
    with pytest.raises(leases.LeaseLostError):
        lease.wait(0)
    assert lease.lost()


def test_the_mark_is_drawn_once_and_kept_over_restarts(stage: Any) -> None:
    job = stage.run(stage.screened(stage.submit()))
    mark = bytes(job.mark_id)
    silent(job)
    assert upkeep.reap() == 1
    job = stage.run(job, "second")
    assert bytes(job.mark_id) == mark


def test_a_silent_workers_job_is_returned_and_the_sleeper_can_do_nothing_any_more(stage: Any) -> None:
    job = stage.run(stage.screened(stage.submit()))
    assert upkeep.reap() == 0
    silent(job)
    assert upkeep.reap() == 1
    job.refresh_from_db()
    assert (job.state, job.lease_owner) == ("ready", "")
    assert not leases.heartbeat(Job, job.pk, "worker", ["running"])
    assert not running.begin_finishing(job.pk, "worker")
    assert not running.fail_job(job.pk, "worker", "x", "x")
    stage.run(job, "second")
    assert not running.begin_finishing(job.pk, "worker")
    assert stage.publish(job, "second").job_id == job.pk


def test_five_starts_without_progress_end_as_worker_crash_and_progress_starts_the_count_anew(stage: Any) -> None:
    job = stage.screened(stage.submit())
    for start in range(4):
        stage.run(job, f"w{start}")
        silent(job)
        upkeep.reap()
    stage.run(job, "w4")
    running.report(job.pk, "w4", {"fraction": 0.5, "stage": "swap"})
    silent(job)
    upkeep.reap()
    job.refresh_from_db()
    assert (job.state, job.starts_without_progress) == ("ready", 0)
    for start in range(5):
        stage.run(job, f"x{start}")
        # The same half again is no progress: a job that dies at its middle each time must end too.
        running.report(job.pk, f"x{start}", {"fraction": 0.5, "stage": "swap"})
        silent(job)
        upkeep.reap()
    job.refresh_from_db()
    assert (job.state, job.failure_code) == ("failed", "worker_crash")
    assert uses(job) == {"released"}


@pytest.mark.parametrize("whose", [cast.donor, cast.replaced])
@pytest.mark.parametrize("moment", ["queued", "ready", "running", "finishing"])
def test_a_withdrawal_at_any_moment_refuses_the_job_in_the_same_transaction(
    stage: Any, whose: Callable[..., Consent], moment: str
) -> None:
    job = stage.submit()
    if moment != "queued":
        stage.screened(job)
    if moment in {"running", "finishing"}:
        stage.run(job)
    if moment == "finishing":
        running.begin_finishing(job.pk, "worker")
    consents.withdraw_consent(whose(job))
    job.refresh_from_db()
    assert (job.state, job.failure_code, job.lease_owner) == ("refused", "consent_withdrawn", "")
    assert uses(job) <= {"released"}
    if moment == "finishing":
        with pytest.raises(JobsError):
            running.publish_output(job.pk, "worker", stage.draft(job))
    assert Output.objects.count() == 0


def test_a_consent_that_expires_before_the_publication_refuses_it(stage: Any) -> None:
    job = stage.run(stage.screened(stage.submit()))
    running.begin_finishing(job.pk, "worker")
    Consent.objects.filter(pk=cast.donor(job).pk).update(valid_until=timezone.now())
    with pytest.raises(JobsError) as error:
        running.publish_output(job.pk, "worker", stage.draft(job))
    assert error.value.code == "consent_expired"
    job.refresh_from_db()
    assert (job.state, job.failure_code) == ("refused", "consent_expired")
    assert Output.objects.count() == 0


def test_a_consent_for_one_output_gives_one_even_if_two_jobs_were_submitted(stage: Any) -> None:
    source, target = stage.ready("source"), stage.ready("target")
    donor, person = stage.ask("face_donor", source), stage.ask("target_person", target, max_outputs=2)
    common = {"source": source, "target": target, "donor_consent": donor, "target_consent": person}
    first, second = stage.screened(stage.submit(**common)), stage.screened(stage.submit(**common))
    stage.run(first)
    assert running.claim_job(second.pk, "other") is not None
    assert not running.authorise(second.pk, "other")
    second.refresh_from_db()
    assert (second.state, second.failure_code) == ("refused", "consent_exhausted")
    stage.publish(first)
    donor.refresh_from_db()
    assert donor.state == "exhausted"
    assert Output.objects.count() == 1
    person.refresh_from_db()
    assert person.state == "given"  # the second job gave its reservation back, or never had one


def test_a_given_consent_lets_waiting_jobs_go_on(stage: Any) -> None:
    source = stage.ready("source")
    donor = stage.ask("face_donor", source, give=False)
    job = stage.screened(stage.submit(source=source, donor_consent=donor))
    assert job.state == "awaiting_consent"
    OutboxMessage.objects.all().delete()
    stage.agree(donor)
    job.refresh_from_db()
    assert job.state == "ready"
    assert OutboxMessage.objects.get(topic="task").payload["name"] == "worker.run_job"


def test_a_refused_request_refuses_the_job_that_waits_for_it(stage: Any) -> None:
    source = stage.ready("source")
    donor = stage.ask("face_donor", source, give=False)
    job = stage.screened(stage.submit(source=source, donor_consent=donor))
    consents.refuse_consent(donor)
    job.refresh_from_db()
    assert (job.state, job.failure_code) == ("refused", "consent_refused")


def test_without_evidence_of_screening_no_job_runs(stage: Any) -> None:
    job = stage.screened(stage.submit())
    job.screenings.all().delete()
    running.claim_job(job.pk, "worker")
    assert not running.authorise(job.pk, "worker")
    job.refresh_from_db()
    assert (job.state, job.failure_code) == ("refused", "not_screened")


def test_a_canceled_job_stays_canceled_and_a_finished_one_cannot_be_canceled(stage: Any) -> None:
    job = stage.run(stage.screened(stage.submit()))
    assert services.cancel_job(job).state == "canceled"
    assert uses(job) == {"released"}
    assert services.cancel_job(job).state == "canceled"
    done = stage.run(stage.screened(stage.submit()))
    stage.publish(done)
    with pytest.raises(JobsError) as error:
        services.cancel_job(done)
    assert (error.value.code, error.value.status) == ("job_succeeded", 409)


def test_a_withdrawal_hides_the_output_at_once_and_the_next_retention_erases_it(stage: Any) -> None:
    job = stage.run(stage.screened(stage.submit()))
    from consent import keys

    key_id = keys.create_key("output:test")
    path = stage.folder / "result.jpg"
    path.write_bytes(b"result")
    name = storage.store_file(path, key_id=key_id, prefix="output")
    running.begin_finishing(job.pk, "worker")
    output = running.publish_output(job.pk, "worker", stage.draft(job, object_name=name, key_id=key_id))
    with services.output_file(output) as file:
        assert file.read() == b"result"
    consents.withdraw_consent(cast.replaced(job))
    with pytest.raises(JobsError) as error:
        services.output_file(output)
    assert (error.value.code, error.value.status) == ("output_withdrawn", 410)
    assert upkeep.erase_outputs() == 1
    assert not storage.exists(name)
    with pytest.raises(keys.KeyDestroyedError):
        keys.data_key(key_id)
    output.refresh_from_db()
    assert output.erased_at is not None
    assert output.permission == "withdrawn"
    assert upkeep.erase_outputs() == 0


@pytest.mark.usefixtures("committed")
def test_the_heartbeat_keeps_a_lease_and_tells_of_its_loss(stage: Any, settings: Any) -> None:
    settings.LEASE_SECONDS = 1
    asset = intake.claim_asset(stage.upload("source").pk, "worker")
    assert asset is not None
    first = asset.lease_expires_at
    with leases.Lease(Asset, asset.pk, "worker", ["screening"]) as lease:
        wait(lambda: Asset.objects.get(pk=asset.pk).lease_expires_at > first)
        lease.guard()
        assert not lease.lost()
        assert intake.asset_failed(asset.pk, "test", "Taken away.")
        wait(lease.lost)
        with pytest.raises(leases.LeaseLostError):
            lease.guard()


def wait(what: Callable[[], bool]) -> None:
    """Until it is so, ten seconds at most."""
    for _ in range(200):
        if what():
            return
        threading.Event().wait(0.05)
    pytest.fail("waited in vain")


def test_what_waits_too_long_is_sent_again_and_only_then(stage: Any) -> None:
    asset, job = stage.upload("source"), stage.submit()
    OutboxMessage.objects.all().delete()
    assert upkeep.sweep() == 0
    old = timezone.now() - upkeep.RESEND_AFTER - timedelta(seconds=1)
    Asset.objects.filter(pk=asset.pk).update(queued_at=old)
    Job.objects.filter(pk=job.pk).update(queued_at=old)
    assert upkeep.sweep() == 2
    assert upkeep.sweep() == 0
    names = set(OutboxMessage.objects.values_list("payload__name", flat=True))
    assert names == {"worker.screen_asset", "worker.screen_job"}


def test_a_silent_screening_is_started_again_and_given_up_in_the_end(stage: Any) -> None:
    asset = stage.upload("source")
    for start in range(5):
        assert intake.claim_asset(asset.pk, f"s{start}") is not None
        Asset.objects.filter(pk=asset.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=1))
        assert upkeep.reap() == 1
    asset.refresh_from_db()
    assert (asset.state, asset.failure_code) == ("failed", "worker_crash")


def test_uploads_are_erased_a_day_after_their_last_job_and_not_before(stage: Any, settings: Any) -> None:
    used, unused, waiting = stage.ready("source"), stage.ready("source"), stage.ready("source")
    done, open_job = stage.submit(source=used), stage.submit(source=waiting)
    services.cancel_job(done)
    old = timezone.now() - timedelta(hours=settings.INPUT_RETENTION_HOURS, minutes=1)
    Asset.objects.update(created_at=old)
    assert upkeep.erase_assets() == 0
    Job.objects.filter(pk=done.pk).update(finished_at=old)
    assert upkeep.erase_assets() == 2  # source and target of the canceled job
    for asset, erased in ((used, True), (waiting, False), (unused, False)):
        asset.refresh_from_db()
        assert (asset.erased_at is not None) == erased
        assert storage.exists(asset.object_name) != erased
    Asset.objects.update(created_at=old - upkeep.UNUSED_ASSETS)
    assert upkeep.erase_assets() == 1
    open_job.refresh_from_db()
    assert open_job.state == "queued"


def test_objects_no_row_knows_are_swept_after_a_day(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asset = stage.upload("source")
    path = stage.folder / "orphan"
    path.write_bytes(b"orphan")
    orphan = storage.store_file(path, key_id=asset.key_id, prefix="output")
    assert upkeep.sweep_orphans() == 0
    monkeypatch.setattr(upkeep, "ORPHANS_AFTER", timedelta(seconds=-5))
    assert upkeep.sweep_orphans() == 1
    assert not storage.exists(orphan)
    assert storage.exists(asset.object_name)


def test_a_work_folder_is_gone_after_its_block_and_those_of_the_dead_are_swept(settings: Any, tmp_path: Path) -> None:
    settings.WORK_DIR = tmp_path / "work"
    with contextlib.suppress(RuntimeError), workfolder.work_folder("job_x") as folder:
        (folder / "plain.jpg").write_bytes(b"x")
        assert folder.stat().st_mode & 0o077 == 0
        assert upkeep.sweep_folders() == 0  # its owner lives
        raise RuntimeError
    assert list(workfolder.root().iterdir()) == []
    dead = workfolder.root() / "job_y-0"
    dead.mkdir()
    (dead / workfolder.LOCK_FILE).touch()
    (dead / "plain.jpg").write_bytes(b"x")
    assert upkeep.sweep_folders() == 1
    assert not dead.exists()


def test_half_received_uploads_are_swept_after_a_day_and_their_folder_is_there(settings: Any, tmp_path: Path) -> None:
    assert Path(settings.FILE_UPLOAD_TEMP_DIR).is_dir()
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path)
    old, new = tmp_path / "old.upload", tmp_path / "new.upload"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    assert upkeep.sweep_uploads() == 1
    assert [path.name for path in tmp_path.iterdir()] == ["new.upload"]


def test_a_moderator_takes_an_output_down_with_a_reason_and_nobody_else_does(stage: Any) -> None:
    job = stage.run(stage.screened(stage.submit()))
    output = stage.publish(job)
    for who, reason, code in ((stage.cleo, "x", "moderator_required"), (stage.mod, " ", "reason_required")):
        with pytest.raises(JobsError) as error:
            services.take_down_output(output, who, reason)
        assert error.value.code == code
    assert services.take_down_output(output, stage.mod, "reported").permission == "taken_down"
    with pytest.raises(JobsError) as error:
        services.output_file(output)
    assert error.value.code == "output_taken_down"
    assert JobEvent.objects.filter(job=job, code="taken_down", message="reported").count() == 1


def test_the_reap_command_does_a_round_and_says_what_it_did(stage: Any) -> None:
    job = stage.run(stage.screened(stage.submit()))
    silent(job)
    out = StringIO()
    call_command("reap", "--retention", stdout=out)
    assert "returned 1" in out.getvalue()
    assert "erased 0" in out.getvalue()
