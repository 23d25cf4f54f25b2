"""Lists are read newest first, a page at a time, by a cursor that names the last row seen (no offsets)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core import signing
from django.db.models import Q, QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from webapp.jobs.errors import JobsError

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
SALT = "imprimatur.api.cursor"


def page(request: Request, rows: QuerySet[Any], shape: Any) -> Response:
    """One page of `rows` (which have `created_at` and `pk`), each through `shape(row) -> dict`.

    The body is `{"object": "list", "data": […], "has_more": bool, "next_cursor": str | null}`, with a `Link` header
    (RFC 8288) when there is more. Raises JobsError cursor_invalid, limit_invalid (both 400).
    """
    limit = _limit(request)
    if cursor := request.query_params.get("cursor", ""):
        moment, last = _read(cursor)
        rows = rows.filter(Q(created_at__lt=moment) | Q(created_at=moment, pk__lt=last))
    found = list(rows.order_by("-created_at", "-pk")[: limit + 1])
    more = len(found) > limit
    found = found[:limit]
    following = None
    if more:
        # Signed without a time: the same page has the same cursor, so that an answer can be cached and compared.
        following = signing.Signer(salt=SALT).sign_object([found[-1].created_at.isoformat(), found[-1].pk])
    body = {"object": "list", "data": [shape(row) for row in found], "has_more": more, "next_cursor": following}
    response = Response(body)
    if following:
        query = request.query_params.copy()
        query["cursor"] = following
        address = request.build_absolute_uri(f"{request.path}?{query.urlencode()}")
        response["Link"] = f'<{address}>; rel="next"'
    return response


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= MAX_LIMIT):
        raise JobsError("limit_invalid", f"The limit must be a number from 1 to {MAX_LIMIT}.", status=400)
    return int(text)


def _read(cursor: str) -> tuple[datetime, str]:
    try:
        moment, last = signing.Signer(salt=SALT).unsign_object(cursor)
        return datetime.fromisoformat(moment), str(last)
    except (signing.BadSignature, ValueError, TypeError):
        raise JobsError(
            "cursor_invalid", "This cursor is not one of ours. Begin again without a cursor.", status=400
        ) from None
