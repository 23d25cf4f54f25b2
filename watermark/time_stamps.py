"""Ask an RFC 3161 time-stamp service, from the process that may use the network."""

from __future__ import annotations

import urllib.error
import urllib.request

_SECONDS = 10.0
_MAX_REPLY = 1 << 18


class TimeStampError(Exception):
    """The service gave no time stamp. `code`: time_stamp_failed."""

    code = "time_stamp_failed"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The operator named one address; no other is asked in its place."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
        return None


def request_time_stamp(url: str, query: bytes) -> bytes:
    """POST a TimeStampReq (DER) and return the reply's bytes (RFC 3161 section 3.4). Raises TimeStampError."""
    request = urllib.request.Request(url, query, {"Content-Type": "application/timestamp-query"})  # noqa: S310
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=_SECONDS) as answer:
            return bytes(answer.read(_MAX_REPLY))
    except (OSError, ValueError) as error:
        raise TimeStampError(f"the time-stamp service gave no answer: {error}") from error
