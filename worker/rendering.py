"""The rendering of a long video by many workers: what one of them does, be it the job's own or one that helps.

A worker claims a segment, renders it in a media child that stays open, stores the part and claims the next. The job's
own worker does the same, waits until nothing is left, and joins the parts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Self

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings

from consent import keys
from watermark import pattern as patterns
from webapp import keys_of_house, storage
from webapp.jobs import leases, segments, workfolder
from webapp.jobs.meanwhile import upkeep_meanwhile
from webapp.jobs.models import Job, Segment
from worker.endings import DATABASE_AWAY, described, drop_broken_connections
from worker.inference.client import ensure_engine
from worker.inference.packages import sha256_of
from worker.inference.registry import ModelSet
from worker.materials import fetch, materialise
from worker.media.errors import MediaError
from worker.pipeline import run as pipeline
from worker.pipeline import segments as planning
from worker.pipeline.analysis import Analysis
from worker.pipeline.chosen_models import with_models
from worker.pipeline.errors import PipelineError
from worker.spec import JobSpec

logger = logging.getLogger(__name__)

TURN_SECONDS = 60.0  # a helper asks again after this long, so that another job has its turn
WAIT_SECONDS = 0.5  # between two looks whether others have finished
SHOW_SECONDS = 1.0  # between two writes of a segment's progress
JOIN_TRIES = 3  # parts that come back damaged each time are the storage's fault, not bad luck


def render(
    job: Job,
    owner: str,
    spec: JobSpec,
    *,
    pattern: bytes,
    cards: ModelSet,
    lease: leases.Lease,
    progress: Callable[[pipeline.Progress], None],
) -> pipeline.JobResult:
    """Render a video job whose lease `owner` holds, together with whoever helps, and join it to `spec.output_path`.

    `spec` and `cards` are what `with_models` gave. Resumes where an earlier worker's death left it.
    Raises what `pipeline.run_job` raises, LeaseLostError, PipelineError `worker_crash` or `part_invalid`, StorageError
    and the key store's errors.
    """
    work = _Work.of(job.pk, spec, pattern, cards)
    rows = [segments.Planned(each.number, each.first, each.last, work.addresses[each.number]) for each in work.segments]
    if not segments.lay_out(job.pk, owner, rows):
        raise leases.LeaseLostError(job.pk)
    segments.call_helpers(job.pk, most=min(len(rows) - 1, segments.MOST_HELPERS))
    show = _Shown(job.pk, progress)
    for _ in range(JOIN_TRIES):
        _render_all(work, lease, show)
        parts = _fetch_parts(job.pk, spec, lease)
        if parts is None:
            continue
        try:
            return pipeline.join_job(spec, parts, progress=progress, should_stop=lease.lost)
        finally:
            for _, path in parts:
                path.unlink(missing_ok=True)
    raise PipelineError("part_invalid", "again and again")


def drop_parts(job_id: str) -> None:
    """The job has ended well: its parts are of no more use. Never raises; the next round of upkeep does it else."""
    try:
        segments.drop(job_id)
    except Exception:
        logger.exception("The parts of job %s could not be deleted; upkeep tries again.", job_id)


@shared_task(name=segments.TASK)
def help_render(job_id: str) -> None:
    """Render segments of somebody else's job as long as there are any, for a turn; then ask to be called again."""
    job = Job.objects.select_related("target").filter(pk=job_id, state__in=segments.ALIVE).first()
    waiting = Segment.objects.filter(job=job_id, state=Segment.State.PENDING)
    if job is None or job.mark_id is None or not waiting.exists():
        return
    end, made = monotonic() + TURN_SECONDS, 0
    try:
        with upkeep_meanwhile(), workfolder.work_folder(job_id) as folder:
            spec, cards = with_models(materialise(job, folder), engine)
            key = keys_of_house.mark_keys()[0]
            pattern = patterns.derive(bytes(job.mark_id or b""), key).to_bytes()
            work = _Work.of(job.pk, spec, pattern, cards)
            made = _render_some(work, lambda: False, lambda: monotonic() > end, lambda frames: None)
    except SoftTimeLimitExceeded:
        pass
    except Exception as error:
        # What is wrong with the job, its own worker finds out as well, and ends it by its name.
        code, _ = described(error)
        logger.warning("Helping with job %s ended with %s.", job_id, code, exc_info=code == "internal_error")
        if code == DATABASE_AWAY:
            drop_broken_connections()
        return
    if made:  # else what is left is not for this worker: to be called at once again would never end
        segments.call_helpers(job_id, most=1)


@dataclass(frozen=True)
class _Work:
    """What one worker needs to render any segment of a job; `addresses` name the results that it would make."""

    job_id: str
    spec: JobSpec
    pattern: bytes
    cards: ModelSet
    segments: tuple[planning.Segment, ...]
    addresses: dict[int, str]

    @classmethod
    def of(cls, job_id: str, spec: JobSpec, pattern: bytes, cards: ModelSet) -> Self:
        """Plan the job's segments. Raises PipelineError, AnalysisError."""
        found = planning.plan(Analysis.load(spec.analysis_path))
        namer = planning.Namer(spec, pattern)
        return cls(job_id, spec, pattern, cards, found, {each.number: namer.address(each) for each in found})


