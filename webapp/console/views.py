"""What the gate would not decide alone, for a moderator to decide, with a reason that is kept."""

from __future__ import annotations

import json
from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from webapp.accounts.models import User
from webapp.console import words
from webapp.jobs import services as jobs
from webapp.jobs.models import Asset
from webapp.screening import services as screening
from webapp.screening.models import Review

LONGEST_REASON = 500
VERBS = {"release": screening.release_review, "reject": screening.reject_review}


def moderator(request: HttpRequest) -> User:
    """The moderator who is logged in. Raises PermissionDenied for everybody else."""
    user = cast(User, request.user)
    if not user.is_staff:
        raise PermissionDenied
    return user


@require_safe
@never_cache
@login_required
def reviews(request: HttpRequest) -> HttpResponse:
    """All open reviews, oldest first."""
    moderator(request)
    cards = [_card(review) for review in screening.waiting()[:50]]
    return render(request, "console/reviews.html", {"cards": cards, "section": "reviews", "longest": LONGEST_REASON})


@require_POST
@login_required
def decide(request: HttpRequest, review_id: str) -> HttpResponse:
    """Release or reject one review."""
    person = moderator(request)
    if "\x00" in review_id:
        raise Http404
    review = get_object_or_404(Review, pk=review_id)
    verb = VERBS.get(request.POST.get("decision", ""))
    if verb is None:
        messages.error(request, "Choose release or reject. Nothing was changed.")
        return redirect("console:reviews")
    try:
        verb(review, person, request.POST.get("reason", "").replace("\x00", "")[:LONGEST_REASON])
    except screening.ScreeningError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, "The decision was recorded.")
    return redirect("console:reviews")


@require_safe
@never_cache
@login_required
def picture(request: HttpRequest, review_id: str, asset_id: str, face: int) -> HttpResponse:
    """The preview of an asset that an open review is about; no other file is shown here."""
    moderator(request)
    if "\x00" in review_id or "\x00" in asset_id:
        raise Http404
    review = get_object_or_404(screening.waiting(), pk=review_id)
    if asset_id not in {asset.pk for asset in _assets(review)}:
        raise Http404
    try:
        return HttpResponse(jobs.asset_preview(asset_id, face), content_type="image/jpeg")
    except jobs.JobsError:
        raise Http404 from None


def _assets(review: Review) -> list[Asset]:
    evidence = review.screening
    if evidence.asset is not None:
        return [evidence.asset]
    assert evidence.job is not None
    return [evidence.job.target, *evidence.job.sources.all()]


def _card(review: Review) -> dict[str, Any]:
    evidence = review.screening
    job = evidence.job
    faces = {} if job is None else {job.target_id: job.target_face}
    pictures = [(asset, faces.get(asset.pk, 0)) for asset in _assets(review) if asset.previews]
    attestation = job.target_attestation if job is not None else None
    return {
        "review": review,
        "evidence": evidence,
        "pictures": pictures,
        "about": evidence.asset or job,
        "signals": [json.dumps(signal, sort_keys=True) for signal in evidence.signals],
        "name": evidence.asset.name if evidence.asset is not None else job.target.name if job is not None else "",
        "reasons": [(code, words.reason(code, evidence.signals)) for code in evidence.reasons],
        "not_screened": [words.kind(code) for code in evidence.not_screened],
        "attestation": attestation,
        "basis": words.basis(attestation.basis) if attestation is not None else "",
    }
