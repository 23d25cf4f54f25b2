"""Looks at a file and says what can be said: the manifest in it, our mark, our records, the content.

The file is parsed in media children only. It is never kept: an upload lies in a temporary file
until the answer is made.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from django.core.files.uploadedfile import UploadedFile

from watermark import image, video
from watermark.credentials import Credentials
from watermark.fingerprint import ContentMatch, take
from watermark.keys import MarkKey
from watermark.reading import Reading
from watermark.verdict import (
    ContentEvidence,
    Evidence,
    MarkEvidence,
    PossibleMatch,
    Records,
    Verdict,
    record_to_compare,
    verdict,
)
from watermark.video_reading import VideoReading
from webapp import keys_of_house
from webapp.jobs.repository import LEAST_QUALITY
from webapp.jobs.workfolder import work_folder
from webapp.verify import content
from webapp.verify.records import POSSIBLE, PublishedOutputs, possible_matches
from webapp.verify.slots import slot
from worker.media import client
from worker.media.errors import ChildError, MediaError

NOT_OURS = frozenset({"nothing_found", "other_trusted", "other_unknown", "other_invalid"})
KEYFRAMES = 5
"""Of a film, looked up by their fingerprints when it carries no mark."""
BYTES_SAY_ENOUGH = frozenset({"ours_intact", "ours_withdrawn"})
"""Nothing that a comparison of the content could find would change these."""


def verify_upload(file: UploadedFile) -> Verdict:
    """The verdict on an upload, which is gone afterwards. Raises slots.BusyError when too many are being looked at."""
    with slot(), _local(file) as path:
        return verify_file(path)


@dataclass(frozen=True)
class House:
    """Whose marks, manifests and records a file is held against.

    `records` gets a function that reads the claim of a stored manifest (`Credentials.claim_sha256`); `similar` finds
    outputs by a fingerprint.
    """

    keys: Sequence[MarkKey]
    anchors_pem: str
    records: Callable[[Callable[[bytes], str]], Records]
    similar: Callable[[bytes], Sequence[PossibleMatch]] = lambda pdq: ()


def this_house() -> House:
    """This deployment. Raises KeysError, KeyStoreError."""
    return House(keys_of_house.mark_keys(), keys_of_house.anchors_pem(), PublishedOutputs, possible_matches)


def verify_file(path: Path, house: House | None = None) -> Verdict:
    """The verdict on a local file. Total: a file that cannot be read has the verdict `unreadable`.

    The file is parsed in one media child, from the first question to the last.
    """
    house = house or this_house()
    evidence = Evidence(file_sha256=_sha256(path))
    try:
        with client.examine(path) as file:
            records = house.records(lambda store: _claim(file, store))
            found = _credentials(file, house.anchors_pem)
            evidence = replace(evidence, credentials=found)
            if found.is_ours:
                records.by_manifest(found.label)  # asks for the claim while the child is free to answer
            try:
                evidence = _look(evidence, file, house, records)
            except MediaError as error:
                known = verdict(evidence, records)
                if _says_enough(known):
                    return known
                evidence = replace(evidence, unreadable=str(error))
            return verdict(evidence, records)
    except MediaError as error:
        return verdict(replace(evidence, unreadable=str(error)), house.records(lambda store: ""))


def _says_enough(known: Verdict) -> bool:
    """Whether the answer stands though the picture cannot be decoded.

    The very bytes that we published are intact. A manifest of ours that holds is not enough: bytes of a file that lie
    around it are covered by no hash, and damage there must not be called intact.
    """
    if known.code == "ours_intact":
        return known.reason == "exact_file"
    return known.code in {"ours_withdrawn", "other_trusted", "other_unknown"}


def verdict_body(found: Verdict) -> dict[str, Any]:
    """The verdict as the API, the JSON download and the command line give it."""
    return {"object": "verification", **found.to_json()}


def _look(evidence: Evidence, file: client.Examination, house: House, records: Records) -> Evidence:
    """Read the mark and, unless the bytes say enough, compare the content with what our records know of it."""
    if file.kind.kind == "photo":
        rgb = file.picture()
        reading: Reading | VideoReading | None = image.read(rgb, house.keys, effort="deep")
    else:
        frames = file.frames()
        reading = video.read(frames, house.keys)
    where = reading.geometry if reading is not None else None
    evidence = replace(evidence, mark=MarkEvidence.of(reading))
    if reading is None and verdict(evidence, records).code in NOT_OURS:
        seen = [(0.0, rgb)] if file.kind.kind == "photo" else frames.keyframes(max(1.0, frames.duration / KEYFRAMES))
        return replace(evidence, possible=_possible(seen, house))
    record = record_to_compare(evidence, records)
    recorded = content.Recorded.read(record.fingerprint) if record and record.fingerprint else None
    if record is None or recorded is None or verdict(evidence, records).code in BYTES_SAY_ENOUGH:
        return evidence
    if file.kind.kind == "photo":
        match: ContentMatch | None = content.match_photo(recorded, rgb, where)
    else:
        where = content.as_shrunk(where, frames.shrink)
        match = content.match_video(recorded, content.moments(frames), where)
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


def _possible(seen: Iterable[content.Frame], house: House) -> tuple[PossibleMatch, ...]:
    """What of ours looks like these pictures, each output once, the nearest first."""
    found: dict[str, PossibleMatch] = {}
    for _, rgb in itertools.islice(seen, KEYFRAMES):
        taken = take(rgb)
        for each in house.similar(taken.pdq) if taken.quality >= LEAST_QUALITY else ():
            known = found.get(each.manifest_label)
            if known is None or each.pdq_distance < known.pdq_distance:
                found[each.manifest_label] = each
    return tuple(sorted(found.values(), key=lambda each: each.pdq_distance)[:POSSIBLE])


def _credentials(file: client.Examination, anchors_pem: str) -> Credentials:
    """What the Content Credentials say; that they cannot be read is the credential's fault, not the file's."""
    try:
        return Credentials.from_dict(file.credentials(anchors_pem))
    except (ChildError, MediaError) as error:
        return Credentials("broken", failures=(error.code,))


def _claim(file: client.Examination, store: bytes) -> str:
    try:
        return file.claim_of(store)
    except (ChildError, MediaError):
        return ""  # nobody can say that it is ours


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
