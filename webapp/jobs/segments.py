"""The segments of a video job: planned, claimed, finished, given back and thrown away. Counted here, in the database.

As with a job, each step is one conditional UPDATE, and a segment belongs to one worker at a time. The job's own worker
makes segments like any other; whoever sees that all are done and holds the job goes on to the join, which is therefore
run once, and again only if that worker dies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, Q, QuerySet, Sum
from django.utils import timezone

from consent import keys
from webapp import storage
from webapp.jobs import flow, leases, transitions
from webapp.jobs.intake import WORN_OUT
from webapp.jobs.models import Job, Segment
from webapp.outbox import services as outbox

TASK = "worker.help_render"
PREFIX = "part"  # of stored objects
ALIVE = (Job.State.READY, Job.State.RUNNING)
"""States of a job in which its segments are worked on: between two workers of its own it is ready, and they go on."""
MOST_HELPERS = 32  # workers that are asked to help with one job
RESEND_AFTER = timedelta(seconds=60)
AT_ONCE = 200
State = Segment.State
FRESH: dict[str, Any] = {
    "state": State.PENDING,
    "lease_owner": "",
    "lease_expires_at": None,
    "frames_done": 0,
    "facts": {},
    "sha256": "",
    "object_name": "",
    "finished_at": None,
}


@dataclass(frozen=True)
class Planned:
    """One segment as the pipeline plans it: frames `first` to `last`, and the name of its result."""

    number: int
    first: int
    last: int
    address: str


@dataclass(frozen=True)
class Standing:
    """How far a job's segments are."""

    segments: int
    done: int
    frames: int
    frames_done: int


def lay_out(job_id: str, owner: str, planned: Sequence[Planned]) -> bool:
    """Write the plan of a job that `owner` works on; what is done under the same address stays done.

    Again changes nothing. A plan that differs (another release planned before) starts anew. False if the job is not
    this owner's any more.
    """
    key_id = Segment.objects.filter(job=job_id).values_list("key_id", flat=True).first() or keys.create_key(
        f"parts:{job_id}"
    )
    with transaction.atomic():
        if not Job.objects.select_for_update().filter(pk=job_id, lease_owner=owner, state=Job.State.RUNNING).exists():
            return False
        there = {row.number: row for row in Segment.objects.filter(job=job_id)}
        if len(there) > len(planned):
            Segment.objects.filter(job=job_id, number__gte=len(planned)).delete()  # its object: the orphan sweep
        missing = []
        for each in planned:
            values = {"first_frame": each.first, "last_frame": each.last, "address": each.address}
            row = there.get(each.number)
            if row is None:
                missing.append(Segment(job_id=job_id, number=each.number, key_id=key_id, **values))
            elif any(getattr(row, name) != value for name, value in values.items()):
                transaction.on_commit(lambda name=row.object_name: storage.delete(name))  # type: ignore[misc]
                Segment.objects.filter(pk=row.pk).update(**values, **FRESH, starts_without_progress=0)
        Segment.objects.bulk_create(missing)
        return True


def call_helpers(job_id: str, most: int = MOST_HELPERS) -> int:
    """Ask other workers to help: one message per segment that nobody has yet, up to `most`; how many."""
    with transaction.atomic():
        waiting = Segment.objects.filter(job=job_id, state=State.PENDING, job__state__in=ALIVE)
        count = min(waiting.count(), most)
        waiting.update(queued_at=timezone.now())
        for _ in range(count):
            outbox.enqueue("task", {"name": TASK, "args": [job_id], "queue": transitions.OFFLINE_QUEUE})
        return count


def claim(job_id: str, owner: str, addresses: Mapping[int, str], after: int | None = None) -> Segment | None:
    """Take a segment to render; None where there is none to be had.

    `addresses` are those this worker would make: where the row has another, a worker of another release or with another
    encoder planned it, and it is left alone. `after` is the number of the one made last; its follower costs least.
    """
    while True:
        rows = list(
            Segment.objects.filter(job=job_id, job__state__in=ALIVE)
            .order_by("number")
            .values_list("number", "pk", "state", "address", "lease_expires_at", "starts_without_progress")
        )
        now = timezone.now()
        free: dict[int, str] = {}
        busy: set[int] = set()
        for number, pk, state, address, expires, starts in rows:
            silent = state == State.RUNNING and expires is not None and expires < now
            if state == State.RUNNING and not silent:
                busy.add(number)
            elif state != State.DONE and addresses.get(number) == address:
                free |= {number: str(pk)} if starts < settings.MAX_STARTS_WITHOUT_PROGRESS else {}
        number_ = choose(set(free), busy, after)
        if number_ is None:
            return None
        with transaction.atomic():
            alive = Job.objects.select_for_update().filter(pk=job_id, state__in=ALIVE).exists()
            if alive and leases.claim(Segment, free[number_], owner, [State.PENDING, State.RUNNING], State.RUNNING):
                Segment.objects.filter(pk=free[number_], lease_owner=owner).update(frames_done=0)
                return Segment.objects.get(pk=free[number_])


