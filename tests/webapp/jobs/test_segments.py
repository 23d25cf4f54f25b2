"""Segments in the database: who gets one, what counts, what happens to those of the dead and of ended jobs."""

from __future__ import annotations

import io
import os
import random
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from consent import keys
from tests.webapp import cast
from webapp import storage
from webapp.jobs import forgetting, leases, running, segments, services, transitions, upkeep
from webapp.jobs.models import Asset, Job, Segment
from webapp.outbox.models import OutboxMessage

pytestmark = pytest.mark.django_db

State = Segment.State
NAMES = {number: f"{number:064x}" for number in range(6)}


def planned(count: int = 4) -> list[segments.Planned]:
    return [segments.Planned(number, 40 * number, 40 * number + 39, NAMES[number]) for number in range(count)]


@pytest.fixture
def job(stage: Any) -> Job:
    """A video job at work, with four segments of 40 frames."""
    made = stage.run(stage.screened(stage.submit()))
    assert segments.lay_out(made.pk, "worker", planned())
    return made


def finish(segment: Segment, owner: str) -> str:
    name = storage.store_stream(io.BytesIO(b"pixels"), key_id=segment.key_id, prefix=segments.PREFIX)
    assert segments.finish(segment, owner, facts={"number": segment.number}, sha256="0" * 64, object_name=name)
    return name


def silence(segment: Segment) -> None:
    Segment.objects.filter(pk=segment.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=1))


