"""`/healthz`: is this process able to answer?"""

from __future__ import annotations

from django.db import DatabaseError, connections
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe


@require_safe
@never_cache
def healthz(request: HttpRequest) -> JsonResponse:
    """200 when both databases answer, 503 with the name of the one that does not."""
    answers: dict[str, str] = {}
    for alias in ("default", "keys"):
        try:
            with connections[alias].cursor() as cursor:
                cursor.execute("SELECT 1")
            answers[alias] = "ok"
        except DatabaseError:
            answers[alias] = "unavailable"
    good = all(answer == "ok" for answer in answers.values())
    return JsonResponse({"status": "ok" if good else "unavailable", "databases": answers}, status=200 if good else 503)
