"""Celery tasks: thin, named, idempotent. Each claims its row first, so a message sent twice does no harm.

The work below stands in its own rooms; here it is only called in order, and every way it can end is given its name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from celery import shared_task
from celery.signals import worker_ready
from django.conf import settings
from django.db import connections, transaction
from django.utils import timezone

from consent import erasure, ledger
from consent import levels as consent_levels
from consent import services as consent_services
from consent.receipts import services as receipts
from watermark import pattern as patterns
from webapp import keys_of_house, storage
from webapp.jobs import finishing, flow, intake, leases, running, upkeep, workfolder
from webapp.jobs.errors import JobsError
from webapp.jobs.face_choice import chosen_face, face_facts
from webapp.jobs.meanwhile import upkeep_meanwhile
from webapp.jobs.models import Asset, Job
from webapp.jobs.options import Options
from webapp.screening import services as screening
from webapp.screening.own_outputs import OwnOutputs
from webapp.screening.stay_down import StayDownList
from worker import rendering, spool
from worker.challenges import live_checks
from worker.drift_watch import watch_drift
from worker.endings import asset_endings, job_endings
from worker.gate import measure as measuring
from worker.gate import policy, profiles, screeners
from worker.gate.signals import liveness, with_measured
from worker.gate.upload import Upload
from worker.inference.client import ensure_engine
from worker.listing import enrol_block, lists_looks, measure_listed
from worker.materials import materialise
from worker.outside_door import outside
from worker.pipeline import run as pipeline
from worker.pipeline.analysis import Analysis
from worker.pipeline.chosen_models import with_models
from worker.rendering import help_render

logger = logging.getLogger(__name__)

__all__ = [
    "enrol_block",
    "expire",
    "help_render",
    "retain",
    "run_job",
    "screen_asset",
    "screen_job",
    "tick",
    "watch_drift",
]

PROGRESS_SECONDS = 1.0  # between two writes of a progress


@shared_task(name="worker.screen_asset")
def screen_asset(asset_id: str) -> None:
    """Examine an upload: what it is, who is in it, whether the gate lets it through."""
    owner = leases.new_owner()
    asset = intake.claim_asset(asset_id, owner)
    if asset is None:
        return
    lease = leases.Lease(Asset, asset_id, owner, [Asset.State.SCREENING])
    with (
        upkeep_meanwhile(),
        lease,
        workfolder.work_folder(asset_id) as folder,
        asset_endings(asset_id, owner, lease),
    ):
        profile = profiles.named(settings.PROFILE)
        path, writable = folder / "upload", folder / "out"  # the child sees the one and writes to the other only
        writable.mkdir(mode=0o700)
        storage.materialise(asset.object_name, asset.key_id, path)
        analysis_path = writable / "analysis"

        limits = measuring.SizeLimits(settings.MAX_PHOTO_BYTES, settings.MAX_VIDEO_BYTES)
        info = measuring.probe(path, asset.name, asset.role, limits)
        pipeline.analyse(
            path,
            analysis_path,
            engine_socket=ensure_engine(settings.HOME),
            work_dir=writable,
            progress=_throttled(lambda shown: _report_asset(asset_id, owner, shown)),
            should_stop=lease.lost,
        )
        upload, analysis = Upload.of(path, info), Analysis.load(analysis_path)
        mark_keys, anchors = keys_of_house.mark_keys(), keys_of_house.anchors_pem()
        listed = StayDownList(asset.sha256)
        with screeners.opened(
            ensure_engine(settings.HOME),
            models_dir=settings.MODELS_DIR,
            operator_models=settings.OPERATOR_MODELS_DIR,
            gate_packs=settings.GATE_PACKS_DIR,
            profile=settings.PROFILE,
            outside=outside(),
        ) as at_hand:
            signals = measuring.measure(
                upload,
                info,
                analysis,
                role=asset.role,
                keys=mark_keys,
                anchors_pem=anchors,
                listed=listed,
                outputs=OwnOutputs(str(asset.organisation_id)),
                screeners=at_hand,
                looks=lists_looks(analysis),
            )
        signals = with_measured(signals, [measure_listed(analysis)])
        decision = policy.decide_asset(signals, profile, asset.role)
        lease.guard()
        with intake.stored_parts(asset) as parts:
            analysis_name = parts.add(analysis_path, "analysis")
            previews = {}
            for face, picture in measuring.previews(upload, analysis, allowed=decision.preview_allowed):
                preview = folder / f"preview-{face}.jpg"
                preview.write_bytes(picture)
                previews[str(face)] = parts.add(preview, "preview")
            with transaction.atomic():
                kept = intake.record_intake(
                    asset_id,
                    owner,
                    media=info.to_dict(),
                    faces=measuring.faces_of(analysis),
                    analysis_name=analysis_name,
                    previews=previews,
                )
                if not (kept and screening.settle_asset(decision, asset_id, owner)):
                    raise leases.LeaseLostError(asset_id)


@shared_task(name="worker.screen_job")
def screen_job(job_id: str) -> None:
    """The gate's question about a job: do its parts belong together, and to the persons who were asked?"""
    owner = leases.new_owner()
    job = running.claim_job(job_id, owner, from_state=Job.State.QUEUED, to_state=Job.State.SCREENING)
    if job is None:
        return
    lease = leases.Lease(Job, job_id, owner, [Job.State.SCREENING])
    with lease, workfolder.work_folder(job_id) as folder, job_endings(job_id, owner, lease):
        profile = profiles.named(settings.PROFILE)
        # Only now are the files known; what does not fit is refused before anybody waits for it.
        swaps = list(job.swaps.select_related("donor_consent").prefetch_related("photos__asset"))
        options = Options.from_mapping(job.options)
        for swap in swaps:
            face = chosen_face(job.target, swap.target_face)
            options.check_target(job.target.kind, job.target.media, face_facts(job.target, face))
            for photo in swap.photos.all():
                chosen_face(photo.asset, photo.face)

        analyses = {}
        for asset in job.inputs():
            path = folder / f"analysis-{asset.pk}"
            storage.materialise(asset.analysis_name, asset.key_id, path)
            analyses[asset.pk] = Analysis.load(path)

        def chosen(asset: Asset, face: int) -> measuring.Chosen:
            return measuring.Chosen(asset.sha256, face, analyses[asset.pk])

        pairs = [
            measuring.Pair(
                [chosen(photo.asset, photo.face) for photo in swap.photos.all()],
                chosen(job.target, swap.target_face),
                measuring.Confirmed.of(swap.donor_consent.photos),
            )
            for swap in swaps
        ]
        people = job.consents()
        levels = [person.assurance for person in people]
        levels += ["attested"] * job.swaps.filter(target_attestation__isnull=False).count()
        relationships = [person.relationship for person in people]
        least = consent_levels.least([job.purpose], settings.PROFILE).level
        signals = measuring.measure_job(
            pairs,
            levels,
            running.asset_profiles(job),
            gaps=running.asset_gaps(job),
            relationships=relationships,
            least=least,
        )
        if checks := live_checks(people):
            signals.append(liveness(checks))
        screening.settle_job(policy.decide_job(signals, profile), job_id, owner)


