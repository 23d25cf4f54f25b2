"""The data categories of answers to "what can be said about this file?" (see `webapp.privacy`)."""

from __future__ import annotations

from webapp.privacy import VERIFICATION, Category, Record

T, CONTENT = Category.TECHNICAL, Category.CONTENT

RECORDS = {
    "verify.Verification": Record(
        VERIFICATION,
        "verifications",
        {
            "id": Category.IDENTIFIER,
            "state": T,
            "evidence": CONTENT,  # what was found in a file, never the file or who sent it
            "kind": CONTENT,
            "duration": CONTENT,
            "alive_until": T,
            "created_at": T,
            "expires_at": T,
        },
    )
}
