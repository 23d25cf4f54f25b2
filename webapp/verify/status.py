"""The public page of one output, which its manifest names as `status_url`, and what partners embed of it.

It says whether the permission is in force, and nothing about people; it shows no picture. Whoever has the output has
its id; nobody can guess one.
"""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import Resolver404, resolve, reverse
from django.utils.html import format_html
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.http import require_safe

from watermark.verdict import OutputRecord
from webapp.verify import report
from webapp.verify.records import PublishedOutputs

BADGE_SECONDS = 60  # a withdrawn permission is seen on every page that shows the badge after this at the latest
BADGE_SIZE = (232, 44)  # pixels
STATES = {
    "in_force": "permission in force",
    "withdrawn": "permission withdrawn",
    "revoked": "permission ended",
    "taken_down": "taken down",
}


def record_of(output_id: str) -> OutputRecord:
    """Raises Http404."""
    plausible = output_id.isascii() and output_id.isprintable() and len(output_id) <= 32
    record = PublishedOutputs().by_id(output_id) if plausible else None
    if record is None:
        raise Http404
    return record


@require_safe
@never_cache
def page(request: HttpRequest, output_id: str) -> HttpResponse:
    """Is the permission for this output in force?"""
    record = record_of(output_id)
    address = _address("verify:status", record)
    context = {
        "section": "verify",
        "permission": report.permission(record),
        "oembed": f"{settings.PUBLIC_URL}{reverse('oembed')}?{urlencode({'url': address, 'format': 'json'})}",
        "manifest_url": reverse("resolution:manifest", args=[record.manifest_label]),
        "embed": _embed(record),
    }
    response = render(request, "verify/status.html", context)
    response["X-Robots-Tag"] = "noindex"
    return response


@require_safe
@cache_control(public=True, max_age=BADGE_SECONDS)
def badge(request: HttpRequest, output_id: str) -> HttpResponse:
    """A small picture that says the state as it is now; an <img>, so no script of ours runs on a partner's page."""
    record = record_of(output_id)
    context = {
        "state": STATES.get(record.state, "permission not in force"),
        "in_force": record.state == "in_force",
        "width": BADGE_SIZE[0],
        "height": BADGE_SIZE[1],
    }
    response = render(request, "verify/badge.svg", context, content_type="image/svg+xml; charset=utf-8")
    response["Access-Control-Allow-Origin"] = "*"
    response["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


@require_safe
@cache_control(public=True, max_age=BADGE_SECONDS)
def oembed(request: HttpRequest) -> HttpResponse:
    """oEmbed 1.0 for the address of a status page: a link around the badge, without any script."""
    if request.GET.get("format", "json") != "json":
        return HttpResponse("Only the format json is given.", status=501, content_type="text/plain; charset=utf-8")
    record = _named(request.GET.get("url", ""))
    width, height = BADGE_SIZE
    room = (_size(request, "maxwidth"), _size(request, "maxheight"))
    scale = min([1.0, *(limit / size for limit, size in zip(room, BADGE_SIZE, strict=True) if limit)])
    width, height = max(1, int(width * scale)), max(1, int(height * scale))
    answer = JsonResponse(
        {
            "version": "1.0",
            "type": "rich",
            "title": f"AI-edited, {STATES.get(record.state, 'permission not in force')}",
            "provider_name": "Imprimatur",
            "provider_url": settings.PUBLIC_URL,
            "cache_age": BADGE_SECONDS,
            "width": width,
            "height": height,
            "html": _embed(record, width, height),
        }
    )
    answer["Access-Control-Allow-Origin"] = "*"
    return answer


def _named(address: str) -> OutputRecord:
    """The output whose status page has this address. Raises Http404."""
    ours = urlsplit(settings.PUBLIC_URL)
    try:
        given = urlsplit(address[:2000])
        match = resolve(given.path)
    except (ValueError, Resolver404):
        raise Http404 from None
    if (given.scheme, given.netloc) != (ours.scheme, ours.netloc) or match.view_name != "verify:status":
        raise Http404
    return record_of(str(match.kwargs["output_id"]))


def _size(request: HttpRequest, name: str) -> int:
    """Pixels, 0 for no limit."""
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0


def _address(name: str, record: OutputRecord) -> str:
    return f"{settings.PUBLIC_URL}{reverse(name, args=[record.output_id])}"


def _embed(record: OutputRecord, width: int = BADGE_SIZE[0], height: int = BADGE_SIZE[1]) -> str:
    return format_html(
        '<a href="{}"><img src="{}" width="{}" height="{}" alt="AI-edited. Check the permission."></a>',
        _address("verify:status", record),
        _address("verify:badge", record),
        width,
        height,
    )
