"""How a task's work on a job ends, with the rows as they are: only render and signature are stood in for."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from consent import keys
from tests.webapp import cast
from webapp import storage
from webapp.jobs import finishing, running
from webapp.jobs.errors import JobsError
from webapp.jobs.models import Asset, Job, Output
from webapp.outbox.models import OutboxMessage
from worker import tasks

pytestmark = pytest.mark.django_db


class Bench:
    """A worker whose render is `render` and whose finished file is `draft`."""

    def __init__(self, stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.job = stage.screened(stage.submit())
        self.rendered = 0
        self.render: Callable[[], None] = lambda: None
        self.draft = stored(stage, self.job)
        monkeypatch.setattr(tasks, "materialise", lambda job, folder: SimpleNamespace(kind="photo"))
        monkeypatch.setattr(tasks.rendering, "engine", lambda: "engine")
        monkeypatch.setattr(tasks, "with_models", lambda spec, engine: (spec, None))
        monkeypatch.setattr(tasks.pipeline, "run_job", self._run)
        monkeypatch.setattr(finishing, "finish", self._finish)
        self.stage = stage

    def _run(self, spec: Any, **_: Any) -> Any:
        self.rendered += 1
        self.render()
        names = ("output", "mime", "duration", "frames", "timings", "quality", "fingerprint", "warnings")
        return SimpleNamespace(**dict.fromkeys(names))

    def _finish(self, job: Job, *_: Any, **__: Any) -> running.Draft:
        draft: running.Draft = self.stage.draft(job, object_name=self.draft.object_name, key_id=self.draft.key_id)
        return draft

    def work(self) -> Job:
        """One message of this job."""
        OutboxMessage.objects.all().delete()
        tasks.run_job(self.job.pk)
        self.job.refresh_from_db()
        return self.job

    def kept(self) -> bool:
        """Can the finished file still be read?"""
        try:
            with storage.open_decrypted(self.draft.object_name, self.draft.key_id) as file:
                return file.read() == b"finished"
        except (storage.StorageError, keys.KeyDestroyedError):
            return False


def stored(stage: Any, job: Job) -> running.Draft:
    """A finished file that lies in the storage."""
    key_id = keys.create_key(f"output:{job.pk}")
    path = stage.folder / "finished"
    path.write_bytes(b"finished")
    name = storage.store_file(path, key_id=key_id, prefix="output")
    draft: running.Draft = stage.draft(job, object_name=name, key_id=key_id)
    return draft


@pytest.fixture
def bench(stage: Any, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(stage, monkeypatch)


@pytest.mark.parametrize(
    "error", [OperationalError("server closed the connection"), SoftTimeLimitExceeded(), RuntimeError("late")]
)
def test_what_is_published_stays_whatever_goes_wrong_right_after(
    bench: Bench, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = running.publish_output

    def then_lost(*args: Any) -> Output:
        publish(*args)
        raise error

    monkeypatch.setattr(running, "publish_output", then_lost)
    assert bench.work().state == "succeeded"
    assert bench.kept()
    finishing.discard(bench.draft)
    assert bench.kept()


def test_a_publication_of_which_nobody_knows_keeps_its_file_and_starts_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any) -> Output:
        raise OperationalError("server closed the connection")  # while COMMIT may still be on its way

    monkeypatch.setattr(running, "publish_output", unknown)
    assert bench.work().state == "ready"
    assert bench.kept()


def test_a_draft_is_kept_while_the_database_does_not_answer_and_thrown_away_when_it_does(bench: Bench) -> None:
    def away(*_: Any) -> Any:
        raise OperationalError("gone")

    with connection.execute_wrapper(away):
        finishing.discard(bench.draft)
    assert bench.kept()
    finishing.discard(bench.draft)
    assert not bench.kept()


def test_a_draft_that_could_not_be_published_is_thrown_away(bench: Bench) -> None:
    person = cast.replaced(bench.job)
    original = bench._finish

    def ends_meanwhile(job: Job, *rest: Any, **options: Any) -> running.Draft:
        type(person).objects.filter(pk=person.pk).update(valid_until=timezone.now())
        return original(job, *rest, **options)

    finishing.finish = ends_meanwhile  # type: ignore[assignment] # the bench's own patch puts it back
    assert bench.work().failure_code == "consent_expired"
    assert not bench.kept()


@pytest.mark.parametrize("error", [OperationalError("gone"), InterfaceError("connection already closed")])
def test_a_database_that_was_away_gives_another_start_after_a_growing_pause(bench: Bench, error: Exception) -> None:
    def fails() -> None:
        raise error

    bench.render = fails
    for pause in (4, 8, 16, 32):  # the gate was the first start
        begun = timezone.now()
        assert bench.work().state == "ready"
        message = OutboxMessage.objects.get(topic="task")
        assert pause - 1 < (message.not_before - begun).total_seconds() < pause + 5
        assert bench.job.queued_at is not None
        assert (bench.job.queued_at - begun).total_seconds() > pause - 1  # not taken for lost before its time
    assert (bench.work().state, bench.job.failure_code) == ("failed", "database_unavailable")


def test_an_upload_met_by_a_database_that_was_away_is_screened_again_later(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise OperationalError("gone")

    asset = stage.upload("source")
    OutboxMessage.objects.all().delete()
    monkeypatch.setattr(storage, "materialise", away)
    tasks.screen_asset(asset.pk)
    asset.refresh_from_db()
    assert (asset.state, asset.failure_code) == ("uploaded", "")
    assert OutboxMessage.objects.get(topic="task").not_before > timezone.now()


def test_a_refusal_of_a_service_ends_the_job_at_once(bench: Bench) -> None:
    def refuses() -> None:
        raise JobsError("option_invalid", "The option does not fit.")

    bench.render = refuses
    job = bench.work()
    assert (job.state, job.failure_code, job.lease_owner) == ("refused", "option_invalid", "")


def test_a_house_that_cannot_sign_says_so_before_the_render(bench: Bench, settings: Any) -> None:
    settings.SIGNER_CHAIN_FILE, settings.SIGNER_KEY_FILE = "chain.pem", ""
    job = bench.work()
    assert (job.state, job.failure_code) == ("failed", "keys_misconfigured")
    assert "belong together" in job.failure_message
    assert bench.rendered == 0


SMALL = [{"index": 0, "size": 40.0}, {"index": 1, "size": 200.0}]


@pytest.mark.parametrize(
    ("role", "screened", "options", "code"),
    [
        ("target", {"kind": "video"}, {"output_mime": "image/png"}, "option_invalid"),
        ("target", {"faces": [{"index": 3, "size": 90.0}]}, {}, "face_unknown"),
        ("target", {"faces": SMALL}, {}, "face_too_small"),
        ("source", {"faces": []}, {}, "face_unknown"),
        ("source", {"faces": SMALL}, {}, "face_too_small"),
    ],
)
def test_what_turns_out_not_to_fit_once_the_files_are_known_is_refused_by_the_gate(
    stage: Any, role: str, screened: dict[str, Any], options: dict[str, Any], code: str
) -> None:
    parts = {"source": stage.upload("source"), "target": stage.upload("target")}
    job = stage.submit(**parts, options=options)
    for name, asset in parts.items():
        known = {"kind": "photo", "faces": [{"index": 0, "size": 90.0}], **(screened if name == role else {})}
        Asset.objects.filter(pk=asset.pk).update(state=Asset.State.READY, analysis_name="analysis/" + "0" * 40, **known)
    tasks.screen_job(job.pk)
    job.refresh_from_db()
    assert (job.state, job.failure_code, job.lease_owner) == ("refused", code, "")
