"""The verify page: open to everybody, works without JavaScript, keeps answers for a while and files never."""

from __future__ import annotations

import json
from typing import Any

from csp.constants import SELF, WASM_UNSAFE_EVAL
from csp.decorators import csp_update
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.http import require_http_methods, require_safe

from webapp import keys_of_house
from webapp.net import MEDIA_BYTES, FetchError
from webapp.verify import browser_reader, kept, report, services
from webapp.verify.models import Verification
from webapp.verify.slots import BusyError
from webapp.verify.throttles import seconds_to_wait

# WebAssembly is for the reader of Content Credentials that runs in the visitor's own browser, on this page alone.
reader_allowed = csp_update({"script-src": [WASM_UNSAFE_EVAL], "worker-src": [SELF]})


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@reader_allowed
def page(request: HttpRequest) -> HttpResponse:
    """The form; what is sent is answered on a page of its own."""
    if request.method != "POST":
        return _form(request)
    if wait := seconds_to_wait(request):
        return _later(
            _form(request, f"That was too often. Nothing was looked at; try again in {wait} seconds.", 429), wait
        )
    file, url = request.FILES.get("file"), request.POST.get("url", "").strip()
    wanted = "fetch_manifest" in request.POST
    try:
        if file is not None and url:
            return _form(request, "Choose a file or give an address, not both. Nothing was looked at.", 422)
        if url:
            row = kept.receive_url(url, fetch_manifest=wanted)
        elif file is None:
            return _form(request, "Choose a file or give an address first. Nothing was sent.", 422)
        elif not file.size:
            return _form(request, "The file is empty. Choose it again.", 422)
        elif file.size > settings.MAX_VIDEO_BYTES:
            limit = settings.MAX_VIDEO_BYTES >> 20
            return _form(request, f"The file is larger than {limit} MiB and was not kept. Choose a smaller one.", 413)
        else:
            row = kept.receive_upload(file, fetch_manifest=wanted)
    except BusyError as error:
        return _later(_form(request, str(error), 429), error.retry_after)
    except FetchError as error:
        return _form(request, str(error), error.status)
    response = HttpResponseRedirect(reverse("verify:result", args=[row.pk]))
    response.status_code = 303
    return response


def _later(response: HttpResponse, seconds: int) -> HttpResponse:
    response["Retry-After"] = str(seconds)
    return response


def _form(request: HttpRequest, error: str = "", status: int = 200) -> HttpResponse:
    context: dict[str, Any] = {
        "section": "verify",
        "limit": settings.MAX_VIDEO_BYTES >> 20,
        "limit_bytes": settings.MAX_VIDEO_BYTES,
        "fetch_limit": MEDIA_BYTES >> 20,
        "days": settings.VERIFICATION_RETENTION_DAYS,
        "reader": browser_reader.address(),
        "error": error,
        "url": request.POST.get("url", "")[:2000] if request.method == "POST" else "",
    }
    return render(request, "verify/page.html", context, status=status)


def _row(answer_id: str) -> Verification:
    row = kept.find(answer_id)
    if row is None:
        raise Http404
    return row


@require_safe
@never_cache
def result(request: HttpRequest, answer_id: str) -> HttpResponse:
    """An answer, with the permission as it is now; or that it is still being made."""
    row = _row(answer_id)
    found = kept.verdict_of(row)
    if found is None:
        running = row.current_state == Verification.State.RUNNING
        context = {"section": "verify", "row": row, "running": running, "failure": kept.INTERRUPTED["message"]}
        return render(request, "verify/waiting.html", context, status=200 if running else 410)
    response = render(request, "verify/result.html", {"section": "verify", **report.context(row, found)})
    response["X-Robots-Tag"] = "noindex"
    return response


@require_safe
@never_cache
def result_state(request: HttpRequest, answer_id: str) -> JsonResponse:
    """For the page that waits."""
    return JsonResponse({"page": _row(answer_id).current_state})


@require_safe
@never_cache
def result_json(request: HttpRequest, answer_id: str) -> HttpResponse:
    """An answer as a file."""
    text = json.dumps(kept.body(_row(answer_id)), indent=2, ensure_ascii=False)
    response = HttpResponse(text, content_type="application/json; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="imprimatur-verdict.json"'
    return response


@require_safe
@cache_control(public=True, max_age=3600)
def trusted(request: HttpRequest) -> HttpResponse:
    """All root certificates that are trusted here, ours and those of others: for the reader in the browser."""
    both = f"{keys_of_house.anchors_pem()}\n{services.trust_list_pem()}"
    return HttpResponse(both, content_type="application/x-pem-file")


@require_safe
@cache_control(public=True, max_age=3600)
def anchors(request: HttpRequest) -> HttpResponse:
    """The root certificates under which our own manifests are trusted (PEM), for readers elsewhere."""
    return HttpResponse(keys_of_house.anchors_pem(), content_type="application/x-pem-file")
