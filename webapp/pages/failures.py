"""The pages of errors; below the addresses of APIs the same errors are RFC 9457 problems."""

from __future__ import annotations

import sys

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import is_valid_path

from webapp.api.errors import NO_ROOM, disk_is_full, problem

APIS = ("/v1/", "/c2pa/")


def _failure(request: HttpRequest, status: int, title: str, text: str, code: str) -> HttpResponse:
    if request.path.startswith(APIS):
        return problem(code, text, status=status)
    return render(request, "failure.html", {"heading": title, "text": text, "status": status}, status=status)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """400: Django would not read the request."""
    text = "The request could not be read, so nothing was changed. Go back, reload the page and send it again."
    return _failure(request, 400, "This could not be read", text, "bad_request")


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """403: logged in, but not allowed."""
    text = "This page is for other people of the house. Nothing was changed. Log in with another account to see it."
    return _failure(request, 403, "Not for this account", text, "forbidden")


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """404: not there, or another organisation's. An address typed with a slash too many leads to the page it means."""
    meant = request.path.rstrip("/")
    if request.method in ("GET", "HEAD") and request.path != meant and is_valid_path(meant):
        path, mark, query = request.get_full_path().partition("?")
        return redirect(path.rstrip("/") + mark + query)
    text = "There is nothing at this address, or it belongs to somebody else. Nothing was changed."
    return _failure(request, 404, "Nothing here", text, "not_found")


def server_error(request: HttpRequest) -> HttpResponse:
    """500: our fault; 507: no room. Rendered without the context processors, which may be what failed."""
    status, code, title = 500, "internal_error", "Something went wrong"
    text = (
        "Something went wrong on our side. What you had saved before is kept. Try again; if it happens twice, "
        "tell whoever runs this service at what time it happened."
    )
    if disk_is_full(sys.exc_info()[1]):  # Django calls this view while it handles the exception
        status, code, title, text = 507, "disk_full", "There is no room left", NO_ROOM
    if request.path.startswith(APIS):
        return problem(code, text, status=status)
    return HttpResponse(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="stylesheet" href="/static/app.css"></head><body><main class="page narrow">'
        f'<div class="card stack"><h1>{title}</h1><p>{text}</p>'
        '<p><a class="button" href="/">Start page</a></p></div></main></body></html>',
        status=status,
    )