def choose(free: set[int], busy: set[int], after: int | None) -> int | None:
    """Which of the `free` numbers to take: the next one, else where nobody is on the way, else far from everybody.

    Workers so come to stretches of their own, and each goes on where its decoder stands.
    """
    if not free:
        return None
    if after is not None and after + 1 in free:
        return after + 1
    runs: list[list[int]] = []
    for number in sorted(free):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    unclaimed = [run for run in runs if run[0] - 1 not in busy]
    if unclaimed:
        return max(unclaimed, key=len)[0]
    longest = max(runs, key=len)
    return longest[len(longest) // 2]


def note_frames(pk: int, owner: str, frames: int) -> None:
    """Show how far a segment is."""
    Segment.objects.filter(pk=pk, lease_owner=owner).update(frames_done=frames)


def finish(segment: Segment, owner: str, *, facts: Mapping[str, Any], sha256: str, object_name: str) -> bool:
    """The part is stored: the segment is done, and the job's crashes are counted anew. False if it was taken away.

    The caller deletes the object then.
    """
    with transaction.atomic():
        # The job first, as everybody does: two rows that are locked in two orders wait for each other.
        if not Job.objects.select_for_update().filter(pk=segment.job_id, state__in=ALIVE).exists():
            return False
        rows = Segment.objects.filter(pk=segment.pk, lease_owner=owner, state=State.RUNNING, address=segment.address)
        done = rows.update(
            state=State.DONE,
            lease_owner="",
            lease_expires_at=None,
            starts_without_progress=0,
            frames_done=segment.last_frame - segment.first_frame + 1,
            facts=dict(facts),
            sha256=sha256,
            object_name=object_name,
            finished_at=timezone.now(),
        )
        if done:
            Job.objects.filter(pk=segment.job_id).update(starts_without_progress=0)
        return bool(done)


def give_back(pk: int, owner: str) -> bool:
    """Something else than a crash ended the work on a segment: another may take it, and the start does not count."""
    return bool(
        Segment.objects.filter(pk=pk, lease_owner=owner, state=State.RUNNING).update(
            **FRESH, starts_without_progress=F("starts_without_progress") - 1
        )
    )


def make_again(segment: Segment) -> bool:
    """A stored part is not what it was: forget it, so that the segment is rendered again. False if it was anyway."""
    rows = Segment.objects.filter(pk=segment.pk, state=State.DONE, object_name=segment.object_name)
    if not rows.update(**FRESH):
        return False
    storage.delete(segment.object_name)
    return True


def of(job_id: str) -> list[Segment]:
    """A job's segments in order."""
    return list(Segment.objects.filter(job=job_id).order_by("number"))


def standing(job_id: str) -> Standing:
    """How far a job's segments are, those being worked on by their frames."""
    found = Segment.objects.filter(job=job_id).aggregate(
        segments=Count("pk"),
        done=Count("pk", filter=Q(state=State.DONE)),
        frames=Sum(F("last_frame") - F("first_frame") + 1),
        frames_done=Sum("frames_done"),
    )
    return Standing(found["segments"], found["done"], found["frames"] or 0, found["frames_done"] or 0)


def worn_out(job_id: str) -> bool:
    """Has a segment of the job ended its worker so often that nobody takes it any more?"""
    cap = settings.MAX_STARTS_WITHOUT_PROGRESS
    rows = Segment.objects.filter(job=job_id, starts_without_progress__gte=cap).exclude(state=State.DONE)
    return rows.filter(Q(state=State.PENDING) | Q(lease_expires_at__lt=timezone.now())).exists()


def stop(job: Job) -> None:
    """The job has ended, in this transaction: take its segments from whoever works on them.

    Their workers learn it within a second from their rows; what is stored goes in the next round of upkeep.
    """
    Segment.objects.filter(job=job, state=State.RUNNING).update(
        state=State.PENDING, lease_owner="", lease_expires_at=None
    )


def drop(job_id: str) -> int:
    """Destroy the parts of a job: their key, then the objects, then the rows; how many. Any number of times."""
    rows = Segment.objects.filter(job=job_id)
    found = list(rows.values_list("key_id", "object_name"))
    for key_id in {key_id for key_id, _ in found}:
        keys.destroy_key(key_id)
    for _, name in found:
        storage.delete(name)
    rows.delete()
    return sum(1 for _, name in found if name)


def ended() -> QuerySet[Segment]:
    """Segments of jobs that have ended."""
    return Segment.objects.filter(job__state__in=Job.FINAL)


def drop_ended(now: datetime | None = None) -> int:
    """Destroy the parts of all jobs that have ended; how many."""
    jobs: Iterable[str] = ended().order_by().values_list("job_id", flat=True).distinct()[:AT_ONCE]
    return sum(drop(job_id) for job_id in list(jobs))


def reap() -> int:
    """Give back segments whose worker fell silent; a job with one that nobody may start again fails; how many."""
    now = timezone.now()
    number = 0
    for lost in leases.expired(Segment, [State.RUNNING]):
        rows = Segment.objects.filter(pk=lost.pk, lease_owner=lost.owner, lease_expires_at__lt=now, state=State.RUNNING)
        segment = rows.first()
        if segment is None or not rows.update(**FRESH):
            continue
        number += 1
        if segment.starts_without_progress >= settings.MAX_STARTS_WITHOUT_PROGRESS:
            states = (*ALIVE, *flow.AT_WORK)
            transitions.move(segment.job_id, states, Job.State.FAILED, code="worker_crash", message=WORN_OUT)
        else:
            call_helpers(segment.job_id, most=1)
    return number


def sweep() -> int:
    """Ask for help again with jobs whose segments have waited long: the messages may have been lost; how many jobs."""
    waiting = Segment.objects.filter(
        state=State.PENDING, job__state__in=ALIVE, queued_at__lt=timezone.now() - RESEND_AFTER
    )
    jobs = list(waiting.order_by().values_list("job_id", flat=True).distinct()[:AT_ONCE])
    return sum(1 for job_id in jobs if call_helpers(job_id, most=1))


def objects() -> set[str]:
    """The names of all stored parts."""
    return set(Segment.objects.exclude(object_name="").values_list("object_name", flat=True))
