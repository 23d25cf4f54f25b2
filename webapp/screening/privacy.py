"""The data categories of what the gate saw and people decided (see `webapp.privacy`)."""

from __future__ import annotations

from webapp.privacy import PROTECTION_OF_FACES, SCREENING, Category, Record

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
            "kind": E,
            "priority": E,
            "state": E,
            "statement": Category.TEXT,  # of the account that appeals
            "appellant": ID,
            "first_reviewer": ID,
            "first_reason": Category.TEXT,
            "first_at": T,
            "reviewer": ID,
            "reason": Category.TEXT,
            "opened_at": T,
            "due_at": T,
            "decided_at": T,
        },
        on_erasure="the reasons and the statement are removed; the decision stays",
    ),
    # What must not come back: it outlives the erasure of whoever asked for it, and points at nobody.
    "screening.StayDown": Record(
        SCREENING,
        "marks",
        {"id": T, "mark_id": Category.CONTENT, "reason": T, "spared": Category.CONTENT, "created_at": T},
    ),
    "screening.StayDownPicture": Record(
        SCREENING,
        "marks",
        {"id": T, "entry": T, "pdq": Category.CONTENT, "grid_sealed": Category.CONTENT}
        | {f"band_{number}": Category.CONTENT for number in range(11)},
    ),
    "screening.HashList": Record(
        SCREENING,
        "picture_lists",
        {
            "id": T,
            "name": T,
            "kind": T,
            "entries": T,
            "sha256": Category.CONTENT,
            "source_sha256": Category.CONTENT,
            "object_name": Category.CONTENT,  # where the encrypted hashes lie
            "key_id": T,
            "created_at": T,
            "ended_at": T,
        },
    ),
    "screening.ListedFace": Record(
        PROTECTION_OF_FACES,
        "face_list",
        {
            "id": ID,
            "key_id": ID,
            "subject": ID,
            "state": T,
            "descriptor_sealed": Category.BIOMETRIC,
            "model_sha256": T,
            "list_key_id": ID,
            "photo_name": Category.FACE_IMAGE,  # where the encrypted photo lies, for as long as it waits to be read
            "photo_key_id": ID,
            "protected": E,
            "notice_version": E,
            "notice_sha256": E,
            "locale": Category.LANGUAGE,
            "failure_code": T,
            "created_at": E,
            "listed_at": E,
            "lease_owner": T,
            "lease_expires_at": T,
            "starts": T,
            "starts_without_progress": T,
            "queued_at": T,
        },
        on_erasure="deleted",
    ),
}
