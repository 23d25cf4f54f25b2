"""Every typed error of the house as an RFC 9457 problem: one table, one shape.

A problem has `type`, `title`, `status`, `code` (stable, for programs), `detail` (for people: what happened, whether
anything was lost, what to do) and `request_id`; where fields are wrong also `errors` with JSON pointers (RFC 6901).
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, Final

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import OperationalError
from django.http import Http404, HttpResponse, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import set_rollback

from consent.envelope import EnvelopeError
from consent.errors import ConsentError
from consent.keys import KeyStoreError
from consent.ledger.errors import LedgerError
from watermark.mark_errors import MarkError
from webapp.accounts.services import AccountsError
from webapp.jobs.errors import JobsError
from webapp.keys_of_house import KeysError
from webapp.net import FetchError
from webapp.screening.services import ScreeningError
from webapp.storage import StorageError
from webapp.verify.errors import QueryError
from webapp.verify.slots import BusyError
from worker.media.errors import FULL_DISK, ChildError, MediaError

log = logging.getLogger(__name__)

CONTENT_TYPE: Final = "application/problem+json"
REQUEST_ID_HEADER: Final = "X-Request-Id"

TITLES: Final[Mapping[int, str]] = {
    400: "The request cannot be read",
    401: "A valid key is needed",
    403: "This is not allowed",
    404: "There is no such thing here",
    405: "This method is not supported here",
    406: "This representation is not available",
    409: "The state of things does not allow this now",
    410: "This is gone",
    413: "The request is too large",
    414: "The address is too long",
    415: "This kind of content is not supported",
    422: "The request cannot be carried out",
    429: "Too many requests",
    451: "Not available for legal reasons",
    500: "Something went wrong on our side",
    503: "Not available at the moment",
    507: "There is no room left",
}

# Errors of the house: the status of a class, unless the code has one of its own. An error that carries a `status`
# itself (JobsError) keeps it.
CLASSES: Final[tuple[tuple[type[Exception], int], ...]] = (
    (JobsError, 422),
    (ScreeningError, 409),
    (AccountsError, 422),
    (BusyError, 429),
    (FetchError, 422),
    (QueryError, 400),
    (ConsentError, 422),
    (MediaError, 422),
    (MarkError, 422),
    (ChildError, 422),
    (StorageError, 503),
    (KeysError, 503),
    (KeyStoreError, 503),
    (EnvelopeError, 503),
    (LedgerError, 503),
)
CODES: Final[Mapping[str, int]] = {
    "not_found": 404,
    "object_missing": 410,
    "key_destroyed": 410,
    "too_large": 413,
    "disk_full": 507,
    "child_died": 503,
    "child_timeout": 503,
    "child_out_of_memory": 503,
    "child_failed": 503,
}
# Django REST framework's own words for what a request got wrong, by status.
DETAILS: Final[Mapping[int, str]] = {
    400: "The body is not what this address expects; nothing was changed. Correct it and send it again.",
    401: "Send the key as `Authorization: Bearer imp_live_…`; nothing was changed.",
    404: "There is no such resource in your organisation; nothing was changed. Check the id.",
}


NO_ROOM: Final = (
    "There is no room left on this service's disk; nothing half-written was kept and nothing else was changed. "
    "Try again later, or tell whoever runs the service."
)
_FULL_DATABASE: Final = ("disk is full", "could not extend file", "No space left on device")


def disk_is_full(error: BaseException | None) -> bool:
    """Did a file or a database find no room? (An upload is written before any view, so this comes from anywhere.)"""
    if isinstance(error, OSError):
        return error.errno in FULL_DISK
    return isinstance(error, OperationalError) and any(words in str(error) for words in _FULL_DATABASE)


def new_request_id() -> str:
    """An id under which one request can be found again."""
    return f"req_{secrets.token_hex(12)}"


def body_of(code: str, detail: str, status: int, request_id: str, **extra: Any) -> dict[str, Any]:
    """The members of a problem."""
    return {
        "type": f"urn:imprimatur:problem:{code}",
        "title": TITLES.get(status, TITLES[422]),
        "status": status,
        "code": code,
        "detail": detail,
        "request_id": request_id,
        **extra,
    }


def problem(code: str, detail: str, *, status: int, **extra: Any) -> HttpResponse:
    """A problem from outside a REST view (unknown address, body too large)."""
    request_id = new_request_id()
    response = JsonResponse(body_of(code, detail, status, request_id, **extra), status=status)
    response["Content-Type"] = CONTENT_TYPE
    response[REQUEST_ID_HEADER] = request_id
    return response


def problem_response(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """REST framework's exception handler. None (a 500) only for what is not typed: then it is a bug, and is logged."""
    set_rollback()
    request = context.get("request")
    request_id = getattr(request, "request_id", None) or new_request_id()
    found = _translate(error)
    if found is None:
        return None
    code, detail, status, extra, headers = found
    response = Response(body_of(code, detail, status, request_id, **extra), status=status, content_type=CONTENT_TYPE)
    for name, value in headers.items():
        response[name] = value
    return response


