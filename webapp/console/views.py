"""What the gate would not decide alone, for a moderator to decide, with a reason that is kept.

Faces, file names and statements are shown only after a reason was given, which is logged (`looks`); before it,
pictures are served blurred.
"""

from __future__ import annotations

import json
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from consent import services as consents
from consent.models import Attestation
from webapp.console import due, evidence_rows, heat_strip, looks, words
from webapp.console import evidence as found
from webapp.console.access import moderator
from webapp.console.blurring import blurred
from webapp.jobs import services as jobs
from webapp.jobs.models import Asset, Job
from webapp.screening import services as screening
from webapp.screening.models import Review

LONGEST_REASON = 500
VERBS = {"release": screening.release_review, "reject": screening.reject_review}


@require_safe
@never_cache
@login_required
def reviews(request: HttpRequest) -> HttpResponse:
    """All open reviews, the overdue ones first."""
    moderator(request)
    return _page(request)


@require_POST
@login_required
def look(request: HttpRequest, review_id: str) -> HttpResponse:
    """A reason is given: each face of the review is logged as seen, then shown."""
    person, review = moderator(request), _open_review(review_id)
    try:
        reason = looks.reason_of(request)
    except looks.ReasonMissingError as error:
        return _page(request, problem=(review.pk, error.message), status=422)
    about = [asset.pk for asset in _assets(review)]
    looks.open_look(request, person, review.pk, action="face.viewed", about=about, reason=reason)
    return redirect(f"{reverse('console:reviews')}#{review.pk}-title")


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
        decided = verb(review, person, request.POST.get("reason", "").replace("\x00", "")[:LONGEST_REASON])
    except screening.ScreeningError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, words.outcome(decided))
    return redirect("console:reviews")


@require_safe
@never_cache
@login_required
def picture(request: HttpRequest, review_id: str, asset_id: str, face: int) -> HttpResponse:
    """The preview of an asset that an open review is about, after a reason; no other file is shown here."""
    moderator(request)
    review = _open_review(review_id)
    if not looks.may_look(request, review.pk):
        raise Http404
    return HttpResponse(_preview(review, asset_id, face), content_type="image/jpeg")


@require_safe
@never_cache
@login_required
def blurred_picture(request: HttpRequest, review_id: str, asset_id: str, face: int) -> HttpResponse:
    """The same before any reason: what is sent has no detail left that could be shown."""
    moderator(request)
    try:
        return HttpResponse(blurred(_preview(_open_review(review_id), asset_id, face)), content_type="image/jpeg")
    except OSError:
        raise Http404 from None


def _preview(review: Review, asset_id: str, face: int) -> bytes:
    if asset_id not in {asset.pk for asset in _assets(review)}:
        raise Http404
    try:
        return jobs.asset_preview(asset_id, face)
    except jobs.JobsError:
        raise Http404 from None


def _open_review(review_id: str) -> Review:
    if "\x00" in review_id:
        raise Http404
    return get_object_or_404(screening.waiting(), pk=review_id)


def _page(request: HttpRequest, *, problem: tuple[str, str] = ("", ""), status: int = 200) -> HttpResponse:
    """The list; `problem` is a review's id and what is wrong with the reason given for it."""
    context = {
        "cards": [_card(request, review) for review in screening.waiting()[:50]],
        "section": "reviews",
        "longest": LONGEST_REASON,
        "selfies": consents.reviews().count(),
        **looks.asking(problem),
    }
    return render(request, "console/reviews.html", context, status=status)


def _assets(review: Review) -> list[Asset]:
    evidence = review.screening
    if evidence.asset is not None:
        return [evidence.asset]
    assert evidence.job is not None
    return evidence.job.inputs()


def _card(request: HttpRequest, review: Review) -> dict[str, Any]:
    """What a moderator sees of a review: before a reason nothing that shows or names a person."""
    evidence = review.screening
    shown = looks.may_look(request, review.pk)
    job = evidence.job
    pictures = _faces(job) if job is not None else [(asset, 0) for asset in _assets(review)]
    attestations = _attestations(job) if job is not None else []
    name = evidence.asset.name if evidence.asset is not None else job.target.name if job is not None else ""
    return {
        "review": review,
        "evidence": evidence,
        "shown": shown,
        "minutes": looks.minutes_left(request, review.pk),
        "pictures": [(asset, face) for asset, face in pictures if asset.previews],
        "standing": due.standing(review, moderator(request)),
        "rows": evidence_rows.rows(evidence.signals),
        "strips": heat_strip.strips(evidence.signals, review.pk),
        "about": evidence.asset or job,
        "found": found.sentences(evidence.signals, shown=shown),
        "signals": [json.dumps(each, sort_keys=True) for each in found.for_eyes(evidence.signals, shown=shown)],
        "name": name if shown else "",
        "reasons": [(code, words.reason(code, evidence.signals)) for code in evidence.reasons],
        "not_screened": [words.kind(code) for code in evidence.not_screened],
        "attestations": [
            {"basis": words.basis(each.basis), "statement": each.statement if shown else ""} for each in attestations
        ],
    }


def _faces(job: Job) -> list[tuple[Asset, int]]:
    """Each face that is replaced and each that is put in, pair by pair, every one once."""
    found: list[tuple[Asset, int]] = []
    for swap in job.swaps.all():
        found.append((job.target, swap.target_face))
        found += [(photo.asset, photo.face) for photo in swap.photos.select_related("asset")]
    return list(dict.fromkeys(found))


def _attestations(job: Job) -> list[Attestation]:
    """What the account stated in place of replaced people's permission, each statement once."""
    found = [swap.target_attestation for swap in job.swaps.select_related("target_attestation")]
    return list({each.pk: each for each in found if each is not None}.values())
