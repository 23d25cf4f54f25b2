"""The data categories of messages on their way out (see `webapp.privacy`)."""

from __future__ import annotations

from webapp.privacy import OPERATION, Category, Record

T = Category.TECHNICAL

RECORDS = {
    "outbox.OutboxMessage": Record(
        OPERATION,
        "messages",
        {
            "id": T,
            "topic": T,
            "payload": Category.CONTACT,  # a mail to a depicted person lies in it sealed; emptied once delivered
            "created_at": T,
            "not_before": T,
            "sent_at": T,
            "attempts": T,
            "last_error": T,
        },
    )
}
