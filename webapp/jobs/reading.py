"""How assets, jobs and outputs look from outside, and the bytes of an output."""

from __future__ import annotations

from typing import IO, Any

from django.conf import settings

from consent import keys
from webapp import storage
from webapp.jobs.errors import JobsError
from webapp.jobs.models import Asset, Job, Output

PUBLIC_PROGRESS = ("fraction", "stage", "frames_done", "frames_total", "eta_seconds")


def asset_state(asset: Asset) -> dict[str, Any]:
    """An asset as the API shows it."""
    return {
        "id": asset.pk,
        "object": "asset",
        "role": asset.role,
        "state": asset.state,
        "name": asset.name,
        "kind": asset.kind or None,
        "mime": asset.mime or None,
        "sha256": asset.sha256,
        "size": asset.size,
        "media": asset.media or None,
        "faces": asset.faces,
        "progress": _progress(asset.progress),
        "failure": _failure(asset.failure_code, asset.failure_message),
        "created_at": asset.created_at.isoformat(),
        "erased_at": asset.erased_at.isoformat() if asset.erased_at else None,
    }


def job_state(job: Job) -> dict[str, Any]:
    """A job as the API shows it."""
    output = Output.objects.filter(job=job).first()
    return {
        "id": job.pk,
        "object": "job",
        "state": job.state,
        "final": job.state in Job.FINAL,
        "livemode": job.livemode,
        "purpose": job.purpose,
        "target": {"asset": job.target_id},
        "swaps": [
            {
                "target_face": swap.target_face,
                "sources": [{"asset": photo.asset_id, "face": photo.face} for photo in swap.photos.all()],
                "donor_consent": swap.donor_consent_id,
                "target_consent": swap.target_consent_id,
                "target_attestation": swap.target_attestation_id,
            }
            for swap in job.swaps.all()
        ],
        "consents": [{"id": each.pk, "role": each.role, "state": each.state} for each in job.consents()],
        "declaration": job.declaration_id,
        "options": job.options,
        "progress": _progress(job.progress),
        "failure": _failure(job.failure_code, job.failure_message),
        "warnings": job.warnings,
        "quality": job.quality,
        "output": output.pk if output is not None else None,
        "created_at": job.created_at.isoformat(),
        "started_at": job.started_at.isoformat() if job.started_at else None,
        "finished_at": job.finished_at.isoformat() if job.finished_at else None,
    }


def output_state(output: Output) -> dict[str, Any]:
    """An output as the API shows it."""
    return {
        "id": output.pk,
        "object": "output",
        "job": output.job_id,
        "livemode": output.livemode,
        "permission": output.permission,
        "permission_changed_at": output.permission_changed_at.isoformat() if output.permission_changed_at else None,
        "mime": output.mime,
        "sha256": output.sha256,
        "size": output.size,
        "media": output.media,
        "manifest_label": output.manifest_label,
        "status_url": f"{settings.PUBLIC_URL}/verify/o/{output.pk}",
        "published_at": output.published_at.isoformat(),
        "expires_at": output.expires_at.isoformat() if output.expires_at else None,
        "erased_at": output.erased_at.isoformat() if output.erased_at else None,
        "copies_deleted_at": output.copies_deleted_at.isoformat() if output.copies_deleted_at else None,
    }


def output_file(output: Output) -> IO[bytes]:
    """The published file as an open, seekable file (iterable, `.read`, `.seek`); the caller closes it.

    Raises JobsError output_withdrawn, output_revoked, output_taken_down, output_expired (410), storage_failed (503).
    """
    output.refresh_from_db(fields=["permission", "erased_at"])
    if output.permission == Output.Permission.WITHDRAWN:
        raise JobsError(
            "output_withdrawn", "The permission for this output was withdrawn; it is not shown.", status=410
        )
    if output.permission == Output.Permission.REVOKED:
        raise JobsError(
            "output_revoked", "The operator ended the permission for this output; it is not shown.", status=410
        )
    if output.permission == Output.Permission.TAKEN_DOWN:
        raise JobsError("output_taken_down", "This output was taken down; it is not shown.", status=410)
    if output.erased_at is not None:
        raise JobsError("output_expired", "This output was deleted when its time ended. Make it again.", status=410)
    try:
        return storage.open_decrypted(output.object_name, output.key_id)
    except storage.StorageError as error:
        status = 410 if error.code == "object_missing" else 503
        raise JobsError(error.code, error.message, status=status) from error
    except (keys.KeyStoreError, keys.TamperedError, keys.TruncatedError) as error:
        message = "The stored file cannot be opened; it is not shown. Ask the operator to restore it."
        raise JobsError("storage_damaged", message, status=503) from error


def _progress(raw: dict[str, Any]) -> dict[str, Any] | None:
    return {name: raw.get(name) for name in PUBLIC_PROGRESS} if raw else None


def _failure(code: str, message: str) -> dict[str, str] | None:
    return {"code": code, "message": message} if code else None
