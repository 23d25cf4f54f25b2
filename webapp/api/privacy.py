"""The data categories of answers that the API can give a second time (see `webapp.privacy`)."""

from __future__ import annotations

from webapp.privacy import OPERATION, Category, Record

T = Category.TECHNICAL

RECORDS = {
    "api.IdempotentRequest": Record(
        OPERATION,
        "api_answers",
        {
            "id": T,
            "key_prefix": Category.CREDENTIAL,
            "idempotency_key": T,
            "method": T,
            "path": Category.IDENTIFIER,
            "body_sha256": T,
            "status": T,
            "response_sealed": Category.TEXT,
            "created_at": T,
        },
    )
}
