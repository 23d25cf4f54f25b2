"""From an upload to an asset that is ready, in review, or refused."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction

from consent import keys
from webapp import storage
from webapp.accounts.models import Organisation, User
from webapp.ids import asset_id as new_asset_id
from webapp.jobs import flow, leases, transitions
from webapp.jobs.errors import JobsError, not_found
from webapp.jobs.models import Asset, Job
from worker.media.errors import FULL_DISK

CHUNK = 1 << 20
State = Asset.State


def receive_asset(
    organisation: Organisation, user: User | None, *, role: str, file: UploadedFile | Path, name: str
) -> Asset:
    """Hash, encrypt and store an upload, and have it screened. The bytes are not looked into here.

    Raises JobsError: role_invalid, empty_file, too_large (413), disk_full (507), storage_failed (503).
    """
    if role not in Asset.Role.values:
        raise JobsError("role_invalid", "An asset is a source or a target. Nothing was stored; send the role again.")
    asset = Asset(
        id=new_asset_id(),
        organisation=organisation,
        uploaded_by=user if user is not None and user.pk else None,
        role=role,
        name=Path(name).name[:200],
    )
    try:
        with local_file(file) as plain:
            asset.sha256, asset.size = _digest(plain)
            plain.seek(0)
            asset.key_id = keys.create_key(f"asset:{asset.pk}")
            try:
                asset.object_name = storage.store_stream(plain, key_id=asset.key_id, prefix="asset")
                with transaction.atomic():
                    asset.save(force_insert=True)
                    transitions.send_asset(asset.pk)
            except BaseException:
                storage.delete(asset.object_name)
                keys.destroy_key(asset.key_id)
                raise
    except storage.StorageError as error:
        raise JobsError(error.code, error.message, status=507 if error.code == "disk_full" else 503) from error
    except OSError as error:
        full = error.errno in FULL_DISK
        code, status = ("disk_full", 507) if full else ("storage_failed", 503)
        raise JobsError(
            code, "The upload could not be kept; nothing was stored. Try again later.", status=status
        ) from error
    return asset


def claim_asset(asset_id: str, owner: str) -> Asset | None:
    """Take an uploaded asset for screening; None if it is not there to be taken."""
    if not leases.claim(Asset, asset_id, owner, [State.UPLOADED], State.SCREENING):
        return None
    return Asset.objects.get(pk=asset_id)


def record_intake(
    asset_id: str,
    owner: str,
    *,
    media: Mapping[str, Any],
    faces: Sequence[Mapping[str, Any]],
    analysis_name: str,
    previews: Mapping[str, str],
) -> bool:
    """Keep what the media child and the analysis found; False if the lease is gone."""
    return bool(
        Asset.objects.filter(pk=asset_id, lease_owner=owner, state=State.SCREENING).update(
            media=dict(media),
            kind=str(media["kind"]),
            mime=str(media["mime"]),
            faces=[dict(face) for face in faces],
            analysis_name=analysis_name,
            previews=dict(previews),
        )
    )


class Parts:
    """Objects that belong to an asset, stored one by one before its row names them."""

    def __init__(self, asset: Asset) -> None:
        self.asset = asset
        self.names: list[str] = []

    def add(self, path: Path, prefix: str) -> str:
        """Store one file under the asset's key; returns the object's name."""
        name = storage.store_file(path, key_id=self.asset.key_id, prefix=prefix)
        self.names.append(name)
        return name


@contextmanager
def stored_parts(asset: Asset) -> Iterator[Parts]:
    """Store parts inside the block; if it fails, none of them stays."""
    parts = Parts(asset)
    try:
        yield parts
    except BaseException:
        for name in parts.names:
            storage.delete(name)
        raise


def asset_accepted(asset_id: str, *, owner: str | None = None) -> bool:
    """The gate, or a reviewer, let the asset through: jobs that waited for it go on."""
    return _settle(asset_id, State.READY, owner=owner)


def asset_held(asset_id: str, *, owner: str) -> bool:
    """The gate wants a person to look at the asset."""
    return _settle(asset_id, State.IN_REVIEW, owner=owner)


def asset_refused(asset_id: str, code: str, message: str, *, owner: str | None = None) -> bool:
    """The file cannot or may not be used: jobs on it are refused as well."""
    return _settle(asset_id, State.REFUSED, owner=owner, code=code, message=message)


def asset_appealed(asset_id: str) -> bool:
    """The account appeals against the gate's refusal: people look at the file after all."""
    return transitions.move_asset(asset_id, [State.REFUSED], State.IN_REVIEW, failure_code="", failure_message="")


