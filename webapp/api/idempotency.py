"""A POST with an `Idempotency-Key` is carried out once; the same request again gets the stored answer.

The same key with another body is 422, one still in flight 409 with Retry-After. Answers that ask to try again (409,
429, 5xx) are not stored, so that trying again means something.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

from cryptography.fernet import Fernet
from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, transaction
from django.utils import timezone
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from consent import keys
from webapp.accounts.models import ApiKey
from webapp.api.models import IdempotentRequest
from webapp.jobs.errors import JobsError

KEEP = timedelta(hours=24)
IN_FLIGHT = timedelta(minutes=10)  # after that, the process that began it is taken for dead
MAX_KEY = 255


class InFlightError(JobsError):
    """The first request with this key has not been answered yet."""

    retry_after = 2

    def __init__(self) -> None:
        super().__init__(
            "idempotency_in_flight",
            "The first request with this Idempotency-Key is still being worked on. Try again in a moment.",
            status=409,
        )


def key_of(request: Request) -> str:
    """The request's idempotency key, "" without one. Raises JobsError idempotency_key_invalid (400)."""
    key = request.headers.get("Idempotency-Key", "")
    if len(key) > MAX_KEY or not key.isprintable():
        raise JobsError(
            "idempotency_key_invalid",
            f"An Idempotency-Key has at most {MAX_KEY} printable characters; nothing was changed.",
            status=400,
        )
    return key


def fingerprint(request: Request) -> str:
    """SHA-256 (hex) over the parsed body: fields in order of their names, files by their content."""
    digest = hashlib.sha256()
    data = request.data
    if isinstance(data, Mapping) and hasattr(data, "lists"):  # multipart
        for name, values in sorted(data.lists()):
            for value in values:
                digest.update(json.dumps(name).encode())
                if isinstance(value, UploadedFile):
                    for chunk in value.chunks():
                        digest.update(chunk)
                    value.seek(0)
                else:
                    digest.update(json.dumps(value).encode())
    else:
        digest.update(json.dumps(data, sort_keys=True).encode())
    return digest.hexdigest()


def begin(request: Request, key: str) -> IdempotentRequest | Response:
    """Claim the key, or give the stored answer. Raises InFlightError (409), JobsError idempotency_key_reused (422)."""
    now = timezone.now()
    forget_old()
    identity = {
        "key_prefix": cast("ApiKey", request.auth).prefix,
        "idempotency_key": key,
        "method": request.method,
        "path": request.path[:255],
    }
    body = fingerprint(request)
    IdempotentRequest.objects.filter(**identity, status__isnull=True, created_at__lt=now - IN_FLIGHT).delete()
    try:
        with transaction.atomic():
            return IdempotentRequest.objects.create(**identity, body_sha256=body, created_at=now)
    except IntegrityError:
        row = IdempotentRequest.objects.filter(**identity).first()
    if row is None or row.status is None:
        raise InFlightError
    if row.body_sha256 != body:
        raise JobsError(
            "idempotency_key_reused",
            "This Idempotency-Key was used for another body; nothing was changed. Use a new key for a new request.",
        )
    assert row.response_sealed is not None
    answer = json.loads(answer_of(row))
    response = Response(answer["body"], status=row.status, content_type=answer["content_type"])
    response["Idempotent-Replayed"] = "true"
    return response


def answer_of(row: IdempotentRequest) -> str:
    """The stored answer as JSON. Raises InvalidToken if this house's keys do not open it."""
    return _cipher().decrypt(bytes(row.response_sealed or b"")).decode()


def forget_old() -> int:
    """Delete answers older than KEEP, which may hold links to people's pages; returns how many."""
    deleted, _ = IdempotentRequest.objects.filter(created_at__lt=timezone.now() - KEEP).delete()
    return deleted


def finish(row: IdempotentRequest, response: Response, content: Any) -> None:
    """Store the answer, or forget the claim when the answer asks to try again."""
    if response.status_code in {409, 429} or response.status_code >= 500:
        row.delete()
        return
    answer = JSONRenderer().render({"body": content, "content_type": response.content_type})
    row.status = response.status_code
    row.response_sealed = _cipher().encrypt(answer)
    row.save(update_fields=["status", "response_sealed"])


def _cipher() -> Fernet:
    return Fernet(base64.urlsafe_b64encode(keys.subkey("idempotent answers")))
