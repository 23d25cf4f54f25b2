"""Videos of asked people that the check would not decide alone: side by side with the pictures, a reason, a decision.

A face is shown only after a reason was given, which is logged (`looks`).
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from consent import keys
from consent import services as consents
from consent.challenge import services as challenges
from consent.models import Challenge
from webapp import storage
from webapp.console import looks, words
from webapp.console.access import moderator
from webapp.console.views import LONGEST_REASON
from webapp.jobs import services as jobs

VERBS = {"release": consents.release_challenge, "reject": consents.reject_challenge}
ACTIONS = {
    "turn_left": "turn to their left",
    "turn_right": "turn to their right",
    "look_up": "look up",
    "open_mouth": "open the mouth",
    "blink": "blink",
    "smile": "smile",
}


@require_safe
@never_cache
@login_required
def waiting(request: HttpRequest) -> HttpResponse:
    """All checks that wait for a person, oldest first."""
    moderator(request)
    return _page(request)


@require_POST
@login_required
def look(request: HttpRequest, challenge_id: str) -> HttpResponse:
    """A reason is given: it is logged that the person's faces are seen, then they are shown."""
    person, challenge = moderator(request), _challenge(challenge_id)
    try:
        reason = looks.reason_of(request)
    except looks.ReasonMissingError as error:
        return _page(request, problem=(challenge.pk, error.message), status=422)
    about, key_id = [challenge.consent_id], challenge.consent.key_id
    looks.open_look(request, person, challenge.pk, action="face.viewed", about=about, reason=reason, key_id=key_id)
    return redirect(f"{reverse('console:selfies')}#{challenge.pk}-title")


@require_POST
@login_required
def decide(request: HttpRequest, challenge_id: str) -> HttpResponse:
    """Release or reject one check."""
    person = moderator(request)
    verb = VERBS.get(request.POST.get("decision", ""))
    if verb is None:
        messages.error(request, "Choose release or reject. Nothing was changed.")
        return redirect("console:selfies")
    reason = request.POST.get("reason", "").replace("\x00", "")[:LONGEST_REASON]
    try:
        verb(_challenge(challenge_id, only_open=False), by=str(person.pk), reason=reason)
    except consents.ConsentError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, "The decision was recorded and the person is told.")
    return redirect("console:selfies")


@require_safe
@never_cache
@login_required
def still(request: HttpRequest, challenge_id: str, index: int) -> HttpResponse:
    """A still of the clip."""
    return show_face(request, challenge_id, "still", index)


@require_safe
@never_cache
@login_required
def source(request: HttpRequest, challenge_id: str, index: int) -> HttpResponse:
    """A picture that the person must match, with the face framed."""
    return show_face(request, challenge_id, "source", index)


def show_face(request: HttpRequest, challenge_id: str, what: str, index: int) -> HttpResponse:
    """The one place where a face of an open check leaves for a moderator's screen."""
    moderator(request)
    challenge = _challenge(challenge_id)
    if not looks.may_look(request, challenge.pk):
        raise Http404
    try:
        if what == "still":
            with storage.open_decrypted(challenge.stills[index], challenge.key_id) as file:
                data = file.read()
        else:
            data = jobs.asset_preview(*challenges.wanted_faces(challenge)[index])
    except (IndexError, jobs.JobsError, storage.StorageError, keys.KeyStoreError, keys.TamperedError):
        raise Http404 from None
    return HttpResponse(data, content_type="image/jpeg")


def _challenge(challenge_id: str, *, only_open: bool = True) -> Challenge:
    if "\x00" in challenge_id:
        raise Http404
    rows = consents.reviews() if only_open else Challenge.objects.select_related("consent")
    return get_object_or_404(rows, pk=challenge_id)


def _page(request: HttpRequest, *, problem: tuple[str, str] = ("", ""), status: int = 200) -> HttpResponse:
    """The list; `problem` is a check's id and what is wrong with the reason given for it."""
    context = {
        "cards": [_card(request, challenge) for challenge in consents.reviews()[:50]],
        "section": "reviews",
        "longest": LONGEST_REASON,
        **looks.asking(problem),
    }
    return render(request, "console/selfies.html", context, status=status)


def _card(request: HttpRequest, challenge: Challenge) -> dict[str, Any]:
    match = challenge.match
    return {
        "challenge": challenge,
        "shown": looks.may_look(request, challenge.pk),
        "minutes": looks.minutes_left(request, challenge.pk),
        "consent": challenge.consent,
        "stills": range(len(challenge.stills)),
        "sources": range(len(challenges.wanted_faces(challenge))),
        "reasons": [(code, words.selfie_reason(code)) for code in challenge.codes],
        "actions": ", ".join(ACTIONS.get(action, action) for action in challenge.actions),
        "score": f"{match['score']:.2f}" if isinstance(match.get("score"), int | float) else "not measured",
        "threshold": match.get("threshold", ""),
    }
