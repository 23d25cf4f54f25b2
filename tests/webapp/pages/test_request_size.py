"""No body larger than its address allows reaches the disk, declared or not; one that finds no room is told so."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from webapp import asgi


def send(
    path: str, pieces: list[bytes], declared: int | None, *, error: OSError | None = None
) -> tuple[int, int, bytes]:
    """Status, number of pieces that reached the application, and body of one request through the limit.

    The application raises `error`, if any, when it has taken all of them.
    """
    reached: list[bytes] = []
    answers: list[MutableMapping[str, Any]] = []
    waiting = list(pieces)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            reached.append(message["body"])
            more = message["more_body"]
        if error is not None:
            raise error
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"fine"})

    async def receive() -> MutableMapping[str, Any]:
        body = waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(waiting)}

    async def collect(message: MutableMapping[str, Any]) -> None:
        answers.append(message)

    headers = [] if declared is None else [(b"content-length", str(declared).encode())]
    scope = {"type": "http", "path": path, "headers": headers}
    # A thread of its own: the browser tests leave an event loop running in the main one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, asgi.BodyLimit(application)(scope, receive, collect)).result()
    return answers[0]["status"], len(reached), answers[1]["body"]


@pytest.mark.parametrize("path", ["/v1/jobs", "/jobs/x/cancel", "/c/token", "/new/permission"])
def test_a_declared_body_that_is_too_large_is_not_read_at_all(path: str) -> None:
    status, reached, body = send(path, [b"x"], asgi.SMALL_BODY + 1)
    assert (status, reached, json.loads(body)["code"]) == (413, 0, "too_large")


def test_an_undeclared_body_is_cut_off_where_it_grows_too_large() -> None:
    piece = b"x" * (1 << 20)
    status, reached, _ = send("/v1/jobs", [piece] * 50, None)
    assert (status, reached) == (413, 2)


@pytest.mark.parametrize("path", ["/new", "/verify", "/v1/assets", "/v1/verifications"])
def test_uploads_may_be_as_large_as_media(path: str) -> None:
    assert send(path, [b"x" * (4 << 20)], 4 << 20)[0] == 200


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_body_that_finds_no_room_before_any_view_is_a_typed_refusal(number: int) -> None:
    status, _, body = send("/v1/assets", [b"x"], None, error=OSError(number, "no room"))
    problem = json.loads(body)
    assert (status, problem["status"], problem["code"]) == (507, 507, "disk_full")
    assert "nothing half-written was kept" in problem["detail"]
    with pytest.raises(BrokenPipeError):
        send("/v1/assets", [b"x"], None, error=BrokenPipeError(errno.EPIPE, "gone"))
