"""RFC 3161 time stamps under our own bounds: how long a service is waited for, what is accepted, and why there is none.

What is stamped, and where the stamp goes, is the business of `stamping`.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib import error as urllib_error
from urllib import request as urllib_request
from urllib.parse import urlsplit

from rfc3161_client import HashAlgorithm, PKIStatus, TimestampRequestBuilder, decode_timestamp_response
from rfc3161_client._rust import parse_timestamp_request  # its builder makes requests, only this reads one

from watermark.bounded import within

ANSWER_SECONDS = 10.0  # for one request as a whole
MAX_ANSWER = 64 << 10  # bytes: a token with its certificates has 2 to 8 kB
_GRANTED = (PKIStatus.GRANTED, PKIStatus.GRANTED_WITH_MODS)


class TimeStampError(Exception):
    """No time stamp was given. `code`: tsa_unavailable (no answer in time), tsa_invalid (an answer that is none).

    `message` is for everybody; `detail` holds what was seen, for the operator and the log. `str()` gives both.
    """

    def __init__(self, code: str, message: str, detail: str) -> None:
        super().__init__(f"{message} [{detail}]")
        self.code = code
        self.message = message
        self.detail = detail


@dataclass(frozen=True)
class TimeStampService:
    """An RFC 3161 service over HTTP (section 3.4) at `url`."""

    url: str
    seconds: float = ANSWER_SECONDS

    def __post_init__(self) -> None:
        """Raises ValueError unless the address is http(s)."""
        if urlsplit(self.url).scheme not in {"http", "https"} or not urlsplit(self.url).hostname:
            raise ValueError("the address of a time-stamp service begins with http:// or https://")

    def ask(self, query: bytes) -> bytes:
        """The answer to one TimeStampReq (DER), checked to be the answer to it. Raises TimeStampError in bounded time.

        Checked are status, nonce and message imprint (RFC 3161 section 2.4.2); who signed the token is judged by the
        reader of the finished file.
        """
        # A socket's own time-out bounds one read, not a drip.
        answer = within(self.seconds, lambda: self._post(query), self._unavailable)
        try:
            asked, given = parse_timestamp_request(query), decode_timestamp_response(answer)
            if given.status not in _GRANTED:
                words = "; ".join(given.status_string) or f"status {given.status}"
                raise unusable(f"{self.url} refuses: {words}")
            token = given.tst_info
            if token.nonce != asked.nonce:
                raise unusable(f"{self.url} answered with another nonce, as in a replayed answer")
            same = token.message_imprint.message == asked.message_imprint.message
            if not same or token.message_imprint.hash_algorithm != asked.message_imprint.hash_algorithm:
                raise unusable(f"{self.url} stamped other bytes than those it was asked to")
        except TimeStampError:
            raise
        except Exception as error:  # the parser's errors for hostile bytes have no common class
            raise unusable(f"{self.url} answered with {len(answer)} bytes that are no time stamp ({error})") from error
        return answer

    def probe(self) -> None:
        """Ask for a stamp over random bytes. Raises TimeStampError when none would be given now."""
        builder = TimestampRequestBuilder().data(secrets.token_bytes(32)).hash_algorithm(HashAlgorithm.SHA256)
        self.ask(builder.nonce(nonce=True).cert_request(cert_request=True).build().as_bytes())

    def _post(self, query: bytes) -> bytes:
        headers = {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}
        asked = urllib_request.Request(self.url, data=query, headers=headers, method="POST")  # noqa: S310 - http(s) only
        try:
            with _OPENER.open(asked, timeout=self.seconds) as response:
                content = bytes(response.read(MAX_ANSWER + 1))
        except urllib_error.HTTPError as error:
            error.close()
            if error.code >= 500 or error.code == 429:
                raise self._unavailable(f"HTTP status {error.code}") from error
            raise unusable(f"{self.url} refuses with HTTP status {error.code}") from error
        except TimeoutError as error:
            raise self._unavailable(f"no whole answer within {self.seconds:g} s") from error
        except (OSError, HTTPException) as error:
            raise self._unavailable(str(error) or error.__class__.__name__) from error
        if len(content) > MAX_ANSWER:
            raise unusable(f"{self.url} sent more than {MAX_ANSWER} bytes")
        return content

    def _unavailable(self, words: str) -> TimeStampError:
        return TimeStampError(
            "tsa_unavailable",
            "The time-stamp service does not answer. Nothing was published and nothing is lost; "
            "it is tried again by itself.",
            f"{self.url}: {words}",
        )


class _NoRedirect(urllib_request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """A service that moved is named as such; nobody is sent elsewhere by it."""


_OPENER = urllib_request.build_opener(_NoRedirect)


def unusable(words: str) -> TimeStampError:
    """The error for an answer that is no time stamp for what was asked."""
    return TimeStampError(
        "tsa_invalid",
        "The time-stamp service gave no usable time stamp. Nothing was published and nothing is lost; "
        "it is tried again by itself. The operator finds the reason in the log and with `manage.py certs check`.",
        words,
    )
