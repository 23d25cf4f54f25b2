"""Looks at a file and says what can be said: the manifest in it, our mark, our records, the content.

The file is parsed in media children only. It is never kept: an upload lies in a temporary file
until the answer is made.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from django.core.files.uploadedfile import UploadedFile
from numpy.typing import NDArray

from watermark import image, video
from watermark.credentials import Credentials
from watermark.fingerprint import ContentMatch
from watermark.reading import Reading
from watermark.verdict import ContentEvidence, Evidence, MarkEvidence, Verdict, record_to_compare, verdict
from watermark.video_reading import VideoReading
from webapp import keys_of_house
from webapp.jobs.workfolder import work_folder
from webapp.verify import content
from webapp.verify.records import PublishedOutputs
from webapp.verify.slots import slot
from worker.media import client
from worker.media.errors import ChildError, MediaError
from worker.media.magic import Sniffed

# Bytes that we published ourselves, or a credential that holds for the bytes, need no decoded picture.
SAYS_ENOUGH = frozenset({"ours_intact", "ours_withdrawn", "other_trusted", "other_unknown"})


def verify_upload(file: UploadedFile) -> Verdict:
    """The verdict on an upload, which is gone afterwards. Raises slots.BusyError when too many are being looked at."""
    with slot(), _local(file) as path:
        return verify_file(path)


def verify_file(path: Path) -> Verdict:
    """The verdict on a local file. Total: a file that cannot be read has the verdict `unreadable`."""
    records = PublishedOutputs()
    evidence = Evidence(file_sha256=_sha256(path))
    try:
        kind = client.identify(path)
        evidence = replace(evidence, credentials=_credentials(path, kind))
        evidence = _look(evidence, path, kind, records)
    except MediaError as error:
        known = verdict(evidence, records)
        if known.code in SAYS_ENOUGH:
            return known
        evidence = replace(evidence, unreadable=str(error))
    return verdict(evidence, records)


def verdict_body(found: Verdict) -> dict[str, Any]:
    """The verdict as the API, the JSON download and the command line give it."""
    return {"object": "verification", **found.to_json()}


def _look(evidence: Evidence, path: Path, kind: Sniffed, records: PublishedOutputs) -> Evidence:
    """Read the mark and, where our records know it, compare the content."""
    keys = keys_of_house.mark_keys()
    rgb: NDArray[np.uint8] | None = None
    duration = 0.0
    if kind.kind == "photo":
        rgb = client.decode_image(path)
        reading: Reading | VideoReading | None = image.read(rgb, keys, effort="deep")
    else:
        with client.open_frames(path) as frames:
            reading = video.read(frames, keys)
            duration = frames.duration
    evidence = replace(evidence, mark=MarkEvidence.of(reading))
    record = record_to_compare(evidence, records)
    recorded = content.Recorded.read(record.fingerprint) if record and record.fingerprint else None
    if record is None or recorded is None:
        return evidence
    where = reading.geometry if reading is not None else None
    if rgb is not None:
        match: ContentMatch | None = content.match_photo(recorded, rgb, where)
    else:
        frames_at = client.sample_frames(path, times=content.times_to_compare(duration))
        match = content.match_video(recorded, frames_at, where)
    if match is None:
        return evidence
    found = ContentEvidence(
        record.output_id,
        None if match.judged == "unknown" else match.matches,
        match.pdq_distance,
        match.grid_correlation,
        match.share,
        tuple(match.regions),
    )
    return replace(evidence, content=found)


def _credentials(path: Path, kind: Sniffed) -> Credentials | None:
    """What the Content Credentials say; that they cannot be read is the credential's fault, not the file's."""
    try:
        anchors = keys_of_house.anchors_pem(), keys_of_house.tsa_anchors_pem()
        return Credentials.from_dict(client.read_credentials(path, kind.mime, *anchors))
    except (ChildError, MediaError) as error:
        return Credentials("broken", failures=(error.code,))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _local(file: UploadedFile) -> Iterator[Path]:
    """The upload as a file on disk, without the name it came with; removed afterwards, even after a kill."""
    with work_folder("verify") as folder:
        path = folder / "file"
        place = getattr(file, "temporary_file_path", None)
        if place is not None:
            os.link(place(), path) if _same_device(place(), folder) else path.symlink_to(place())
        else:
            with path.open("wb") as target:
                for chunk in file.chunks():
                    target.write(chunk)
        yield path


def _same_device(place: str, folder: Path) -> bool:
    return os.stat(place).st_dev == folder.stat().st_dev
