"""What a person's erasure means for their live selfies: clips and stills go at once, with what a reviewer wrote."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Q

from consent.challenge.upkeep import delete_clip
from consent.erasure import Line, Scope, register_eraser
from consent.models import Challenge


def register() -> None:
    """Called at start-up."""
    register_eraser("selfies", forget_person)


def forget_person(scope: Scope, look_only: bool) -> Iterator[Line]:
    """See `consent.erasure.register_eraser`. Which movements were asked and how far faces were apart stays as proof."""
    rows = Challenge.objects.filter(consent__in=scope.consent_ids)
    shown = rows.exclude(clip_name="")
    remarks = rows.filter(~Q(reason_sealed=None))
    if look_only:
        yield Line("videos of live checks, with their stills", shown.count())
        yield Line("reviewers' remarks on them", remarks.count())
        return
    yield Line("videos of live checks, with their stills", sum(delete_clip(challenge) for challenge in shown))
    yield Line("reviewers' remarks on them", remarks.update(reason_sealed=None))