def test_each_segment_is_made_once_and_resets_the_count_of_crashes(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(starts_without_progress=4)
    made = []
    after = None
    while (segment := segments.claim(job.pk, "one", NAMES, after)) is not None:
        finish(segment, "one")
        made.append(segment.number)
        after = segment.number
    assert made == [0, 1, 2, 3]
    job.refresh_from_db()
    assert job.starts_without_progress == 0
    found = segments.standing(job.pk)
    assert (found.segments, found.done, found.frames, found.frames_done) == (4, 4, 160, 160)


@pytest.mark.usefixtures("committed")
def test_eight_workers_at_once_get_each_segment_once(stage: Any) -> None:
    job = stage.run(stage.screened(stage.submit()))
    segments.lay_out(job.pk, "worker", planned())
    got: list[int] = []

    def work(name: str) -> None:
        try:
            while True:
                try:
                    segment = segments.claim(job.pk, name, NAMES)
                except OperationalError as error:  # a test database in memory knows no waiting
                    if "locked" not in str(error):
                        raise
                    continue
                if segment is None:
                    return
                got.append(segment.number)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [0, 1, 2, 3]


def test_a_plan_laid_out_again_keeps_what_is_done_and_remakes_what_is_named_otherwise(job: Job) -> None:
    first, second = (segments.claim(job.pk, "one", NAMES, after) for after in (None, 0))
    assert first is not None
    assert second is not None
    finish(first, "one")
    finish(second, "one")
    other = [*planned()[:1], segments.Planned(1, 40, 79, "f" * 64), *planned()[2:]]
    assert segments.lay_out(job.pk, "worker", other)
    rows = segments.of(job.pk)
    assert [row.state for row in rows] == [State.DONE, State.PENDING, State.PENDING, State.PENDING]
    assert rows[1].object_name == ""
    assert len({row.key_id for row in rows}) == 1
    assert not segments.lay_out(job.pk, "somebody else", planned())


def test_a_worker_of_another_release_leaves_the_segments_alone(job: Job) -> None:
    assert segments.claim(job.pk, "newer", dict.fromkeys(range(4), "e" * 64)) is None


def test_workers_take_stretches_of_their_own() -> None:
    everything = set(range(20))
    assert segments.choose(everything, set(), None) == 0
    assert segments.choose(everything - {0}, {0}, None) == 10
    assert segments.choose(everything - {0, 10}, {0, 10}, None) in {5, 15}
    assert segments.choose({5, 6, 12}, {4}, 11) == 12
    assert segments.choose({5, 6, 12}, {4}, None) == 12  # somebody is on the way to 5
    assert segments.choose(set(), {4}, None) is None
    chance = random.Random(3)
    for _ in range(200):
        free = set(chance.sample(range(30), chance.randrange(1, 30)))
        assert segments.choose(free, everything - free, chance.choice([None, 3, 29])) in free


def test_a_segment_of_a_silent_worker_is_given_to_another_and_the_first_cannot_finish_it(job: Job) -> None:
    segment = segments.claim(job.pk, "slow", NAMES)
    assert segment is not None
    silence(segment)
    again = segments.claim(job.pk, "quick", {0: NAMES[0]})
    assert again is not None
    assert again.pk == segment.pk
    name = storage.store_stream(io.BytesIO(b"late"), key_id=segment.key_id, prefix=segments.PREFIX)
    assert not segments.finish(segment, "slow", facts={}, sha256="1" * 64, object_name=name)
    finish(again, "quick")


def test_the_reaper_returns_a_segment_and_asks_for_help(job: Job) -> None:
    segment = segments.claim(job.pk, "dead", NAMES)
    assert segment is not None
    silence(segment)
    OutboxMessage.objects.all().delete()
    assert segments.reap() == 1
    segment.refresh_from_db()
    assert (segment.state, segment.lease_owner, segment.starts) == (State.PENDING, "", 1)
    assert OutboxMessage.objects.count() == 1
    assert segments.reap() == 0


def test_a_segment_that_ends_its_worker_five_times_fails_the_job(job: Job) -> None:
    for _ in range(5):
        segment = segments.claim(job.pk, "dead", {0: NAMES[0]})
        assert segment is not None
        silence(segment)
    assert segments.claim(job.pk, "careful", {0: NAMES[0]}) is None
    assert segments.worn_out(job.pk)
    assert segments.reap() == 1
    job.refresh_from_db()
    assert (job.state, job.failure_code) == ("failed", "worker_crash")


def test_what_was_given_back_does_not_count_as_a_crash(job: Job) -> None:
    for _ in range(9):
        segment = segments.claim(job.pk, "careful", {0: NAMES[0]})
        assert segment is not None
        assert segments.give_back(segment.pk, "careful")
    assert not segments.give_back(segment.pk, "careful")


def test_the_sweeper_asks_once_per_job_and_minute(job: Job) -> None:
    assert segments.call_helpers(job.pk) == 4
    OutboxMessage.objects.all().delete()
    assert segments.sweep() == 0
    Segment.objects.update(queued_at=timezone.now() - timedelta(minutes=2))
    assert segments.sweep() == 1
    assert segments.sweep() == 0
    assert OutboxMessage.objects.count() == 1


@pytest.mark.parametrize("how", ["cancel", "withdraw", "fail"])
def test_the_end_of_a_job_takes_its_segments_away_at_once_and_their_parts_at_the_next_round(job: Job, how: str) -> None:
    done = segments.claim(job.pk, "one", NAMES)
    assert done is not None
    name = finish(done, "one")
    busy = segments.claim(job.pk, "one", NAMES, 0)
    assert busy is not None
    if how == "cancel":
        services.cancel_job(job)
    elif how == "withdraw":
        from consent import services as consents

        consents.withdraw_consent(cast.donor(job))
    else:
        running.fail_job(job.pk, "worker", "internal_error", "")
    assert not leases.held(Segment, str(busy.pk), "one", [State.RUNNING])
    assert segments.claim(job.pk, "two", NAMES) is None
    late = storage.store_stream(io.BytesIO(b"late"), key_id=busy.key_id, prefix=segments.PREFIX)
    assert not segments.finish(busy, "one", facts={}, sha256="1" * 64, object_name=late)
    assert upkeep.tick().dropped_parts == 1
    assert not storage.exists(name)
    assert not Segment.objects.filter(job=job).exists()
    with pytest.raises(keys.KeyDestroyedError):
        keys.data_key(done.key_id)


def test_erasure_destroys_parts_even_of_a_job_that_goes_on(job: Job) -> None:
    from consent.erasure import Scope

    segment = segments.claim(job.pk, "one", NAMES)
    assert segment is not None
    name = finish(segment, "one")
    scope = Scope(**{**_empty_scope(), "consent_ids": (cast.donor(job).pk,)})
    lines = {line.what: line.count for line in forgetting.forget_person(scope, look_only=True)}
    assert lines["parts of results that were being made"] == 1
    assert storage.exists(name)
    lines = {line.what: line.count for line in forgetting.forget_person(scope, look_only=False)}
    assert lines["parts of results that were being made"] == 1
    assert not storage.exists(name)


def _empty_scope() -> dict[str, Any]:
    from dataclasses import fields

    from consent.erasure import Scope

    return {field.name: () for field in fields(Scope)}


def test_parts_are_known_to_the_orphan_sweep(job: Job) -> None:
    segment = segments.claim(job.pk, "one", NAMES)
    assert segment is not None
    name = finish(segment, "one")
    lost = storage.store_stream(io.BytesIO(b"lost"), key_id=segment.key_id, prefix=segments.PREFIX)
    old = (timezone.now() - timedelta(days=2)).timestamp()
    for each in (name, lost):
        os.utime(storage._place(each), (old, old))
    upkeep.sweep_orphans()
    assert storage.exists(name)
    assert not storage.exists(lost)


@pytest.mark.parametrize(
    ("kind", "media", "queue"),
    [
        ("photo", {}, "interactive"),
        ("video", {"frames": 48}, "interactive"),
        ("video", {"frames": None, "duration": 1.0, "fps": 30.0}, "interactive"),
        ("video", {"frames": 49}, "offline"),
        ("video", {"frames": None, "duration": 600.0, "fps": 30.0}, "offline"),
        ("video", {}, "offline"),
    ],
)
def test_long_videos_wait_apart_from_what_somebody_waits_for(
    stage: Any, kind: str, media: dict[str, Any], queue: str
) -> None:
    job = stage.submit()
    Asset.objects.filter(pk=job.target_id).update(kind=kind, media=media)
    assert transitions.run_queue(job.pk) == queue


def test_a_clip_of_one_segment_is_short() -> None:
    from worker.pipeline.segments import MOST_FRAMES

    assert transitions.SHORT_CLIP == MOST_FRAMES
