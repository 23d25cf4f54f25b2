"""The data categories of the portal's tables (see `webapp.privacy`)."""

from __future__ import annotations

from webapp.privacy import CONSENT, OPERATION, Category, Record

ID, T, E, TEXT = Category.IDENTIFIER, Category.TECHNICAL, Category.EVIDENCE, Category.TEXT
DID, LANGUAGE = Category.BEHAVIOUR, Category.LANGUAGE

RECORDS = {
    "consent.PortalAsk": Record(
        OPERATION,
        "short_lived",
        {"id": T, "key_hmac": Category.CONTACT, "at": T},  # of a contact, or of a network
    ),
    "consent.PortalLink": Record(
        OPERATION,
        "short_lived",
        {
            "id": T,
            "token_sha256": Category.CREDENTIAL,
            "subject": ID,
            "created_at": T,
            "expires_at": T,
            "used_at": DID,
        },
        on_erasure="deleted",
    ),
    "consent.PortalSession": Record(
        OPERATION,
        "short_lived",
        {
            "id": T,
            "token_sha256": Category.CREDENTIAL,
            "subject": ID,
            "consent": ID,
            "locale": LANGUAGE,
            "created_at": DID,
            "seen_at": DID,
        },
        on_erasure="deleted",
    ),
    "consent.Wishes": Record(
        CONSENT,
        "consent_record",
        {
            "subject": ID,
            "restricted_at": E,
            "limited_at": E,
            "told_of_uses": E,
            "locale": LANGUAGE,
            "changed_at": T,
        },
        on_erasure="deleted",
    ),
    "consent.Restriction": Record(CONSENT, "consent_record", {"consent": ID, "since": E}, on_erasure="deleted"),
    "consent.Note": Record(
        CONSENT,
        "consent_record",
        {
            "id": ID,
            "key_id": ID,
            "subject": ID,
            "consent": ID,
            "kind": E,
            "state": E,
            "text_sealed": TEXT,
            "answer_sealed": TEXT,
            "locale": LANGUAGE,
            "created_at": DID,
            "answered_at": E,
            "answered_by": ID,
        },
        on_erasure="deleted",
    ),
}
