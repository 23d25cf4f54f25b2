"""The depicted person's own pages: read, answer, look again, withdraw. No account, no script, phone first.

The link is the key: 256 random bits. Pages are not stored, not indexed and send no referrer. Forms carry no CSRF
token, because the address of every form is itself a secret that another site cannot know, and because browsers send
`Origin: null` from a page without referrer, which Django's check would refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_cache_control
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from consent import previews, services
from consent.errors import ConsentError
from consent.keys import KeyDestroyedError
from consent.levels import reaches
from consent.models import Consent
from consent.previews import register_preview
from consent.texts import POLITICAL_BOX, PURPOSE_BOX, fill, known_locale, long_date, words
from consent.transitions import State

__all__ = ["give", "photo", "refuse", "register_preview", "show", "target", "withdraw"]

OPEN = (State.REQUESTED, State.VIEWED)
WITHDRAWABLE = (State.GIVEN, State.EXHAUSTED, State.EXPIRED, State.SUPERSEDED)
TOKEN_LENGTH = 43
PAGE_CODES = ("link_unknown", "link_expired")

View = Callable[..., HttpResponseBase]


def _private(view: View) -> View:
    """Find the request behind the token, answer its errors with a page, and keep the answer out of every cache."""

    @csrf_exempt
    @wraps(view)
    def wrapped(request: HttpRequest, token: str, **rest: Any) -> HttpResponseBase:
        response: HttpResponseBase
        try:
            if len(token) != TOKEN_LENGTH:
                raise ConsentError("link_unknown", "This link is not known.", status=404)
            response = view(request, services.find_by_token(token), token, **rest)
        except KeyDestroyedError:
            response = _error_page(request, "erased", 410)
        except ConsentError as error:
            response = _error_page(request, error.code, error.status)
        patch_cache_control(response, no_store=True, private=True)
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Robots-Tag"] = "noindex, nofollow, noarchive"
        response._has_been_logged = True  # type: ignore[attr-defined] # Django logs the path of a 4xx: the token
        return response

    return wrapped


@require_safe
@_private
def show(request: HttpRequest, consent: Consent, token: str) -> HttpResponseBase:
    """The question while it is open, the receipt once it was answered with yes, else how it ended."""
    if consent.state in OPEN:
        if consent.draft_sealed and "read" not in request.GET:
            from consent.challenge import camera  # it stands on this module

            return camera.page(request, consent, token)
        return _ask_page(request, consent, token)
    if consent.state in (State.GIVEN, State.EXHAUSTED):
        return _receipt_page(request, consent, token)
    return _closed_page(request, consent, token)


@require_http_methods(["GET", "HEAD", "POST"])
@_private
def give(request: HttpRequest, consent: Consent, token: str) -> HttpResponseBase:
    """The person says yes. A form that is not complete comes back as it was, with what is missing."""
    if request.method != "POST" or consent.state not in OPEN:
        return _to_page(request, token)  # reloaded or sent twice: the page shows how things stand
    if not previews.all_there(consent):
        return _ask_page(request, consent, token, problem="pictures_missing", status=409)
    try:
        services.answer_consent(
            consent,
            ticks=dict.fromkeys(request.POST.getlist("tick"), True),
            typed_name=request.POST.get("typed_name", ""),
            confirmed_photos=request.POST.getlist("photo"),
            notice_sha256=request.POST.get("notice_sha256", ""),
            user_agent=request.headers.get("User-Agent", "")[:500],
            ip=request.META.get("REMOTE_ADDR", ""),
        )
    except ConsentError as error:
        consent.refresh_from_db()
        if consent.state not in OPEN or error.code == "challenge_pending":
            return _to_page(request, token)
        if error.code in PAGE_CODES:
            raise
        problem = {"consent_incomplete": "", "consent_form_invalid": "invalid"}.get(error.code, error.code)
        return _ask_page(request, consent, token, problem=problem, fields=error.fields, status=error.status)
    return _to_page(request, token)


@require_http_methods(["GET", "HEAD", "POST"])
@_private
def refuse(request: HttpRequest, consent: Consent, token: str) -> HttpResponseBase:
    """The person says no, and may say that they do not want to be asked again."""
    if request.method == "POST" and consent.state in OPEN:
        try:
            services.refuse_consent(consent, block="block" in request.POST)
        except ConsentError:
            consent.refresh_from_db()
            if consent.state in OPEN:
                raise
    return _to_page(request, token)


@require_http_methods(["GET", "HEAD", "POST"])
@_private
def withdraw(request: HttpRequest, consent: Consent, token: str) -> HttpResponseBase:
    """GET asks once more, POST withdraws. Works as long as the record exists, also after the permission ran out."""
    if consent.state not in WITHDRAWABLE:
        return _to_page(request, token)
    if request.method == "POST":
        try:
            services.withdraw_consent(consent)
        except ConsentError:
            consent.refresh_from_db()
            if consent.state in WITHDRAWABLE:
                raise
        return _to_page(request, token)
    locale = _locale(request, consent)
    text = words(locale)
    return _render(
        request,
        "withdraw",
        locale,
        {
            "consent": consent,
            "token": token,
            "explanation": fill(text["withdraw"]["text"], organisation=consent.organisation_name),
        },
    )


@require_safe
@_private
def photo(request: HttpRequest, consent: Consent, token: str, index: int) -> HttpResponseBase:
    """A source photo, small, with the face in question marked."""
    return _picture(consent, lambda: previews.photo(consent, index))


@require_safe
@_private
def target(request: HttpRequest, consent: Consent, token: str, index: int = 0) -> HttpResponseBase:
    """A target, small, with the face in question marked."""
    return _picture(consent, lambda: previews.target(consent, index))


def _picture(consent: Consent, make: Callable[[], bytes]) -> HttpResponse:
    """Pictures are there while the question is open; afterwards the words are the record."""
    try:
        if consent.state not in OPEN:
            raise previews.PreviewMissingError
        return HttpResponse(make(), content_type="image/jpeg")
    except previews.PreviewMissingError:
        return HttpResponse(status=404)


def _ask_page(
    request: HttpRequest,
    consent: Consent,
    token: str,
    *,
    problem: str = "",
    fields: dict[str, str] | None = None,
    status: int = 200,
) -> HttpResponse:
    posted = request.POST if request.method == "POST" else QueryDict()
    locale = _locale(request, consent)
    text = words(locale)
    notice = services.consent_text(consent, locale)
    if not problem and not previews.all_there(consent):
        problem = "pictures_missing"
    errors = {field: text["error"].get(code, text["error"]["invalid"]) for field, code in (fields or {}).items()}
    ticked = set(posted.getlist("tick"))
    confirmed = set(posted.getlist("photo"))
    boxes = [
        {"name": name, "label": label, "ticked": name in ticked, "error": errors.get(name, ""), "number": number}
        for number, (name, label) in enumerate(notice.boxes, 1)
    ]
    labels = dict(notice.boxes)  # a confirmation is named by its own words
    photos = [
        {
            "index": index,
            "sha256": each["sha256"],
            "alt": fill(text["ask"]["photo_alt"], number=str(index + 1)),
            "ticked": each["sha256"] in confirmed,
        }
        for index, each in enumerate(consent.photos)
    ]
    return _render(
        request,
        "ask",
        locale,
        {
            "consent": consent,
            "token": token,
            "notice": notice,
            "main": [section for section in notice.sections if not section.more],
            "more": [section for section in notice.sections if section.more],
            "note": consent.note,
            "photos": photos,
            "targets": [
                {
                    "index": index,
                    "alt": text["ask"]["target_alt"] if index == 0 else f"{text['ask']['target_alt']} ({index + 1})",
                }
                for index in range(len(consent.targets))
            ],
            "purposes": [box for box in boxes if box["name"].startswith(PURPOSE_BOX)],
            "confirmations": [box for box in boxes if not box["name"].startswith((PURPOSE_BOX, POLITICAL_BOX))],
            "wishes": [box for box in boxes if box["name"] == POLITICAL_BOX],
            "errors": errors,
            "summary": [(field, labels.get(field, message)) for field, message in errors.items()],
            "problem": text["error"].get(problem, text["error"]["other"]) if problem else "",
            "can_give": problem != "pictures_missing",
            "typed_name": posted.get("typed_name", ""),
            "open_until": fill(text["ask"]["open_until"], until=long_date(consent.link_expires_at, locale)),
            "block_label": fill(text["ask"]["block"], organisation=consent.organisation_name),
            "no_note": fill(text["ask"]["no_note"], organisation=consent.organisation_name),
            "yes_next": text["ask"]["yes_next"] if reaches(consent.assurance_asked, "L2") else "",
        },
        status=status,
    )


def _receipt_page(request: HttpRequest, consent: Consent, token: str) -> HttpResponse:
    locale = _locale(request, consent)
    text = words(locale)
    labels = dict(services.consent_text(consent, locale).boxes)
    assert consent.given_at is not None
    return _render(
        request,
        "receipt",
        locale,
        {
            "consent": consent,
            "token": token,
            "given": fill(text["receipt"]["given"], given=long_date(consent.given_at, locale)),
            "purposes": [labels[PURPOSE_BOX + purpose] for purpose in consent.purposes],
            "limit": fill(
                text["receipt"]["limit"],
                max_outputs=str(consent.max_outputs),
                until=long_date(consent.valid_until, locale),
            ),
            "typed_name": consent.typed_name,
            "words_agreed": consent.notice_text,
            "used_up": text["closed"]["exhausted"] if consent.state == State.EXHAUSTED else "",
        },
    )


def _closed_page(request: HttpRequest, consent: Consent, token: str) -> HttpResponse:
    locale = _locale(request, consent)
    ended = long_date(consent.ended_at or consent.changed_at, locale)
    return _render(
        request,
        "closed",
        locale,
        {
            "consent": consent,
            "token": token,
            "sentence": fill(words(locale)["closed"][consent.state], ended=ended),
            "withdrawable": consent.state in WITHDRAWABLE,
        },
    )


def _error_page(request: HttpRequest, code: str, status: int) -> HttpResponse:
    locale = _locale(request, None)
    text = words(locale)["error"]
    return _render(request, "error", locale, {"sentence": text.get(code, text["other"])}, status=status)


def _render(
    request: HttpRequest, name: str, locale: str, context: dict[str, Any], *, status: int = 200
) -> HttpResponse:
    text = words(locale)
    context |= {
        "locale": locale,
        "lang": "zh-Hans" if locale == "zh-hans" else "en",
        "words": text,
        "other_lang": "zh-Hans" if text["other_locale"] == "zh-hans" else "en",
    }
    return render(request, f"consent/{name}.html", context, status=status)


def _locale(request: HttpRequest, consent: Consent | None) -> str:
    """The language chosen on the page, else the one of the request, else the browser's."""
    if chosen := request.POST.get("lang") or request.GET.get("lang"):
        return known_locale(chosen)
    if consent is not None:
        return known_locale(consent.locale)
    return known_locale(request.headers.get("Accept-Language", "").split(",")[0])


def _to_page(request: HttpRequest, token: str) -> HttpResponseRedirect:
    """303, so that reloading the page sends no form again."""
    chosen = request.POST.get("lang") or request.GET.get("lang")
    address = reverse("consent:page", args=[token]) + (f"?lang={known_locale(chosen)}" if chosen else "")
    response = HttpResponseRedirect(address)
    response.status_code = 303
    return response
