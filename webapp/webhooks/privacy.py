"""The data categories of what partners are told, and where (see `webapp.privacy`)."""

from __future__ import annotations

from webapp.privacy import ACCOUNT, OPERATION, Category, Record

ID, T, E, ORG = Category.IDENTIFIER, Category.TECHNICAL, Category.EVIDENCE, Category.ORGANISATION

RECORDS = {
    "webhooks.WebhookEndpoint": Record(
        ACCOUNT,
        "accounts",
        {
            "id": T,
            "key_id": T,
            "organisation": ORG,
            "url": ORG,
            "description": ORG,
            "events": T,
            "secret_sealed": Category.SECRET,
            "previous_secret_sealed": Category.SECRET,
            "previous_until": T,
            "signing_key_sealed": Category.SECRET,
            "disabled_at": T,
            "disabled_reason": T,
            "created_at": T,
        },
    ),
    "webhooks.WebhookEvent": Record(
        OPERATION,
        "webhook_log",
        {"id": T, "organisation": ORG, "type": E, "data": ID, "created_at": T},  # ids and states only
    ),
    "webhooks.WebhookDelivery": Record(
        OPERATION,
        "webhook_log",
        {
            "id": T,
            "endpoint": T,
            "event": T,
            "state": T,
            "tries": T,
            "next_at": T,
            "created_at": T,
            "delivered_at": T,
        },
    ),
}
