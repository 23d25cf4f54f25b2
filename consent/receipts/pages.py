"""The receipt under the person's own link: to read, to keep as a file, and a code that leads to the withdrawal."""

from __future__ import annotations

import io

import segno
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, JsonResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from consent.models import Consent
from consent.receipts import services as receipts
from consent.receipts.files import json_of, pdf_of
from consent.receipts.models import Receipt
from consent.receipts.view import describe
from consent.views import _locale, _private, _render

KINDS = {"jwt": "application/jwt", "json": "application/json; charset=utf-8", "pdf": "application/pdf"}


@require_safe
@_private
def page(request: HttpRequest, consent: Consent, token: str) -> HttpResponseBase:
    """What was agreed and how it can be proven; while the log does not cover it yet, that it takes a moment."""
    row = _row(consent)
    if row is None and consent.given_at is None:
        return _to("consent:page", request, consent, token)
    locale = _locale(request, consent)
    context = {
        "consent": consent,
        "token": token,
        "shown": describe(consent, row, locale, now=timezone.now()) if row is not None else None,
        "withdrawable": consent.state in ("given", "exhausted", "expired", "superseded"),
    }
    response = _render(request, "receipt_document", locale, context)
    if row is None:
        response["Retry-After"] = "5"
    return response


@require_safe
@_private
def download(request: HttpRequest, consent: Consent, token: str, kind: str) -> HttpResponseBase:
    """The receipt as a file: jwt, json or pdf."""
    row = _row(consent)
    if row is None:
        return _to("consent:receipt", request, consent, token)
    if kind == "pdf":
        data = pdf_of(consent, row, _locale(request, consent), now=timezone.now())
    elif kind == "json":
        data = json_of(row.jws)
    else:
        data = row.jws.encode()
    response = HttpResponse(data, content_type=KINDS[kind])
    response["Content-Disposition"] = f'attachment; filename="receipt.{kind}"'
    return response


@require_safe
@_private
def code(request: HttpRequest, consent: Consent, token: str) -> HttpResponseBase:
    """The QR code of the page on which the person withdraws, by the receipt's own link."""
    row = _row(consent)
    if row is None:
        return HttpResponse(status=404)
    target = io.BytesIO()
    segno.make(receipts.withdraw_link(receipts.body_of(row.jws)), micro=False, error="m").save(
        target, kind="svg", scale=6, border=3, light="#fff", xmldecl=False, svgclass=None, lineclass=None
    )
    return HttpResponse(target.getvalue(), content_type="image/svg+xml")


@require_safe
@cache_control(public=True, max_age=3600)
def jwks(request: HttpRequest) -> HttpResponse:
    """`/.well-known/jwks.json`: every public key that a receipt or a checkpoint of the log can be checked with."""
    response = JsonResponse(receipts.jwks(), content_type="application/jwk-set+json")
    response["Access-Control-Allow-Origin"] = "*"  # public, and read by checkers on other sites
    return response


def _row(consent: Consent) -> Receipt | None:
    return receipts.receipt_row(consent)


def _to(name: str, request: HttpRequest, consent: Consent, token: str) -> HttpResponse:
    response = HttpResponseRedirect(f"{reverse(name, args=[token])}?lang={_locale(request, consent)}")
    response.status_code = 303
    return response
