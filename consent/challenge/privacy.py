"""The data categories of live selfies (see `webapp.privacy`)."""

from __future__ import annotations

from webapp.privacy import CONSENT, Category, Record

ID, T, E = Category.IDENTIFIER, Category.TECHNICAL, Category.EVIDENCE

RECORDS = {
    "consent.Challenge": Record(
        CONSENT,
        "consent_record",  # the clip itself goes earlier: see the rule `challenge_clips`
        {
            "id": ID,
            "key_id": ID,
            "consent": ID,
            "state": E,
            "actions": E,
            "issued_at": E,
            "expires_at": T,
            "submitted_at": Category.BEHAVIOUR,
            "decided_at": E,
            "clip_name": Category.FACE_IMAGE,  # the name of an encrypted object that shows the person
            "clip_sha256": Category.CONTENT,
            "clip_mime": T,
            "clip_size": T,
            "clip_until": T,
            "stills": Category.FACE_IMAGE,
            "codes": E,
            "report": E,  # movements and distances; no landmark, no descriptor
            "match": E,
            "decided_by": ID,
            "reason_sealed": Category.TEXT,
            "queued_at": T,
            "lease_owner": T,
            "lease_expires_at": T,
            "starts": T,
            "starts_without_progress": T,
        },
        on_erasure="clip, stills and remarks are removed; movements and distances stay as proof",
    ),
}