def asset_failed(asset_id: str, code: str, message: str, *, owner: str | None = None) -> bool:
    """Our fault: jobs on it fail."""
    return _settle(asset_id, State.FAILED, owner=owner, code=code, message=message)


def return_asset(asset_id: str, owner: str, *, passing: bool = False) -> bool:
    """Give a claimed asset back, to be screened by another start; one that wore out fails.

    `passing`: for a trouble outside of it, which gets the longer to pass the more starts there were.
    """
    with transaction.atomic():
        asset = Asset.objects.filter(pk=asset_id, lease_owner=owner, state=State.SCREENING).first()
        if asset is None:
            return False
        if asset.starts_without_progress >= settings.MAX_STARTS_WITHOUT_PROGRESS:
            return asset_failed(asset_id, "worker_crash", WORN_OUT, owner=owner)
        moved = transitions.move_asset(asset_id, [State.SCREENING], State.UPLOADED, owner=owner)
        if moved:
            transitions.send_asset(asset_id, delay=transitions.pause(asset.starts) if passing else 0)
        return moved


WORN_OUT = (
    "The work stopped several times without getting further, so it was given up. Your file is kept; try again later."
)


def asset_preview(asset_id: str, face: int) -> bytes:
    """A small JPEG of the asset with the face `face` framed, made at screening. Raises JobsError not_found."""
    asset = Asset.objects.filter(pk=asset_id, erased_at__isnull=True).first()
    name = asset.previews.get(str(face)) if asset is not None else None
    if asset is None or not name:
        raise not_found("preview")
    try:
        with storage.open_decrypted(name, asset.key_id) as file:
            return file.read()
    except (storage.StorageError, keys.KeyStoreError, keys.TamperedError, keys.TruncatedError) as error:
        raise not_found("preview") from error


def screened_preview(asset_id: str, face: int) -> bytes:
    """As `asset_preview`, for the person who is asked: nobody is shown what has not passed its screening."""
    if not Asset.objects.filter(pk=asset_id, state=State.READY).exists():
        raise not_found("preview")
    return asset_preview(asset_id, face)


def _settle(asset_id: str, state: str, *, owner: str | None, code: str = "", message: str = "") -> bool:
    with transaction.atomic():
        moved = transitions.move_asset(
            asset_id,
            [State.UPLOADED, State.SCREENING, State.IN_REVIEW],
            state,
            owner=owner,
            failure_code=code[:60],
            failure_message=message[:500],
            starts_without_progress=0,
        )
        if moved:
            waiting = Job.objects.filter(state=Job.State.QUEUED)
            ids = {*waiting.filter(target_id=asset_id).values_list("pk", flat=True)}
            ids |= {*waiting.filter(swaps__photos__asset=asset_id).values_list("pk", flat=True)}
            for job_id in sorted(ids):
                flow.assets_changed(job_id)
    return moved


def local_file(file: UploadedFile | Path) -> BinaryIO:
    """The upload as an open local file: where it lies already, or spooled to our own work folder."""
    if isinstance(file, Path):
        return file.open("rb")
    place = getattr(file, "temporary_file_path", None)
    if place is not None:
        return Path(place()).open("rb")
    folder = Path(settings.WORK_DIR)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    copy = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - the caller's with-block closes it
    try:
        for chunk in file.chunks(CHUNK):
            copy.write(chunk)
        copy.seek(0)
    except BaseException:
        copy.close()
        raise
    return cast("BinaryIO", copy)


def _digest(file: BinaryIO) -> tuple[str, int]:
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise JobsError("empty_file", "The file is empty; nothing was stored. Choose the file again.")
    limit = max(settings.MAX_PHOTO_BYTES, settings.MAX_VIDEO_BYTES)
    if size > limit:
        raise JobsError(
            "too_large",
            f"The file is larger than {limit >> 20} MiB; nothing was stored. Send a smaller one.",
            status=413,
        )
    return hashlib.file_digest(cast("Any", file), "sha256").hexdigest(), size
