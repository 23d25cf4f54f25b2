"""The verbs of assets, jobs and outputs: the only writers of their states, and what the pages and the API read.

Each function is one transaction. The parts a worker uses stand in `running`, the periodic ones in `upkeep`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from consent import services as consent_services
from consent.models import Attestation, Consent
from consent.policy import covers
from webapp.accounts.models import Organisation, User
from webapp.jobs import flow, hiding, permission, transitions
from webapp.jobs.asking import request_consent
from webapp.jobs.errors import JobsError, not_found
from webapp.jobs.face_choice import chosen_face, face_facts, face_indices
from webapp.jobs.flow import on_consent_changed
from webapp.jobs.intake import asset_preview, receive_asset
from webapp.jobs.models import Asset, Job, JobEvent, JobSource, JobSwap, Output
from webapp.jobs.options import PURPOSES, Options
from webapp.jobs.reading import asset_state, job_state, output_file, output_state
from webapp.jobs.running import authorise, claim_job, publish_output
from webapp.profile import is_live

__all__ = [
    "JobsError",
    "SwapWanted",
    "asset_preview",
    "asset_state",
    "authorise",
    "cancel_job",
    "chosen_face",
    "claim_job",
    "confirm_deletion",
    "job_state",
    "on_consent_changed",
    "output_file",
    "output_state",
    "publish_output",
    "receive_asset",
    "request_consent",
    "submit_job",
    "take_down_output",
]

MAX_SWAPS = 4  # replacements of one job
MAX_SOURCES = 5  # photos of one replacement
State = Job.State


@dataclass(frozen=True)
class SwapWanted:
    """One replacement that is asked for: `sources` (each a photo and the donor's face in it) onto `target_face`.

    The replaced person is covered by `target_consent` or by `target_attestation`, exactly one of the two. The same
    consent may stand in several replacements if it covers each of them; all together are one use of it.
    """

    target_face: int
    sources: Sequence[tuple[Asset, int]]
    donor_consent: Consent
    target_consent: Consent | None = None
    target_attestation: Attestation | None = None

    @property
    def consents(self) -> list[Consent]:
        """The donor's, and the replaced person's if they were asked."""
        return [self.donor_consent, *([self.target_consent] if self.target_consent is not None else [])]


@consent_services.survives_deadlocks
def submit_job(
    organisation: Organisation,
    user: User | None,
    *,
    target: Asset,
    swaps: Sequence[SwapWanted],
    declaration: Attestation,
    purpose: str,
    options: Mapping[str, Any],
    livemode: bool,
) -> Job:
    """Make a job: each of `swaps` replaces another face of `target`; a face that none of them names stays untouched.

    With nobody who answers for a replaced person the answer is 422 `consent_required` and no row. A thing of another
    organisation is not found. In the evaluation profile a job is never live. The job waits by itself for screening and
    for consents still open; it goes on when all its consents are given, and ends with the first that does not hold.

    Raises JobsError: not_found (404), swap_required, too_many_swaps, face_twice, consent_required, covered_twice,
    declaration_required, declaration_used, purpose_unknown, option_unknown, option_invalid, model_missing,
    source_required, too_many_sources, asset_wrong_role, asset_refused, asset_failed, asset_erased, source_not_photo,
    face_unknown, and the consent's own codes (`consent_withdrawn`, …).
    """
    chosen = Options.from_mapping(options)
    chosen.check_label()
    chosen.check_models()
    if purpose not in PURPOSES:
        raise JobsError("purpose_unknown", f"The purpose must be one of {', '.join(PURPOSES)}; no job was made.")
    _check_count(swaps)
    _check_assets(organisation, target, swaps, chosen)
    _check_cover(organisation, target, swaps, declaration)
    for swap in swaps:
        _check_faces(swap.donor_consent, swap.sources)
    with transaction.atomic():
        # Held until the job is there: a withdrawal comes before it, and the job is not made, or after, and ends it.
        consent_services.hold({consent.pk for swap in swaps for consent in swap.consents})
        job = Job(
            organisation=organisation,
            submitted_by=user if user is not None and user.pk else None,
            livemode=livemode and is_live(),
            target=target,
            declaration=declaration,
            purpose=purpose,
            options=chosen.to_dict(),
        )
        try:
            with transaction.atomic():
                job.save(force_insert=True)
        except IntegrityError:
            _check_unused(declaration)  # somebody else has just used it
            raise
        for number, wanted in enumerate(swaps):
            row = JobSwap.objects.create(
                job=job,
                position=number,
                target_face=wanted.target_face,
                donor_consent=wanted.donor_consent,
                target_consent=wanted.target_consent,
                target_attestation=wanted.target_attestation,
            )
            JobSource.objects.bulk_create(
                JobSource(swap=row, asset=asset, face=face, position=position)
                for position, (asset, face) in enumerate(wanted.sources)
            )
        _check_binding(job)
        JobEvent.objects.create(job=job, from_state="", to_state=State.QUEUED, code="submitted")
        flow.assets_changed(job.pk)
    job.refresh_from_db()
    return job


def cancel_job(job: Job) -> Job:
    """The account no longer wants the job. An ended one stays as it is; a worker in the middle stops within seconds.

    Raises JobsError job_succeeded (409) when there is a published output already.
    """
    states = (*flow.BEFORE_RUN, *flow.AT_WORK)
    moved = transitions.move(
        job.pk,
        states,
        State.CANCELED,
        code="canceled",
        message="The job was canceled; nothing was published.",
        cancel_requested=True,
    )
    job.refresh_from_db()
    if not moved and job.state == State.SUCCEEDED:
        raise JobsError(
            "job_succeeded", "The job has finished already and its output exists. Nothing was changed.", status=409
        )
    return job


def take_down_output(output: Output, moderator: User, reason: str) -> Output:
    """A moderator hides a published output for good; verification says so. Again is fine, a withdrawn one stays that.

    Raises JobsError: moderator_required (403), reason_required (422).
    """
    if not (moderator.is_active and moderator.is_staff):
        raise JobsError("moderator_required", "Only a moderator of the house takes an output down.", status=403)
    reason = " ".join(reason.split())
    if not reason:
        raise JobsError("reason_required", "A take-down needs its reason. Nothing was changed; add one.")
    with transaction.atomic():
        if hiding.hide(Output.objects.filter(pk=output.pk), Output.Permission.TAKEN_DOWN):
            transitions.note(output.job_id, "taken_down", reason)
    output.refresh_from_db()
    return output


def confirm_deletion(output: Output) -> Output:
    """The account says that it has deleted its copies of a result whose permission ended. Again changes nothing.

    Raises JobsError permission_in_force (409): then nobody has to delete anything.
    """
    if output.permission == Output.Permission.IN_FORCE:
        raise JobsError(
            "permission_in_force",
            "The permission for this output is in force, so nothing has to be deleted. Nothing was recorded.",
            status=409,
        )
    with transaction.atomic():
        if Output.objects.filter(pk=output.pk, copies_deleted_at__isnull=True).update(copies_deleted_at=timezone.now()):
            transitions.note(output.job_id, "copies_deleted", "The account says that it deleted its copies.")
    output.refresh_from_db()
    return output


def _check_count(swaps: Sequence[SwapWanted]) -> None:
    if not swaps:
        raise JobsError("swap_required", "A job replaces at least one face; no job was made. Name one.")
    if len(swaps) > MAX_SWAPS:
        raise JobsError(
            "too_many_swaps",
            f"A job replaces up to {MAX_SWAPS} faces, this one names {len(swaps)}; no job was made. Make several jobs.",
        )
    if len({swap.target_face for swap in swaps}) != len(swaps):
        raise JobsError("face_twice", "Two replacements name the same face of the target; no job was made. Drop one.")
    for swap in swaps:
        if not swap.sources:
            raise JobsError(
                "source_required", "A job needs at least one photo of each face donor; no job was made. Add one."
            )
        if len(swap.sources) > MAX_SOURCES or len({asset.pk for asset, _ in swap.sources}) != len(swap.sources):
            raise JobsError(
                "too_many_sources", f"Choose up to {MAX_SOURCES} different source photos for a face; no job was made."
            )


def _check_assets(organisation: Organisation, target: Asset, swaps: Sequence[SwapWanted], chosen: Options) -> None:
    faces = [(target, swap.target_face, "target") for swap in swaps]
    faces += [(asset, face, "source") for swap in swaps for asset, face in swap.sources]
    for asset, face, role in faces:
        if asset.organisation_id != organisation.pk:
            raise not_found("asset")
        if asset.role != role:
            raise JobsError("asset_wrong_role", f"The file {asset.pk} was not uploaded as {role}; no job was made.")
        if asset.erased_at is not None:
            raise JobsError("asset_erased", f"The file {asset.pk} was erased; no job was made. Upload it again.")
        if asset.state in {Asset.State.REFUSED, Asset.State.FAILED}:
            raise JobsError(f"asset_{asset.state}", f"The file {asset.pk} cannot be used: {asset.failure_message}")
        if face < 0 or (asset.state == Asset.State.READY and face not in face_indices(asset)):
            raise JobsError("face_unknown", f"The file {asset.pk} has no face {face}; no job was made. Pick another.")
        if role == "source" and asset.kind == "video":
            raise JobsError("source_not_photo", f"The source {asset.pk} is a video; no job was made. Use photos.")
    if target.kind:
        for swap in swaps:
            chosen.check_target(target.kind, target.media, face_facts(target, swap.target_face))


def _check_cover(
    organisation: Organisation, target: Asset, swaps: Sequence[SwapWanted], declaration: Attestation
) -> None:
    for swap in swaps:
        for each in (*swap.consents, swap.target_attestation, declaration):
            if each is not None and each.organisation_id != organisation.pk:
                raise not_found("consent")
        if swap.target_consent is None and swap.target_attestation is None:
            raise JobsError(
                "consent_required",
                f"Nobody answers for the person with face {swap.target_face} of the target; no job was made. "
                "Ask their consent, or attest your right.",
            )
        if swap.target_consent is not None and swap.target_attestation is not None:
            raise JobsError(
                "covered_twice", "Give the target person's consent or an attestation, not both; no job was made."
            )
        _check_attested(target, swap.target_attestation, declaration)
    _check_unused(declaration)


def _check_attested(target: Asset, attestation: Attestation | None, declaration: Attestation) -> None:
    if declaration.kind != "declaration" or (attestation is not None and attestation.kind != "target_rights"):
        raise JobsError("declaration_required", "The declaration or attestation is of the wrong kind; no job was made.")
    if attestation is not None and attestation.target_sha256 != target.sha256:
        raise JobsError("attestation_other_target", "The attestation speaks of another file; no job was made.")


def _check_unused(declaration: Attestation) -> None:
    if Job.objects.filter(declaration=declaration).exists():
        raise JobsError(
            "declaration_used",
            "The declaration was made for another job and speaks of that one only; no job was made. Make a new one.",
        )


def _check_faces(donor: Consent, sources: Sequence[tuple[Asset, int]]) -> None:
    """In each photo the face must be the one the donor confirmed, not somebody else beside them."""
    confirmed = {(photo["sha256"], int(photo["face"])) for photo in donor.photos}
    for asset, face in sources:
        if (asset.sha256, face) not in confirmed:
            raise JobsError(
                "consent_other_photo",
                f"The person did not confirm face {face} of {asset.pk}; no job was made. Use a photo they confirmed.",
            )


def _check_binding(job: Job) -> None:
    """Each consent must fit the job. One still open is judged as if it were given just as asked for."""
    for consent, use in permission.uses(job):
        facts = consent_services.facts_of(consent)
        if consent.state in permission.OPEN:
            facts = replace(facts, state="given", valid_from=use.at)
        decision = covers(facts, use)
        if not decision.ok:
            raise JobsError(decision.rule, decision.message)
