"""What the page of an answer shows: everything worked out here, so that the template only lays it out."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.urls import reverse

from watermark.credentials import Credentials
from watermark.verdict import OutputRecord, Verdict
from webapp.verify import kept, words
from webapp.verify.models import Verification
from webapp.verify.records import published_credentials

_STATES = {
    "none": "None in the file",
    "remote_only": "Kept elsewhere, and not fetched: nobody asked for it",
    "broken": "In the file, but unavailable: it cannot be read",
    "invalid": "In the file, but invalid",
    "valid": "In the file, and the file is as it was signed",
    "trusted": "In the file, and the file is as it was signed",
}


def context(row: Verification, found: Verdict) -> dict[str, Any]:
    """Everything the template `verify/result.html` shows of an answer."""
    credentials, evidence = found.evidence.credentials, found.evidence
    record = found.output
    told, from_records = credentials, False
    if record is not None and (credentials is None or not credentials.is_ours):
        told, from_records = published_credentials(record.output_id), True
    return {
        "row": row,
        "found": found,
        "ai": words.ai_sentence(found),
        "credentials": credentials,
        "credential_state": _credential_state(credentials),
        "pin": credentials is not None and credentials.state not in ("none", "remote_only"),
        "pin_invalid": credentials is not None and credentials.state in ("broken", "invalid"),
        "issued_at": words.moment(credentials.signed_at) if credentials else None,
        "permission": permission(record) if record else None,
        "exact_mark": record.mark_id.hex() if record and record.sha256 == evidence.file_sha256 else "",
        "mark": evidence.mark,
        "mark_id": evidence.mark.mark_id.hex() if evidence.mark else "",
        "certainty": words.certainty(evidence.mark) if evidence.mark else "",
        "spans": words.spans(evidence.mark, row.duration),
        "length": words.clock(row.duration),
        "compared": words.compared(evidence.content),
        "from_records": from_records,
        "told_at": words.moment(told.signed_at) if told else None,
        "told": told,
        "steps": words.steps(told),
        "tree": words.tree(told),
        "manifest_url": reverse("resolution:manifest", args=[record.manifest_label]) if record else "",
        "report": json.dumps(kept.body(row), indent=2, ensure_ascii=False),
        "permalink": f"{settings.PUBLIC_URL}{reverse('verify:result', args=[row.pk])}",
    }


def _credential_state(credentials: Credentials | None) -> str:
    if credentials is not None and credentials.remote_url and credentials.state != "remote_only":
        fits = credentials.state in ("valid", "trusted")
        return f"Kept elsewhere, fetched from there, {'and the file is as it was signed' if fits else 'but invalid'}"
    if credentials is not None and credentials.state == "remote_only" and credentials.failures:
        return "Kept elsewhere, where they could not be fetched"
    if credentials is not None and credentials.state == "invalid" and not credentials.bytes_match:
        return "In the file, but invalid: the file is not as it was signed"
    return _STATES[credentials.state if credentials else "none"]


def permission(record: OutputRecord) -> dict[str, Any]:
    """The permission behind an output, without anybody's name: state in words, a badge's tone, who gave it."""
    label, tone = {
        "in_force": ("In force", ""),  # no green: an answer is no traffic light
        "withdrawn": ("Withdrawn", "warn"),
        "revoked": ("Ended by the operator", "warn"),
        "taken_down": ("Taken down", "warn"),
    }.get(record.state, ("Not in force", "warn"))
    gave = "Gave permission" if record.state == "in_force" else "Had given permission"
    attested = "The account stated that it holds the rights"
    return {
        "label": label,
        "tone": tone,
        "in_force": record.state == "in_force",
        "since": record.permission_changed_at,
        "donor": gave,
        "replaced": attested if record.target_cover == "attestation" else gave,
        "published_at": record.published_at,
        "livemode": record.livemode,
        "manifest_label": record.manifest_label,
        "output_id": record.output_id,
    }
