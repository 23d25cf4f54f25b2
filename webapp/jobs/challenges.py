"""The checks of live selfies, as work: where clips lie, and what happens to a check whose worker died.

What a challenge is and how it is decided stands in `consent.challenge.services`; here are the storage and the leases.
"""

from __future__ import annotations

from datetime import timedelta
from typing import BinaryIO

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from consent import services as consents
from consent.challenge import clips
from consent.challenge import services as challenges
from consent.challenge import upkeep as challenge_upkeep
from consent.errors import ConsentError
from consent.models import Challenge
from webapp import storage
from webapp.jobs import leases
from webapp.jobs.models import Asset

RESEND_AFTER = timedelta(seconds=20)  # a person waits in front of the page
RESEND_AT_ONCE = 20
State = Challenge.State


def register() -> None:
    """Tell consent where clips are kept."""
    consents.register_clip_storage(_store, storage.delete)


def claim(challenge_id: str, owner: str) -> Challenge | None:
    """The challenge, if this worker is the one to check it."""
    if not leases.claim(Challenge, challenge_id, owner, [State.SUBMITTED], State.CHECKING):
        return None
    return Challenge.objects.select_related("consent__subject").get(pk=challenge_id)


def source_of(asset_id: str, organisation_id: str) -> Asset | None:
    """The asset whose analysis holds the face to compare with; None once it was erased."""
    found = Asset.objects.filter(pk=asset_id, organisation=organisation_id, erased_at__isnull=True).first()
    return found if found is not None and found.analysis_name else None


def reap() -> int:
    """Return checks whose worker fell silent, or end those that wore out; how many."""
    count = 0
    for lost in leases.expired(Challenge, [State.CHECKING]):
        with transaction.atomic():
            if Challenge.objects.filter(
                pk=lost.pk, lease_owner=lost.owner, lease_expires_at__lt=timezone.now()
            ).exists():
                count += consents.return_check(lost.pk, lost.owner)
    return count


def sweep() -> int:
    """Send again what waits for a worker too long, and end what nobody used in time; how many were sent."""
    challenge_upkeep.expire_challenges()
    waiting = Q(state=State.SUBMITTED, queued_at__lt=timezone.now() - RESEND_AFTER)
    return leases.resend(Challenge, waiting, challenges.send, RESEND_AT_ONCE)


def objects() -> set[str]:
    """The names of all stored objects that challenges hold."""
    rows = Challenge.objects.exclude(clip_name="").values_list("clip_name", "stills")
    return {name for clip, stills in rows for name in (clip, *stills)}


def _store(file: BinaryIO, key_id: str) -> str:
    try:
        return storage.store_stream(file, key_id=key_id, prefix=clips.PREFIX)
    except storage.StorageError as error:
        raise ConsentError("storage_failed", error.message, status=503) from error
