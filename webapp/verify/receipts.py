"""`/receipts/check`: is this receipt real, and does the permission still hold? Open to everybody; nothing is kept."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods
from rest_framework.request import Request
from rest_framework.views import APIView

from consent.models import Consent
from consent.receipts import services as receipts
from consent.receipts.check import LONGEST, LONGEST_FILE, CheckedReceipt, ReceiptError
from consent.receipts.view import state_words
from consent.texts import fill, known_locale, words
from webapp.verify.throttles import PerAddress


class Receipts(PerAddress):
    """Receipts to be checked."""

    scope = "receipts"
    rate = "30/min"


class _NotAskedError(Exception):
    """The form cannot be answered: a key of the page's words, and the HTTP status."""

    def __init__(self, word: str, status: int = 422) -> None:
        self.word, self.status = word, status


# No CSRF token: nothing changes here, and a receipt's page sends no referrer, which Django's check would refuse.
@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def page(request: HttpRequest) -> HttpResponse:
    """The form, and below it the answer to what was sent."""
    locale = known_locale(
        request.POST.get("lang") or request.GET.get("lang") or request.headers.get("Accept-Language", "").split(",")[0]
    )
    text = words(locale)
    if request.method != "POST":
        return _page(request, locale, text, {})
    throttle = Receipts()
    if not throttle.allow_request(Request(request), APIView()):
        seconds = max(1, math.ceil(throttle.wait() or 1))
        answer = _page(request, locale, text, {"problem": fill(text["check"]["too_often"], seconds=str(seconds))}, 429)
        answer["Retry-After"] = str(seconds)
        return answer
    signed = ""
    try:
        signed = receipts.receipt_in(_given(request))
        checked = receipts.verify_receipt(signed, receipts.jwks())
    except _NotAskedError as problem:
        return _page(request, locale, text, {"problem": text["check"][problem.word]}, problem.status)
    except ReceiptError as error:
        bad = {"bad": text["check"]["bad"][error.code], "code": error.code}
        if error.code == "unknown_key" and (issuer := _other_house(signed)):
            bad["elsewhere"] = fill(text["check"]["other_house"], issuer=issuer)
        return _page(request, locale, text, bad, 422)
    return _page(request, locale, text, _found(checked, locale, text))


def _given(request: HttpRequest) -> bytes:
    file, pasted = request.FILES.get("file"), request.POST.get("receipt", "").strip()
    if file and pasted:
        raise _NotAskedError("both")
    if pasted:
        if len(pasted) > LONGEST:
            raise _NotAskedError("too_large", 413)
        return pasted.encode(errors="replace")
    if not isinstance(file, UploadedFile) or not file.size:
        raise _NotAskedError("empty")
    if file.size > LONGEST_FILE:
        raise _NotAskedError("too_large", 413)
    return bytes(file.read())


def _found(checked: CheckedReceipt, locale: str, text: dict[str, Any]) -> dict[str, Any]:
    consent = Consent.objects.filter(pk=checked.consent_id).first()
    return {
        "checked": checked,
        "log": fill(text["check"]["log"], index=str(checked.index), size=str(checked.size)),
        "state": consent.state if consent else "",
        "state_words": state_words(consent, locale) if consent else text["check"]["gone"],
    }


def _other_house(signed: str) -> str:
    """The address another house's receipt names (not verified: only they can say); "" for ours or none."""
    try:
        issuer = receipts.body_of(signed).get("iss")
    except ReceiptError:
        return ""
    parts = urlsplit(issuer) if isinstance(issuer, str) and len(issuer) < 200 else None
    if parts is None or parts.scheme not in {"http", "https"} or issuer == settings.PUBLIC_URL:
        return ""
    return str(issuer)


def _page(
    request: HttpRequest, locale: str, text: dict[str, Any], answer: dict[str, Any], status: int = 200
) -> HttpResponse:
    other = text["other_locale"]
    context = {
        "words": text,
        "locale": locale,
        "lang": "zh-Hans" if locale == "zh-hans" else "en",
        "other_lang": "zh-Hans" if other == "zh-hans" else "en",
        "language_link": reverse("verify:receipt"),
        **answer,
    }
    response = render(request, "verify/receipt.html", context, status=status)
    response["Referrer-Policy"] = "no-referrer"
    return response
