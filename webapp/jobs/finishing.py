"""From the pipeline's file to something that may be published: metadata, signature, and the proof of both.

The promise "no unmarked output" is kept here: the finished file itself is read again, and unless its mark and its
manifest both verify, nothing of it leaves the work folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError

from consent import keys, ledger
from watermark import image, labels, video
from watermark.credentials import Credentials
from watermark.keys import MarkKey
from watermark.manifest import EDITED_SOURCE_TYPE
from watermark.manifest_request import ConsentRef, IngredientFile, ManifestRequest, Role
from watermark.verdict import MarkReading
from webapp import keys_of_house, storage
from webapp.ids import output_id as new_output_id
from webapp.jobs import signing
from webapp.jobs.models import Job, JobSwap, Output
from webapp.jobs.running import Draft
from webapp.screening.models import ScreeningRecord
from worker.media import client
from worker.model_choice import makers
from worker.spec import EXTENSIONS, JobSpec


class FinishingError(Exception):
    """The finished file did not pass; nothing was published. `code`: mark_unreadable, manifest_unverified."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Rendered:
    """What the pipeline left: its marked, unsigned file and what it says about it."""

    path: Path
    mime: str
    duration: float | None
    frames: int | None
    timings: Mapping[str, float]
    quality: Mapping[str, Any]
    fingerprint: Mapping[str, Any]
    warnings: Sequence[str]


def finish(
    job: Job,
    spec: JobSpec,
    rendered: Rendered,
    evidence: ScreeningRecord,
    key: MarkKey,
    *,
    pause: Callable[[float], None],
) -> Draft:
    """Label, sign, re-read and store; returns the draft to publish.

    The caller publishes it in a transaction or throws it away with `discard`. `pause` as in `signing.sign`. Raises
    FinishingError, the signer's, time stamp's and manifest's errors, MediaError, StorageError, KeyStoreError.
    """
    labels.write_iptc(rendered.path, rendered.mime, EDITED_SOURCE_TYPE, spec.aigc)
    signed_path = rendered.path.with_name(f"signed.{EXTENSIONS[rendered.mime]}")
    output_id = new_output_id()
    request = _request(job, spec, rendered, evidence, output_id)
    signed = signing.sign(rendered.path, signed_path, request, pause)
    verify_file(signed_path, rendered.mime, mark_id=request.mark_id, key=key)
    info = client.probe(signed_path)
    key_id = keys.create_key(f"output:{job.pk}")
    try:
        object_name = storage.store_file(signed_path, key_id=key_id, prefix="output")
    except BaseException:
        keys.destroy_key(key_id)
        raise
    return Draft(
        mime=rendered.mime,
        sha256=_sha256(signed_path),
        size=signed_path.stat().st_size,
        media=info.to_dict(),
        object_name=object_name,
        key_id=key_id,
        mark_id=request.mark_id,
        mark_key=key.name,
        manifest_label=signed.manifest.label,
        manifest_store=signed.manifest.store,
        time_stamp=signed.time_stamp,
        fingerprint=rendered.fingerprint,
        timings=rendered.timings,
        quality=rendered.quality,
        warnings=rendered.warnings,
        output_id=output_id,
    )


def discard(draft: Draft) -> None:
    """Throw away a draft that was not published: its key first, then its object.

    Does nothing if an output names the object, or if that cannot be asked: an answer to COMMIT that was lost looks like
    a failure. What no row names is cleared by the orphan sweep.
    """
    try:
        if Output.objects.filter(object_name=draft.object_name).exists():
            return
    except DatabaseError:
        return
    keys.destroy_key(draft.key_id)
    storage.delete(draft.object_name)


def verify_file(path: Path, mime: str, *, mark_id: bytes, key: MarkKey) -> None:
    """Read a finished file as a stranger would. Raises FinishingError unless mark and manifest both name `mark_id`."""
    found: MarkReading | None
    if mime.startswith("image/"):
        found = image.read(client.decode_image(path), [key], effort="fast")
    else:
        with client.open_frames(path) as frames:
            found = video.read(frames, [key])
    if found is None or found.mark_id != mark_id or found.key != key.name:
        raise FinishingError(
            "mark_unreadable",
            "The invisible mark could not be read back from the finished file, so it was not published. "
            "Nothing of it was kept. Try the option mark_mode=durable, or a larger picture.",
        )
    credentials = Credentials.from_dict(
        client.read_credentials(
            path, mime, keys_of_house.anchors_pem(), tsa_anchors_pem=keys_of_house.tsa_anchors_pem()
        )
    )
    if credentials.state != "trusted" or not credentials.is_ours or credentials.mark_ids != (mark_id,):
        raise FinishingError(
            "manifest_unverified",
            f"The Content Credentials of the finished file did not verify ({credentials.state}); it was not published. "
            "Nothing of it was kept. Run `manage.py doctor`, then start the job again.",
        )


def _request(job: Job, spec: JobSpec, rendered: Rendered, evidence: ScreeningRecord, output_id: str) -> ManifestRequest:
    swaps = list(job.swaps.all())
    photos = {photo.sha256: photo.path for swap in spec.swaps for photo in swap.sources}
    mimes = {asset.sha256: asset.mime for asset in job.inputs()}
    return ManifestRequest(
        mime=rendered.mime,
        target=_ingredient(spec.target_path, job.target.mime),
        sources=tuple(_ingredient(path, mimes[sha256]) for sha256, path in photos.items()),
        mark_id=bytes(job.mark_id or b""),
        consent_refs=_consent_refs(swaps),
        policy_version=evidence.policy_version,
        livemode=job.livemode,
        status_url=f"{settings.PUBLIC_URL}/verify/o/{output_id}",
        screening_ref=evidence.pk,
        profile=evidence.profile,
        not_screened=tuple(evidence.not_screened),
        label_text=spec.label.text if spec.label is not None else "",
        model_set=spec.model_set,
        models=makers(spec.swapper, spec.enhancer, spec.upscaler),
    )


def _consent_refs(swaps: Sequence[JobSwap]) -> tuple[ConsentRef, ...]:
    """What every replacement rests on, each record once."""
    refs: list[ConsentRef] = []
    for swap in swaps:
        refs.append(_given(swap.donor_consent_id, "face_donor"))
        if swap.target_consent_id is not None:
            refs.append(_given(swap.target_consent_id, "target_person"))
        else:
            record = str(swap.target_attestation_id)
            refs.append(ConsentRef(record=record, role="target_person", status="attested"))
    return tuple(dict.fromkeys(refs))


def _given(consent_id: str, role: Role) -> ConsentRef:
    return ConsentRef(record=consent_id, role=role, ledger_index=ledger.given_index(consent_id))


def _ingredient(path: Path, mime: str) -> IngredientFile:
    """The input's own credentials are parsed in a media child, never here."""
    found = Credentials.from_dict(client.read_credentials(path, mime, ""))
    return IngredientFile(mime, found, path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
