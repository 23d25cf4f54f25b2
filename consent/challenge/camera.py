"""The camera step of the person's own pages: issue the movements, take the clip once, show what became of it.

The page works by three addresses besides itself: `challenge` (POST) draws or repeats the movements, `clip` (POST)
takes the video, `state` (GET) says whether the page should be loaded anew. All three answer JSON with a stable `code`
and a sentence in the person's language when something is wrong.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, BinaryIO, cast

import segno
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from consent import mail, services
from consent.challenge.services import CLIP_KINDS, latest
from consent.errors import ConsentError
from consent.models import Challenge, Consent
from consent.subjects import is_email
from consent.texts import camera_words, fill, long_date
from consent.views import _locale, _private, _render

logger = logging.getLogger(__name__)

CAMERA_HERE = "camera=(self), microphone=(), geolocation=()"
CS = Challenge.State
CHECKING = (CS.SUBMITTED, CS.CHECKING)

View = Callable[..., HttpResponseBase]


def page(request: HttpRequest, consent: Consent, token: str) -> HttpResponse:
    """What a person who answered sees until the answer counts: the camera, or how far the check is."""
    challenge = latest(consent)
    locale = _locale(request, consent)
    text = camera_words(locale)
    until = long_date(consent.link_expires_at, locale)
    context: dict[str, Any] = {"consent": consent, "token": token, "camera": text, "page": _page_of(consent, challenge)}
    if challenge is not None and challenge.state in CHECKING:
        return _render(request, "checking", locale, context)
    if challenge is not None and challenge.state == CS.REVIEW:
        hear = text["review"]["hear" if is_email(consent.subject.contact) else "see"]
        context |= {"explanation": fill(text["review"]["text"], until=until), "hear": hear}
        return _render(request, "review", locale, context)
    problem = ""
    if challenge is not None and challenge.state in (CS.FAILED, CS.EXPIRED):
        problem = _why(text, challenge.codes)
    context |= {
        "problem": problem,
        "open_until": fill(text["page"]["open_until"], until=until),
        "no_note": fill(text["page"]["no_note"], organisation=consent.organisation_name),
        "kinds": " ".join(CLIP_KINDS[:2]),
    }
    response = _render(request, "camera", locale, context)
    response.headers["Permissions-Policy"] = CAMERA_HERE  # this page alone may ask for it
    return response


def _json(view: View) -> View:
    """Answer an error as JSON, in the person's language; nothing of the link or of the inside in it."""

    @wraps(view)
    def wrapped(request: HttpRequest, consent: Consent, token: str) -> HttpResponseBase:
        try:
            return view(request, consent, token)
        except ConsentError as error:
            code, status = error.code, error.status
        except OSError as error:
            logger.warning("A clip could not be taken: %s", type(error).__name__)
            code, status = "storage_failed", 503
        text = camera_words(_locale(request, consent))
        return JsonResponse({"code": code, "sentence": _why(text, [code])}, status=status)

    return wrapped


@require_POST
@_private
@_json
def challenge(request: HttpRequest, consent: Consent, token: str) -> HttpResponseBase:
    """Draw three movements, or answer with those that can still be used: asking twice is asking once."""
    issued = services.issue_challenge(consent)
    left = (issued.expires_at - timezone.now()).total_seconds()
    return JsonResponse({"id": issued.pk, "actions": issued.actions, "seconds_left": max(0, round(left))}, status=201)


@require_POST
@_private
@_json
def clip(request: HttpRequest, consent: Consent, token: str) -> HttpResponseBase:
    """Take the clip. Sent again after a lost answer, the same clip answers the same."""
    file = request.FILES.get("clip")
    if file is None:
        raise ConsentError("clip_invalid", "There was no video in the request. Nothing was kept.")
    taken = services.submit_clip(
        consent,
        request.POST.get("challenge", ""),
        cast("BinaryIO", file.file),
        mime=file.content_type or "",
        size=int(file.size or 0),
    )
    consent.refresh_from_db()
    return JsonResponse({"id": taken.pk, "page": _page_of(consent, taken)}, status=202)


@require_safe
@_private
@_json
def state(request: HttpRequest, consent: Consent, token: str) -> HttpResponseBase:
    """Whether the open page is still what there is to see."""
    return JsonResponse({"page": _page_of(consent, latest(consent))})


@require_safe
@_private
def code(request: HttpRequest, consent: Consent, token: str) -> HttpResponseBase:
    """The QR code of this very link, to go on with a phone."""
    picture = io.BytesIO()
    segno.make(mail.link(token), error="m").save(picture, kind="png", scale=6, border=2)
    return HttpResponse(picture.getvalue(), content_type="image/png")


def _page_of(consent: Consent, challenge: Challenge | None) -> str:
    """Changes whenever there is another page to see. Submitted and checking look alike."""
    if challenge is None:
        return consent.state
    shown = CS.SUBMITTED if challenge.state in CHECKING else challenge.state
    return f"{consent.state}:{challenge.pk}:{shown}"


def _why(text: Mapping[str, Any], codes: list[str]) -> str:
    """The first code there are words for: the main reason comes first."""
    words = text["why"]
    return str(next((words[code] for code in codes if code in words), words["other"]))


__all__ = ["challenge", "clip", "code", "page", "state"]