def _translate(error: Exception) -> tuple[str, str, int, dict[str, Any], dict[str, str]] | None:
    """(code, detail, status, further members, headers) of an error; None for one that is not known."""
    for kind, default in CLASSES:
        if isinstance(error, kind):
            code = str(getattr(error, "code", "internal_error"))
            status = int(getattr(error, "status", 0) or CODES.get(code, default))
            after = getattr(error, "retry_after", None)
            headers = {"Retry-After": str(after)} if after else {}
            extra = dict(getattr(error, "extra", {}))
            if fields := getattr(error, "fields", None):
                extra["errors"] = [
                    {"pointer": f"/{name}", "code": str(why), "detail": str(why).replace("_", " ")}
                    for name, why in fields.items()
                ]
            return code, str(error), status, extra, headers
    if disk_is_full(error):
        return "disk_full", NO_ROOM, 507, {}, {}
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    elif isinstance(error, RequestDataTooBig):
        return "too_large", "The body is larger than allowed; nothing was kept. Send a smaller one.", 413, {}, {}
    elif isinstance(error, SuspiciousOperation):
        return "bad_request", DETAILS[400], 400, {}, {}
    if isinstance(error, exceptions.ValidationError):
        errors = list(_pointers(error.detail, ""))
        words = "; ".join(f"{each['pointer'] or 'body'}: {each['detail']}" for each in errors[:3])
        detail = f"The request has {len(errors)} mistake(s); nothing was changed. {words}"
        return "invalid_request", detail, 400, {"errors": errors}, {}
    if isinstance(error, exceptions.APIException):
        return _framework(error)
    return None


def _framework(error: exceptions.APIException) -> tuple[str, str, int, dict[str, Any], dict[str, str]]:
    headers: dict[str, str] = {}
    status = error.status_code
    code = str(error.get_codes()) if isinstance(error.detail, str) else error.default_code
    detail = DETAILS.get(status, f"{error.detail} Nothing was changed.")
    if isinstance(error, exceptions.Throttled):
        seconds = max(1, round(getattr(error, "wait", None) or 1))
        headers["Retry-After"] = str(seconds)
        detail = f"There were too many requests; nothing was changed. Try again in {seconds} seconds."
    elif isinstance(error, exceptions.NotAuthenticated | exceptions.AuthenticationFailed):
        status = 401
        if challenge := getattr(error, "auth_header", None):
            headers["WWW-Authenticate"] = challenge
    elif isinstance(error, exceptions.ParseError):
        code = "bad_request"
    return code, detail, status, {}, headers


def _pointers(detail: Any, pointer: str) -> Iterator[dict[str, str]]:
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            whole = name in {api_settings.NON_FIELD_ERRORS_KEY, "unknown"}
            step = "" if whole else "/" + str(name).replace("~", "~0").replace("/", "~1")
            yield from _pointers(inner, pointer + step)
    elif isinstance(detail, list | tuple):
        for position, inner in enumerate(detail):
            if isinstance(inner, Mapping | list):
                yield from _pointers(inner, f"{pointer}/{position}")
            else:
                yield from _pointers(inner, pointer)
    else:
        yield {"pointer": pointer, "code": str(getattr(detail, "code", "invalid")), "detail": str(detail)}
