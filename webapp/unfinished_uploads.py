"""What a broken-off upload leaves behind goes with its request, not when the garbage collector comes by."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase


def close_unfinished_uploads(
    answer: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: the temporary file of an upload that did not end (disk full, sender gone, bad encoding) is removed.

    Django closes the files that are complete; of one that fails amid its bytes it tells no upload handler, and the
    half-written file would take room for as long as the failed request is referred to, most of all on a full disk.
    """

    def answered(request: HttpRequest) -> HttpResponseBase:
        try:
            return answer(request)
        finally:
            if request.content_type == "multipart/form-data":
                for handler in request.upload_handlers:
                    if (file := getattr(handler, "file", None)) is not None:
                        file.close()  # a temporary file is deleted by it; once closed, closing again does nothing

    return answered
