"""Headers of every answer that no library of ours sets."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

NOTHING = "camera=(), microphone=(), geolocation=(), payment=(), usb=()"


def permissions_policy(answer: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: no page may ask for a device, but the one that says so itself (the camera page of a live selfie)."""

    def answered(request: HttpRequest) -> HttpResponseBase:
        response = answer(request)
        response.headers.setdefault("Permissions-Policy", NOTHING)
        return response

    return answered
