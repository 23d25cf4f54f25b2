"""The verify page: open to everybody, works without JavaScript, keeps nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from webapp.verify import services
from webapp.verify.slots import BusyError


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def page(request: HttpRequest) -> HttpResponse:
    """The form, and below it the answer to what was sent."""
    context: dict[str, Any] = {
        "section": "verify",
        "limit": settings.MAX_VIDEO_BYTES >> 20,
        "limit_bytes": settings.MAX_VIDEO_BYTES,
    }
    if request.method != "POST":
        return render(request, "verify/page.html", context)
    file = request.FILES.get("file")
    if file is None:
        context["error"] = "Choose a file first. Nothing was sent."
        return render(request, "verify/page.html", context, status=422)
    if not file.size:
        context["error"] = "The file is empty. Choose it again."
        return render(request, "verify/page.html", context, status=422)
    if file.size > settings.MAX_VIDEO_BYTES:
        context["error"] = f"The file is larger than {context['limit']} MiB and was not kept. Choose a smaller one."
        return render(request, "verify/page.html", context, status=413)
    try:
        found = services.verify_upload(file)
    except BusyError as error:
        context["error"] = str(error)
        response = render(request, "verify/page.html", context, status=429)
        response["Retry-After"] = str(error.retry_after)
        return response
    mark = found.evidence.mark
    context |= {
        "name": file.name,
        "found": found,
        "mark_id": mark.mark_id.hex() if mark else "",
        "signed_at": _moment(found.evidence.credentials.signed_at) if found.evidence.credentials else None,
        "report": json.dumps(services.verdict_body(found), indent=2, ensure_ascii=False),
    }
    if "download" in request.POST:
        response = HttpResponse(context["report"], content_type="application/json")
        response["Content-Disposition"] = 'attachment; filename="imprimatur-verdict.json"'
        return response
    return render(request, "verify/page.html", context)


def _moment(text: str) -> datetime | None:
    """A manifest's time, which is untrusted text; None for what is no time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else None