@shared_task(name="worker.run_job")
def run_job(job_id: str) -> None:
    """Make the output of a job that is ready, prove it, publish it."""
    owner = leases.new_owner()
    job = running.claim_job(job_id, owner)
    if job is None:
        return
    lease = leases.Lease(Job, job_id, owner, flow.AT_WORK)
    with (
        upkeep_meanwhile(),
        lease,
        workfolder.work_folder(job_id) as folder,
        job_endings(job_id, owner, lease),
    ):
        if not running.authorise(job_id, owner):
            return
        evidence = running.screening_of(job)
        if evidence is None:
            raise EvidenceMissingError(job_id)
        spec = materialise(job, folder)
        key = keys_of_house.mark_keys()[0]
        # A house that cannot sign says so before the render, not after.
        if running.awaited_signing(job):
            keys_of_house.check_services()
        else:
            keys_of_house.signer()
        pattern = patterns.derive(bytes(job.mark_id or b""), key).to_bytes()
        progress = _throttled(lambda shown: running.report(job_id, owner, shown))
        spec, cards = with_models(spec, rendering.engine)
        if spec.kind == "video":
            result = rendering.render(job, owner, spec, pattern=pattern, cards=cards, lease=lease, progress=progress)
        else:
            result = pipeline.run_job(
                spec,
                pattern=pattern,
                engine_socket=rendering.engine(),
                progress=progress,
                should_stop=lease.lost,
                cards=cards,
            )
        lease.guard()
        if not running.begin_finishing(job_id, owner):
            return
        rendered = finishing.Rendered(
            path=result.output,
            mime=result.mime,
            duration=result.duration,
            frames=result.frames,
            timings=result.timings,
            quality=result.quality,
            fingerprint=result.fingerprint,
            warnings=result.warnings,
        )
        draft = finishing.finish(job, spec, rendered, evidence, key, pause=lease.wait)
        try:
            running.publish_output(job_id, owner, draft)
        except JobsError:
            # Surely rolled back. After any other error nobody here can tell: the orphan sweep asks the row in peace.
            finishing.discard(draft)
            raise
        rendering.drop_parts(job_id)


@shared_task(name="worker.tick")
def tick() -> None:
    """Each second: deliver the outbox, return what dead workers held, send lost messages again."""
    upkeep.tick()


@shared_task(name="worker.sequence")
def sequence() -> None:
    """Each second: places and checkpoints for the ledger's new entries."""
    ledger.sequence()


@shared_task(name="worker.expire")
def expire() -> None:
    """Each minute: links and permissions whose time is over, receipts left behind, erasures a crash left half done."""
    consent_services.expire_due(timezone.now())
    receipts.issue_due()
    erasure.heal()


@shared_task(name="worker.retain")
def retain() -> None:
    """Each ten minutes: erase what had its time, lost its permission, or belongs to no row."""
    upkeep.retention()
    spool.remove_leftovers(settings.SPOOL_DIR)


@worker_ready.connect
def heal(**_: Any) -> None:
    """At a worker's start: a crash, or a restored backup, must not leave half of a person behind."""
    try:
        erasure.heal(at_start=True)
    except Exception:
        logger.exception("Erasures could not be looked at at the start; the scheduler does it within a minute.")
    finally:
        connections.close_all()


class EvidenceMissingError(Exception):
    """Authorised without a screening record: cannot happen, and must not pass silently if it does."""

    code = "not_screened"


def _throttled(write: Callable[[Mapping[str, Any]], None]) -> Callable[[Any], None]:
    """A progress callback that writes at most once a second, and at once when a new stage begins."""
    last_at, last_stage = 0.0, ""

    def show(progress: Any) -> None:
        nonlocal last_at, last_stage
        now = monotonic()
        if progress.stage == last_stage and now - last_at < PROGRESS_SECONDS:
            return
        last_at, last_stage = now, progress.stage
        write(
            {
                "fraction": progress.fraction,
                "stage": progress.stage,
                "frames_done": progress.frames_done,
                "frames_total": progress.frames_total,
                "eta_seconds": progress.eta_seconds,
            }
        )

    return show


def _report_asset(asset_id: str, owner: str, shown: Mapping[str, Any]) -> None:
    Asset.objects.filter(pk=asset_id, lease_owner=owner).update(progress=dict(shown))
