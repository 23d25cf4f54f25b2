"""What a job asks of each consent it stands on, and what those consents answer now."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from django.utils import timezone

from consent import services as consent_services
from consent.models import Consent
from consent.policy import UseFacts, covers
from webapp.jobs.models import Job
from webapp.jobs.options import Options

OPEN = ("requested", "viewed")  # the person has not answered yet
DONOR = "face_donor"
TARGET = "target_person"


@dataclass(frozen=True)
class Outlook:
    """`go`: every consent covers the job; `wait`: one is still open; `refuse`: one does not and will not."""

    answer: Literal["go", "wait", "refuse"]
    code: str = ""
    message: str = ""


def uses(job: Job) -> list[tuple[Consent, UseFacts]]:
    """Each consent of the job with each use it is asked for, in the order of their ids (the order of locking).

    One that answers for several replacements is asked for each of them.
    """
    chosen = Options.from_mapping(job.options)
    common = UseFacts(
        role="",
        purpose=job.purpose,
        photo_sha256s=frozenset(),
        target_sha256=job.target.sha256,
        target_face=-1,
        organisation_id=job.organisation_id,
        seconds=_seconds(job, chosen),
        at=timezone.now(),
        livemode=job.livemode,
        partner=chosen.partner,
        territories=chosen.shown_in(),
        political=chosen.political,
    )
    found: list[tuple[Consent, UseFacts]] = []
    for swap in job.swaps.select_related("donor_consent", "target_consent").prefetch_related("photos__asset"):
        photos = frozenset(photo.asset.sha256 for photo in swap.photos.all())
        use = replace(common, photo_sha256s=photos, target_face=swap.target_face)
        found.append((swap.donor_consent, replace(use, role=DONOR)))
        if swap.target_consent is not None:
            found.append((swap.target_consent, replace(use, role=TARGET)))
    return sorted(found, key=lambda pair: pair[0].pk)


def _seconds(job: Job, chosen: Options) -> float:
    """How long the result is; 0 for a photo and for a target that was not looked at yet."""
    duration = float(job.target.media.get("duration") or 0.0)
    return chosen.seconds_of(duration) if duration else 0.0


def outlook(job: Job, *, reserved: bool = False) -> Outlook:
    """What the job's consents say at this moment. `reserved`: the job's own reservation counts as covered."""
    waiting = False
    for consent, use in uses(job):
        decision = covers(consent_services.facts_of(consent), replace(use, reserved=reserved))
        if decision.ok:
            continue
        if consent.state in OPEN:
            waiting = True
            continue
        return Outlook("refuse", decision.rule, decision.message)
    return Outlook("wait") if waiting else Outlook("go")
