"""What ends by itself around live selfies: challenges nobody used, clips whose time is over, checks without a use."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone

from consent.answers import UNDER_WAY
from consent.challenge import clips
from consent.models import Challenge, Consent
from consent.transitions import State

CS = Challenge.State


def expire_challenges(now: datetime | None = None) -> int:
    """End challenges that nobody used in time; how many."""
    now = now or timezone.now()
    return Challenge.objects.filter(state=CS.ISSUED, expires_at__lte=now).update(
        state=CS.EXPIRED, codes=["challenge_expired"], decided_at=now
    )


def forget_clips(now: datetime | None = None) -> int:
    """Delete the clips and stills whose time is over; hashes and numbers stay. How many challenges."""
    now = now or timezone.now()
    count = 0
    for challenge in Challenge.objects.filter(clip_until__lte=now).exclude(clip_name="")[:200]:
        count += delete_clip(challenge)
    return count


def delete_clip(challenge: Challenge) -> int:
    """Delete the clip and the stills of one challenge, then their names: what is begun can be done again. 1 or 0."""
    for name in (challenge.clip_name, *challenge.stills):
        clips.delete(name)
    return Challenge.objects.filter(pk=challenge.pk).exclude(clip_name="").update(clip_name="", stills=[])


def on_consent_changed(consent: Consent, old: str, new: str) -> None:
    """The effect of a change of state: a question that closed needs no check, a permission taken back no clip."""
    now = timezone.now()
    if new in (State.REFUSED, State.LAPSED):
        consent.challenges.filter(state__in=[CS.ISSUED, *UNDER_WAY]).update(
            state=CS.EXPIRED, codes=["consent_closed"], decided_at=now, lease_owner="", lease_expires_at=None
        )
    if new in (State.REFUSED, State.LAPSED, State.WITHDRAWN):
        consent.challenges.exclude(clip_name="").update(clip_until=now)
