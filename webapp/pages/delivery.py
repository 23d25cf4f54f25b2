"""Sends media in pieces, with byte ranges (a video player cannot seek without), under both kinds of server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import IO

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.http import content_disposition_header

CHUNK = 256 << 10
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def send_file(
    request: HttpRequest, file: IO[bytes], *, size: int, mime: str, name: str, download: bool, etag: str = ""
) -> HttpResponseBase:
    """Answer with an open, seekable file of `size` bytes, whole (200) or one range of it (206); closes the file.

    A range that cannot be satisfied is 416 (RFC 9110 section 14); several ranges are answered with the whole file.
    """
    start, stop, status = 0, size, 200
    header = RANGE.fullmatch(request.headers.get("Range", ""))
    if header and (header[1] or header[2]):
        start = int(header[1]) if header[1] else max(0, size - int(header[2]))
        stop = min(int(header[2]) + 1, size) if header[1] and header[2] else size
        if start >= size or start >= stop:
            file.close()
            return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"})
        status = 206
    file.seek(start)
    pieces = _pieces(file, stop - start)
    body: Iterator[bytes] | AsyncIterator[bytes] = (
        _in_thread(pieces) if isinstance(request, ASGIRequest) else pieces  # a sync iterator under ASGI is read whole
    )
    response = StreamingHttpResponse(body, status=status, content_type=mime)
    response["Content-Length"] = str(stop - start)
    response["Accept-Ranges"] = "bytes"
    response["Cache-Control"] = "private, no-store"
    response["X-Content-Type-Options"] = "nosniff"
    if status == 206:
        response["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    if etag:
        response["ETag"] = f'"{etag}"'
    if disposition := content_disposition_header(download, name):
        response["Content-Disposition"] = disposition
    return response


def _pieces(file: IO[bytes], left: int) -> Iterator[bytes]:
    with file:
        while left > 0 and (piece := file.read(min(CHUNK, left))):
            left -= len(piece)
            yield piece


async def _in_thread(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    following = sync_to_async(lambda: next(pieces, None), thread_sensitive=False)
    while (piece := await following()) is not None:
        yield piece
