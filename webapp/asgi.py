"""The ASGI application: Django behind a limit on the size of request bodies.

Django's ASGI handler spools a whole request body to disk before any view can look at it, so the limit must stand in
front, and so must the answer where that disk is full. A proxy before it should have a limit too; this one holds on a
bare machine.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")

from django.conf import settings
from django.core.asgi import get_asgi_application

from consent.limits import CLIP_BYTES
from webapp.net import MEDIA_BYTES
from webapp.observability import configure_logging

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

UPLOADS = ("/new", "/verify", "/v1/assets", "/v1/verifications")
LISTING = "/me/face"  # one photo of the person
LOOKUPS = ("/c2pa/v1/matches/byContent",)
SMALL_BODY = 2 << 20
ENVELOPE = 1 << 20  # multipart boundaries and the other fields of an upload form
PHOTOS_OF_A_JOB = 4


class BodyTooLargeError(Exception):
    """A body grew past its limit while it was being received."""


def body_limit(path: str) -> int:
    """Bytes that a request to `path` may carry: uploads as much as media may have, everything else 2 MiB."""
    if path in LOOKUPS:
        return MEDIA_BYTES
    if path.startswith("/c/") and path.endswith("/clip"):
        return CLIP_BYTES + ENVELOPE
    if path.rstrip("/") == LISTING:
        return int(settings.MAX_PHOTO_BYTES) + ENVELOPE
    if path.rstrip("/") not in UPLOADS:
        return SMALL_BODY
    return int(settings.MAX_VIDEO_BYTES) + PHOTOS_OF_A_JOB * int(settings.MAX_PHOTO_BYTES) + ENVELOPE


class BodyLimit:
    """Answers 413 instead of storing a body larger than its path allows, declared or not; 507 if there is no room."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = body_limit(scope["path"])
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if declared.isdigit() and int(declared) > limit:
            await self._too_large(send, limit)
            return
        received = 0
        started = False

        async def counted_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise BodyTooLargeError
            return message

        async def noted_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, counted_receive, noted_send)
        except BodyTooLargeError:
            if not started:
                await self._too_large(send, limit)
        except OSError as error:
            if started or not disk_is_full(error):
                raise
            await self._refuse(send, 507, "disk_full", NO_ROOM)

    async def _too_large(self, send: Send, limit: int) -> None:
        words = f"At most {limit >> 20} MiB are accepted here. Nothing was kept. Compress or shorten the file."
        await self._refuse(send, 413, "too_large", words)

    async def _refuse(self, send: Send, status: int, code: str, detail: str) -> None:
        answer = problem(code, detail, status=status)
        headers = [(name.lower().encode(), value.encode()) for name, value in answer.items()]
        headers += [(b"content-length", str(len(answer.content)).encode()), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.content})


# WhiteNoise hands static files over as sync iterators, which Django reads whole; they are small.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")

configure_logging(settings.LOG_LEVEL)
_django = cast("App", get_asgi_application())

from webapp.api.errors import NO_ROOM, disk_is_full, problem  # noqa: E402 - Django's apps must be ready

application = BodyLimit(_django)
