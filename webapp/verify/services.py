"""Looks at a file and says what can be said: the manifest in it, our mark, our records, the content.

The file is parsed in media children only. It is never kept: an upload lies in a work folder until the answer is made.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile

from watermark.credentials import Credentials
from watermark.verdict import Evidence, MarkEvidence, Verdict, record_to_compare, verdict
from webapp import keys_of_house, net
from webapp.jobs.workfolder import work_folder
from webapp.verify.looking import Look
from webapp.verify.records import PublishedOutputs
from webapp.verify.words import ai_sentence
from worker.media import client
from worker.media.errors import ChildError, MediaError
from worker.media.magic import Sniffed

# Bytes that we published ourselves, or a credential that holds for the bytes, need no decoded picture.
SAYS_ENOUGH = frozenset({"ours_intact", "ours_withdrawn", "other_trusted", "other_unknown"})


@dataclass(frozen=True)
class Examined:
    """What one file showed: all that a verdict needs, today or later. `look` is None where nothing was decoded."""

    evidence: Evidence
    kind: Literal["photo", "video", ""] = ""
    look: Look | None = None

    @property
    def duration(self) -> float:
        """Seconds of a video that was looked at, else 0."""
        return self.look.duration if self.look is not None else 0.0

    def verdict(self) -> Verdict:
        """What follows from it and from our records as they are now."""
        return verdict(self.evidence, PublishedOutputs())


def verify_file(path: Path, *, fetch_manifest: bool = False) -> Verdict:
    """The verdict on a local file. Total: a file that cannot be read has the verdict `unreadable`."""
    return examine(path, fetch_manifest=fetch_manifest).verdict()


def examine(path: Path, *, fetch_manifest: bool = False) -> Examined:
    """Look at a local file. Total, as `verify_file`.

    `fetch_manifest`: whoever asks wants Content Credentials fetched from the address that the file names. Never done
    unasked: the address is a stranger's, who would learn that somebody looks at the file.
    """
    records = PublishedOutputs()
    evidence = Evidence(file_sha256=_sha256(path))
    kind: Literal["photo", "video", ""] = ""
    look: Look | None = None
    try:
        sniffed = client.identify(path)
        kind = sniffed.kind
        credentials = _credentials(path, sniffed)
        if fetch_manifest and credentials.state == "remote_only":
            credentials = _fetched_credentials(path, sniffed, credentials)
        evidence = replace(evidence, credentials=credentials)
        if _is_published(evidence, records):
            return Examined(evidence, kind)
        look = Look(path, sniffed)
        evidence = replace(evidence, mark=MarkEvidence.of(look.reading))
        if record := record_to_compare(evidence, records):
            evidence = replace(evidence, content=look.compare(record))
    except MediaError as error:
        if verdict(evidence, records).code not in SAYS_ENOUGH:
            evidence = replace(evidence, unreadable=str(error))
    return Examined(evidence, kind, look)


def _is_published(evidence: Evidence, records: PublishedOutputs) -> bool:
    """Is the file byte for byte one we published? Its mark was read before it was; to look again tells nothing new."""
    known = verdict(evidence, records).output
    return known is not None and known.sha256 == evidence.file_sha256


def trust_list_pem() -> str:
    """The roots of issuers that the operator trusts besides this house, such as those of C2PA's trust list; or none."""
    return Path(settings.TRUST_LIST_FILE).read_text(encoding="utf-8") if settings.TRUST_LIST_FILE else ""


def verdict_body(found: Verdict) -> dict[str, Any]:
    """The verdict on a file that was looked at here, as the command line gives it."""
    return {"object": "verification", "ai": ai_sentence(found), **found.to_json()}


def fetch_policy() -> net.Policy:
    """What may be fetched for a verification: media, on the ports the operator allows."""
    return net.Policy(ports=frozenset(settings.FETCH_PORTS), max_bytes=net.MEDIA_BYTES)


def manifest_policy() -> net.Policy:
    """What may be fetched as a manifest store that a file names."""
    return replace(fetch_policy(), max_bytes=net.MANIFEST_BYTES, total_seconds=15.0)


def fetch(url: str, path: Path) -> None:
    """The file at an address a stranger names, into the new file `path`. Raises net.FetchError."""
    net.fetch(url, path, fetch_policy())


@contextmanager
def place_for_file() -> Iterator[Path]:
    """Where an upload may lie, without the name it came with; removed afterwards, even after a kill."""
    with work_folder("verify") as folder:
        yield folder / "file"


def put(file: UploadedFile, path: Path) -> None:
    """Lay an upload at `path`."""
    place = getattr(file, "temporary_file_path", None)
    if place is not None and os.stat(place()).st_dev == path.parent.stat().st_dev:
        os.link(place(), path)
        return
    with path.open("xb") as target:
        for chunk in file.chunks():
            target.write(chunk)


def _fetched_credentials(path: Path, kind: Sniffed, pointing: Credentials) -> Credentials:
    """The credentials that the file points to; where they cannot be fetched, that it points there, and why."""
    try:
        with place_for_file() as place:
            net.fetch(pointing.remote_url, place, manifest_policy())
            return replace(_credentials(path, kind, place), remote_url=pointing.remote_url)
    except net.FetchError as error:
        return replace(pointing, failures=(error.code,))


def _credentials(path: Path, kind: Sniffed, store: Path | None = None) -> Credentials:
    """What the Content Credentials say; that they cannot be read is the credential's fault, not the file's."""
    try:
        found = client.read_credentials(
            path,
            kind.mime,
            keys_of_house.anchors_pem(),
            tsa_anchors_pem=keys_of_house.tsa_anchors_pem(),
            trust_list_pem=trust_list_pem(),
            store=store,
        )
        return Credentials.from_dict(found)
    except (ChildError, MediaError) as error:
        return Credentials("broken", failures=(error.code,))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
