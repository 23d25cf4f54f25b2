"""The data categories of what the gate saw and people decided (see `webapp.privacy`)."""

from __future__ import annotations

from webapp.privacy import SCREENING, Category, Record

ID, T, E = Category.IDENTIFIER, Category.TECHNICAL, Category.EVIDENCE

RECORDS = {
    "screening.ScreeningRecord": Record(
        SCREENING,
        "jobs",
        {
            "id": ID,
            "asset": ID,
            "job": ID,
            "profile": T,
            "policy_version": T,
            "signals": Category.CONTENT,  # scores and distances; no template of a face
            "decision": E,
            "reasons": E,
            "not_screened": E,
            "created_at": T,
        },
        on_erasure="measurements are removed; the decision stays",
    ),
    "screening.Review": Record(
        SCREENING,
        "jobs",
        {
            "id": ID,
            "screening": ID,
            "state": E,
            "reviewer": ID,
            "reason": Category.TEXT,
            "opened_at": T,
            "decided_at": T,
        },
        on_erasure="the reason is removed; the decision stays",
    ),
}
