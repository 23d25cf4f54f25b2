"""The person's data: to take with them, and to have destroyed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.views.decorators.http import require_http_methods, require_POST

from consent.portal import joins as portal_joins
from consent.portal import services as portal
from consent.portal.models import PortalSession
from consent.portal.texts import portal_words
from webapp.pages import portal_guard as guard
from webapp.pages.portal_export import archive


@require_POST
@guard.for_person
def export(request: HttpRequest, session: PortalSession) -> HttpResponseBase:
    """Everything about the person as one ZIP file, sent while it is made."""
    pieces = archive(session)
    body: Iterator[bytes] | AsyncIterator[bytes] = (
        _in_thread(pieces) if isinstance(request, ASGIRequest) else pieces  # a sync iterator under ASGI is read whole
    )
    response = StreamingHttpResponse(body, content_type="application/zip")
    response["Content-Disposition"] = 'attachment; filename="imprimatur-my-data.zip"'
    response["X-Content-Type-Options"] = "nosniff"
    return response


@require_http_methods(["GET", "HEAD", "POST"])
@guard.for_person
def erase(request: HttpRequest, session: PortalSession) -> HttpResponseBase:
    """GET says what is destroyed and what is kept, POST with the tick destroys it and ends every session."""
    subject = portal.check_whole(session)
    if request.method != "POST" or "sure" not in request.POST:
        text = portal_words(session.locale)["erase"]
        missing = text["confirm_needed"] if request.method == "POST" else ""
        return guard.page(request, "erase", session, {"problem": missing}, status=422 if missing else 200)
    locale = session.locale
    report = portal_joins.erase(subject)
    return guard.let_out(guard.page(request, "erased", context={"finished": report.finished}, locale=locale))


async def _in_thread(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    following = sync_to_async(lambda: next(pieces, None), thread_sensitive=False)
    while (piece := await following()) is not None:
        yield piece
