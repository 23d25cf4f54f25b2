"""What a person's hold on their permission means for jobs, and their limit on biometric data for uploads."""

from __future__ import annotations

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from consent.models import Consent, Subject
from consent.policy import MESSAGES
from webapp.jobs import flow, transitions
from webapp.jobs.models import Asset, Job

CODE = "consent_restricted"


def stop_jobs(consent: Consent) -> None:
    """Jobs on a consent that was put on hold end at once, as after a withdrawal; what is published stays.

    They do not wait for the hold to be lifted: that may never happen, and a new job is quickly made.
    """
    jobs = Job.objects.filter(Q(donor_consent=consent) | Q(target_consent=consent)).order_by("pk")
    states = (*flow.BEFORE_RUN, *flow.AT_WORK)
    for job_id in jobs.filter(state__in=states).values_list("pk", flat=True):
        transitions.move(job_id, states, Job.State.REFUSED, code=CODE, message=MESSAGES[CODE], cancel_requested=True)


def erase_inputs(subject: Subject) -> None:
    """Erase the pictures of the person that were uploaded, and with them every descriptor computed from them.

    A donor's photos, and the picture in which their own face was to be replaced. The rows say at once that they are
    erased; the retention destroys the keys and objects of such rows, at the latest ten minutes later.
    """
    ids: set[str] = set()
    for consent in Consent.objects.filter(subject=subject):
        if consent.role == Consent.Role.FACE_DONOR:
            ids |= {str(photo["asset_id"]) for photo in consent.photos}
        else:
            ids.add(consent.target_asset_id)
    Asset.objects.filter(pk__in=ids, erased_at__isnull=True).update(erased_at=timezone.now(), faces=[])
    transaction.on_commit(_destroy_now, robust=True)


def _destroy_now() -> None:
    from webapp.jobs import upkeep

    upkeep.erase_assets()