class _Shown:
    """The progress of the whole, from what all workers have written down and this one knows."""

    def __init__(self, job_id: str, progress: Callable[[pipeline.Progress], None]) -> None:
        self._job_id = job_id
        self._progress = progress
        self._begun = monotonic()
        self._first: int | None = None
        self._asked_at = 0.0

    def __call__(self, frames: int = 0) -> None:
        """Show it, at most once a second."""
        now = monotonic()
        if now - self._asked_at < SHOW_SECONDS:
            return
        self._asked_at = now
        found = segments.standing(self._job_id)
        done, total = found.frames_done, max(1, found.frames)
        if self._first is None:
            self._first = done
        made = done - self._first
        eta = (now - self._begun) / made * (total - done) if made > 0 else None
        self._progress(pipeline.Progress(min(1.0, done / total), "encode", done, total, eta))


def _render_all(work: _Work, lease: leases.Lease, show: _Shown) -> None:
    """Until every segment is done, by whomever."""
    while True:
        _render_some(work, lease.lost, lambda: False, show)
        lease.guard()
        found = segments.standing(work.job_id)
        if found.done == found.segments == len(work.segments):
            return
        if segments.worn_out(work.job_id):
            raise PipelineError("worker_crash")
        show()
        lease.wait(WAIT_SECONDS)


def _render_some(
    work: _Work,
    lost: Callable[[], bool],
    enough: Callable[[], bool],
    show: Callable[[int], None],
) -> int:
    """Render what can be had, one segment after the other, until there is none, it is `enough`, or the job is `lost`.

    Returns how many.
    The child is opened for the first segment, with its lease held already. Raises what rendering raises; the segment
    in work is given back first.
    """
    owner = leases.new_owner()
    segment = segments.claim(work.job_id, owner, work.addresses)
    if segment is None:
        return 0
    made = 0
    current: list[leases.Lease] = []

    def stop() -> bool:
        return lost() or (bool(current) and current[-1].lost())

    try:
        current.append(_held(segment, owner))
        with pipeline.segment_worker(
            work.spec, pattern=work.pattern, engine_socket=engine(), should_stop=stop, cards=work.cards
        ) as worker:
            while segment is not None:
                if stop():
                    return made
                _make(work, segment, owner, worker, show)
                current.pop().__exit__(None, None, None)
                made += 1
                if enough() or lost():
                    return made
                segment = segments.claim(work.job_id, owner, work.addresses, after=segment.number)
                if segment is not None:
                    current.append(_held(segment, owner))
    except MediaError as error:
        if error.code == "canceled" and stop():
            return made  # the job has ended, or somebody else has the segment
        raise
    finally:
        for each in current:
            each.__exit__(None, None, None)
        if segment is not None:
            segments.give_back(segment.pk, owner)
    return made


def engine() -> Path:
    """The socket of the engine of this worker's device. Raises ModelError."""
    return ensure_engine(settings.ENGINE_HOME, models_dir=settings.MODELS_DIR)


def _held(segment: Segment, owner: str) -> leases.Lease:
    lease = leases.Lease(Segment, str(segment.pk), owner, [Segment.State.RUNNING])
    return lease.__enter__()


def _make(
    work: _Work,
    segment: Segment,
    owner: str,
    worker: pipeline.SegmentWorker,
    show: Callable[[int], None],
) -> None:
    """Render and store one claimed segment."""
    path = work.spec.output_path.with_name(f"part-{segment.number}.mp4")
    shown_at = 0.0

    def follow(frames: int) -> None:
        nonlocal shown_at
        if monotonic() - shown_at >= SHOW_SECONDS:
            shown_at = monotonic()
            segments.note_frames(segment.pk, owner, frames)
            show(frames)

    try:
        part = worker.render(work.segments[segment.number], path, follow)
        digest = sha256_of(path)
        name = storage.store_file(path, key_id=segment.key_id, prefix=segments.PREFIX)
        kept = False
        try:
            kept = segments.finish(segment, owner, facts=part.to_dict(), sha256=digest, object_name=name)
        finally:
            if not kept:
                _delete(name)
    finally:
        path.unlink(missing_ok=True)


def _delete(name: str) -> None:
    if not Segment.objects.filter(object_name=name).exists():
        storage.delete(name)


def _fetch_parts(job_id: str, spec: JobSpec, lease: leases.Lease) -> list[tuple[planning.Part, Path]] | None:
    """All stored parts as plain files, each checked; None if one was not what it was, and will be made again."""
    found: list[tuple[planning.Part, Path]] = []
    whole = True
    for segment in segments.of(job_id):
        lease.guard()
        path = spec.output_path.with_name(f"part-{segment.number}.mp4")
        try:
            fetch(segment.object_name, segment.key_id, path, segment.sha256)
            part = planning.Part.from_dict(segment.facts)
            if (part.number, part.frames) != (segment.number, segment.last_frame - segment.first_frame + 1):
                raise PipelineError("part_invalid", "its facts")
            found.append((part, path))
        except (keys.TamperedError, keys.TruncatedError, PipelineError, storage.StorageError) as error:
            if isinstance(error, storage.StorageError) and error.code not in {"object_missing", "object_changed"}:
                raise
            logger.warning("Part %s of job %s is damaged (%s); it is made again.", segment.number, job_id, error)
            path.unlink(missing_ok=True)
            segments.make_again(segment)
            whole = False
    if whole:
        return found
    for _, path in found:
        path.unlink(missing_ok=True)
    return None
