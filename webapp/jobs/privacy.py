"""The data categories of uploads, jobs and results (see `webapp.privacy`)."""

from __future__ import annotations

from webapp.jobs.repository import WIDTHS
from webapp.privacy import REPLACEMENT, VERIFICATION, Category, Record

ID, T, ORG, E, TEXT = (
    Category.IDENTIFIER,
    Category.TECHNICAL,
    Category.ORGANISATION,
    Category.EVIDENCE,
    Category.TEXT,
)
CONTENT = Category.CONTENT
LEASE = {"lease_owner": T, "lease_expires_at": T, "starts": T, "starts_without_progress": T, "queued_at": T}

RECORDS = {
    "jobs.Asset": Record(
        REPLACEMENT,
        "inputs",
        LEASE
        | {
            "id": ID,
            "organisation": ORG,
            "uploaded_by": ID,
            "role": T,
            "state": T,
            "name": TEXT,  # the name of the file, as the account had it
            "kind": CONTENT,
            "mime": CONTENT,
            "sha256": CONTENT,
            "size": CONTENT,
            "media": CONTENT,
            "faces": CONTENT,  # boxes and angles; no template of a face
            "object_name": Category.FACE_IMAGE,  # names the encrypted picture in the storage
            "analysis_name": Category.BIOMETRIC,  # the same, of the encrypted landmarks and descriptors
            "previews": Category.FACE_IMAGE,
            "key_id": ID,
            "failure_code": T,
            "failure_message": T,
            "progress": T,
            "created_at": T,
            "erased_at": T,
        },
        on_erasure="files, previews, analysis, names and key are destroyed",
    ),
    "jobs.Job": Record(
        REPLACEMENT,
        "jobs",
        LEASE
        | {
            "id": ID,
            "organisation": ORG,
            "submitted_by": ID,
            "state": T,
            "livemode": T,
            "target": ID,
            "declaration": E,
            "purpose": E,
            "options": T,
            "progress": T,
            "timings": T,
            "quality": CONTENT,
            "warnings": T,
            "cancel_requested": T,
            "failure_code": T,
            "failure_message": T,
            "mark_id": ID,
            "created_at": T,
            "started_at": T,
            "finished_at": T,
        },
        on_erasure="messages are removed; states and times stay under random ids",
    ),
    "jobs.Segment": Record(
        REPLACEMENT,
        "parts",
        LEASE
        | {
            "id": T,
            "job": ID,
            "number": T,
            "first_frame": T,
            "last_frame": T,
            "state": T,
            "address": CONTENT,
            "frames_done": T,
            "facts": CONTENT,  # measures and fingerprints of the part; no template of a face
            "sha256": CONTENT,
            "object_name": Category.FACE_IMAGE,  # names the encrypted part in the storage
            "key_id": ID,
            "finished_at": T,
        },
        on_erasure="parts and key are destroyed, and the row with them",
    ),
    "jobs.JobSwap": Record(
        REPLACEMENT,
        "jobs",
        {
            "id": T,
            "job": ID,
            "position": T,
            "target_face": CONTENT,
            "donor_consent": ID,
            "target_consent": ID,
            "target_attestation": E,
        },
        on_erasure="kept: random ids",
    ),
    "jobs.JobSource": Record(
        REPLACEMENT,
        "jobs",
        {"id": T, "swap": T, "asset": ID, "face": CONTENT, "position": T},
        on_erasure="kept: random ids",
    ),
    "jobs.JobEvent": Record(
        REPLACEMENT,
        "jobs",
        {"id": T, "job": ID, "at": T, "from_state": T, "to_state": T, "code": T, "message": TEXT},
        on_erasure="remarks are removed; states and times stay",
    ),
    "jobs.Output": Record(
        VERIFICATION,
        "marks",
        {
            "id": ID,
            "organisation": ORG,
            "job": ID,
            "livemode": T,
            "permission": E,
            "permission_changed_at": E,
            "mime": CONTENT,
            "sha256": CONTENT,
            "size": CONTENT,
            "media": CONTENT,
            "object_name": Category.FACE_IMAGE,
            "key_id": ID,
            "mark_id": ID,
            "mark_key": T,
            "manifest_label": ID,
            "manifest_store": CONTENT,  # opaque ids only, no picture, no name
            "time_stamp": T,
            "copies_deleted_at": E,
            "fingerprint": CONTENT,
            "published_at": T,
            "expires_at": T,
            "erased_at": T,
        },
        on_erasure="file and key are destroyed; mark, manifest and fingerprint stay, to know copies by",
    ),
    "jobs.OutputFingerprint": Record(
        VERIFICATION,
        "marks",
        {"id": T, "output": ID, "seconds": CONTENT, "pdq": CONTENT}
        | {f"band_{number}": CONTENT for number in range(len(WIDTHS))},
        on_erasure="kept: to refuse copies; names nobody",
    ),
}
