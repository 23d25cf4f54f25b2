"""Asking a service outside of this house about an upload: one conversation, with a deadline and without surprises.

The file itself is sent, so nothing here happens unless the operator said so for that service (see `pack_store`). How
requests get out is the caller's (`Send`): this room has no network of its own. A service that fails says why with a
code, which the policy reads as an error of the kind, never as an acceptance.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Protocol

from worker.gate.upload import Upload

TRIES: Final = 3  # of a request that met a server in trouble
MOST_TOLD: Final = 32  # rows of single models that are kept
_STEP: Final = 60.0  # seconds of one request
_LONGEST: Final = 80  # characters of a word that a service says
_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class OutsideError(Exception):
    """A service that gave no answer. `code` is stable: service_key, service_limited, service_unreachable,
    service_answer, service_unfit, timeout, not_finite. The message holds nothing that the service said."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Request:
    """One HTTP request; its body is `before`, the bytes of `file`, `after`. Headers may hold a key."""

    verb: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    before: bytes = b""
    file: Path | None = None
    after: bytes = b""


@dataclass(frozen=True)
class Reply:
    """What came back; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Send(Protocol):
    """Sends one request, to public https addresses only."""

    def __call__(self, request: Request, seconds: float) -> Reply:
        """Raises OutsideError `timeout`, `service_unreachable`, `service_answer` (of one that is too large)."""
        ...


@dataclass(frozen=True)
class Account:
    """Where a service is, and the operator's key for it ("" where there is none)."""

    url: str
    key: str = field(repr=False)


@dataclass(frozen=True)
class Outside:
    """The way out: how to send, accounts by provider, how long one upload may take, and the pause between questions."""

    send: Send
    accounts: Mapping[str, Account]
    seconds: float = 300.0
    pause: float = 2.0


@dataclass(frozen=True)
class Answer:
    """What a service says: `score` 0..1 (higher is fake), None where it found nothing to judge.

    `timeline` is (seconds, score) where it gave one, `told` its own words and the rows of its models, for the evidence.
    """

    score: float | None
    timeline: tuple[tuple[float, float], ...] = ()
    told: Mapping[str, Any] = field(default_factory=dict)


class Call:
    """One conversation with one service about one upload."""

    def __init__(self, outside: Outside, account: Account) -> None:
        """The deadline begins here. Raises OutsideError `service_key` where there is no key."""
        if not account.key:
            raise OutsideError("service_key", "There is no key for the service.")
        self.key = account.key
        self._outside, self._account = outside, account
        self._deadline = time.monotonic() + outside.seconds

    def url(self, path: str) -> str:
        """An address of the service."""
        return self._account.url.rstrip("/") + path

    def ask(self, request: Request, *, absent: bool = False) -> Reply | None:
        """Send until there is an answer of the 200s; None for a 404 where something may be `absent` yet.

        A server in trouble is asked again, one that wants us to wait is waited for, both within the deadline. Raises
        OutsideError.
        """
        pause = self._outside.pause
        for number in range(1, 1000):
            trouble = OutsideError("service_unreachable", "The service did not answer.")
            try:
                reply = self._outside.send(request, min(_STEP, self._left()))
            except OutsideError as error:
                if error.code != "service_unreachable":
                    raise
                reply, trouble = None, error
            if reply is None or reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                if number >= TRIES:
                    raise trouble
                self._wait(pause, "service_unreachable")
                pause *= 2
            elif reply.status == HTTPStatus.TOO_MANY_REQUESTS:
                self._wait(_retry_after(reply, pause), "service_limited")
            elif absent and reply.status == HTTPStatus.NOT_FOUND:
                return None
            elif reply.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                raise OutsideError("service_key", f"The service does not take the key ({reply.status}).")
            elif not 200 <= reply.status < 300:
                raise OutsideError("service_answer", f"The service answered {reply.status}.")
            else:
                return reply
        raise OutsideError("timeout", "The service was asked too often.")

    def json(self, request: Request, *, absent: bool = False) -> Any:
        """As `ask`, read as JSON; None where it is absent. Raises OutsideError."""
        reply = self.ask(request, absent=absent)
        return None if reply is None else read_json(reply.body)

    def poll(self, request: Request, read: Callable[[Any], Answer | None]) -> Answer:
        """Ask until `read` finds an answer in the JSON. Raises OutsideError, `timeout` at the deadline."""
        while True:
            self._wait(self._outside.pause, "timeout")
            found = self.json(request, absent=True)
            answer = read(found) if found is not None else None
            if answer is not None:
                return answer

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise OutsideError("timeout", "The service took too long.")
        return left

    def _wait(self, seconds: float, code: str) -> None:
        """Raises OutsideError `code` where there is no time for it."""
        if seconds >= self._left():
            raise OutsideError(code, "The service took too long.")
        time.sleep(seconds)


def form(upload: Upload, part: str, fields: Mapping[str, str], boundary: str) -> tuple[bytes, bytes, str]:
    """What stands before and after the file in multipart/form-data (RFC 7578), and the content type."""
    lines = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    lines += f'--{boundary}\r\nContent-Disposition: form-data; name="{part}"; filename="{upload.name}"\r\n'
    lines += f"Content-Type: {upload.mime}\r\n\r\n"
    return lines.encode(), f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def read_json(body: bytes) -> Any:
    """JSON without NaN and Infinity. Raises OutsideError `service_answer`, `not_finite`."""

    def refuse(name: str) -> None:
        raise OutsideError("not_finite", f"The service answered {name}.")

    try:
        return json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise OutsideError("service_answer", "The service's answer is no JSON.") from error


def score_of(value: Any) -> float:
    """A score 0..1. Raises OutsideError `not_finite`, `service_answer`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OutsideError("service_answer", "The service's score is no number.")
    if not math.isfinite(value):
        raise OutsideError("not_finite", "The service's score is not finite.")
    if not 0.0 <= value <= 1.0:
        raise OutsideError("service_answer", "The service's score lies outside of 0 to 1.")
    return float(value)


def seconds_of(value: Any) -> float:
    """A time in seconds, not below 0. Raises OutsideError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise OutsideError("service_answer", "The service's time is no number.")
    if not math.isfinite(value):
        raise OutsideError("not_finite", "The service's time is not finite.")
    return float(value)


def identifier(value: Any) -> str:
    """An id that the service gave, fit for an address. Raises OutsideError `service_answer`."""
    if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value) or set(value) <= {"."}:
        raise OutsideError("service_answer", "The service gave no id for its task.")
    return value


def word(value: Any) -> str:
    """What the service calls something, short and printable; "" for anything else."""
    text = value if isinstance(value, str) else ""
    return "".join(char for char in text[:_LONGEST] if char.isprintable())


def _retry_after(reply: Reply, otherwise: float) -> float:
    """Seconds that the service wants us to wait (RFC 9110, section 10.2.3), at least a little."""
    said = reply.headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit():
        return max(float(said), 0.1)
    try:
        return max((parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds(), 0.1)
    except (ValueError, TypeError):
        return otherwise
