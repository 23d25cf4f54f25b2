"""What a person's hold on their permission means for jobs, and their limit on biometric data for uploads."""

from __future__ import annotations

from functools import partial

from django.db import transaction
from django.utils import timezone

from consent.erasure import Scope
from consent.models import Consent, Subject
from consent.policy import MESSAGES
from webapp.jobs import flow, forgetting, transitions, upkeep
from webapp.jobs.models import Asset, Job

CODE = "consent_restricted"


def stop_jobs(consent: Consent) -> None:
    """Jobs on a consent that was put on hold end at once, as after a withdrawal; what is published stays.

    They do not wait for the hold to be lifted: that may never happen, and a new job is quickly made.
    """
    jobs = Job.objects.on_consents([consent]).order_by("pk")
    states = (*flow.BEFORE_RUN, *flow.AT_WORK)
    for job_id in jobs.filter(state__in=states).values_list("pk", flat=True):
        transitions.move(job_id, states, Job.State.REFUSED, code=CODE, message=MESSAGES[CODE], cancel_requested=True)


def erase_inputs(subject: Subject) -> None:
    """Erase the pictures of the person that were uploaded, and with them every descriptor computed from them.

    The same pictures as at an erasure. The rows say at once that they are erased; keys and objects go when that is
    committed, and if the process dies in between, by the next round of retention.
    """
    consents = tuple(Consent.objects.filter(subject=subject).values_list("pk", flat=True))
    ids = sorted(forgetting.pictures(Scope(subject.pk, consents)))
    Asset.objects.filter(pk__in=ids, erased_at__isnull=True).update(erased_at=timezone.now(), faces=[])
    transaction.on_commit(partial(_destroy_now, ids), robust=True)


def _destroy_now(ids: list[str]) -> None:
    for asset in Asset.objects.filter(pk__in=ids):
        upkeep.erase_asset_now(asset)
