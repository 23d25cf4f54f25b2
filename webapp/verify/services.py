"""Looks at a file and says what can be said: the manifest in it, our mark, our records, the content.

The file is parsed in media children only. It is never kept: an upload lies in a work folder until the answer is made.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile

from watermark import pdq
from watermark.credentials import Credentials
from watermark.fingerprint import take
from watermark.keys import MarkKey
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
from webapp import keys_of_house, net
from webapp.jobs.workfolder import work_folder
from webapp.verify import content
from webapp.verify.looking import Look
from webapp.verify.records import POSSIBLE, PublishedOutputs, possible_matches
from webapp.verify.words import ai_sentence
from worker.media import client
from worker.media.errors import ChildError, MediaError
from worker.media.magic import Sniffed

SAYS_ENOUGH = frozenset({"ours_withdrawn", "other_trusted", "other_unknown"})
"""Stands though the picture cannot be decoded. A manifest of ours that holds is not enough: bytes of a file that lie
around it are covered by no hash, and damage there must not be called intact."""
BYTES_SAY_ENOUGH = frozenset({"ours_intact", "ours_withdrawn"})
"""Nothing that a comparison of the content could find would change these."""
NOT_OURS = frozenset({"nothing_found", "other_trusted", "other_unknown", "other_invalid"})
KEYFRAMES = 5
"""Of a film, looked up by their fingerprints when it carries no mark."""

RecordsOf = Callable[[Callable[[bytes], str]], Records]
"""Records, given a function that reads the claim of a stored manifest (`Credentials.claim_sha256`)."""


@dataclass(frozen=True)
class House:
    """Whose marks, manifests and records a file is held against; `similar` finds outputs by a fingerprint.

    The three certificates are those of `credentials_reader.read`.
    """

    keys: Sequence[MarkKey]
    anchors_pem: str
    records: RecordsOf
    similar: Callable[[bytes], Sequence[PossibleMatch]] = lambda pdq: ()
    tsa_anchors_pem: str = ""
    trust_list_pem: str = ""

    @property
    def certificates(self) -> dict[str, str]:
        """What is believed, and of whom."""
        return {
            "anchors_pem": self.anchors_pem,
            "tsa_anchors_pem": self.tsa_anchors_pem,
            "trust_list_pem": self.trust_list_pem,
        }


def this_house() -> House:
    """This deployment. Raises KeysError, KeyStoreError."""
    return House(
        keys_of_house.mark_keys(),
        keys_of_house.anchors_pem(),
        PublishedOutputs,
        possible_matches,
        keys_of_house.tsa_anchors_pem(),
        trust_list_pem(),
    )


@dataclass(frozen=True)
class Examined:
    """What one file showed: all that a verdict needs, today or later.

    `duration`: seconds of a video that was decoded, else 0. `recorded_claim`: of our stored manifest with the label of
    the file's, "" for none. `hinted`: how the file compares with the output that the asker named.
    """

    evidence: Evidence
    kind: Literal["photo", "video", ""] = ""
    duration: float = 0.0
    recorded_claim: str = ""
    hinted: ContentEvidence | None = None

    def verdict(self, records: RecordsOf = PublishedOutputs) -> Verdict:
        """What follows from it and from our records as they are now."""
        return verdict(self.evidence, records(lambda store: self.recorded_claim))


def verify_file(path: Path, *, fetch_manifest: bool = False, house: House | None = None) -> Verdict:
    """The verdict on a local file. Total: a file that cannot be read has the verdict `unreadable`."""
    house = house or this_house()
    return examine(path, fetch_manifest=fetch_manifest, house=house).verdict(house.records)


def examine(
    path: Path, *, fetch_manifest: bool = False, hint: bytes | None = None, house: House | None = None
) -> Examined:
    """Look at a local file, in one media child from the first question to the last. Total, as `verify_file`.

    `fetch_manifest`: whoever asks wants Content Credentials fetched from the address that the file names. Never done
    unasked: the address is a stranger's, who would learn that somebody looks at the file. `hint`: a mark's id that the
    asker has from elsewhere; the file is compared with that output.
    """
    house = house or this_house()
    seen = Examined(Evidence(file_sha256=_sha256(path)))
    try:
        with client.examine(path) as file:
            found = _credentials(file, house)
            if fetch_manifest and found.state == "remote_only":
                found = _fetched_credentials(path, file.kind, found, house)
            evidence = replace(seen.evidence, credentials=found)
            claim = _recorded_claim(file, found, house)
            seen = replace(seen, evidence=evidence, kind=file.kind.kind, recorded_claim=claim)
            if _is_published(seen, house):
                return seen
            look = Look(file, house.keys)
            evidence = replace(evidence, mark=MarkEvidence.of(look.reading))
            seen = replace(seen, evidence=evidence, duration=look.duration)
            seen = replace(seen, evidence=_compared(seen, look, house))
            hinted = house.records(lambda store: "").by_mark(hint) if hint else None
            return replace(seen, hinted=look.compare(hinted) if hinted else None)
    except MediaError as error:
        if seen.verdict(house.records).code in SAYS_ENOUGH:
            return seen
        return replace(seen, evidence=replace(seen.evidence, unreadable=str(error)))


def _is_published(seen: Examined, house: House) -> bool:
    """Is the file byte for byte one we published? Its mark was read before it was; to look again tells nothing new."""
    known = seen.verdict(house.records).output
    return known is not None and known.sha256 == seen.evidence.file_sha256


def _compared(seen: Examined, look: Look, house: House) -> Evidence:
    """With the content held against our records: against the one output it should be, or against all."""
    code = seen.verdict(house.records).code
    if look.reading is None and code in NOT_OURS:
        return replace(seen.evidence, possible=_possible(look.pictures(KEYFRAMES), house))
    record = record_to_compare(seen.evidence, house.records(lambda store: seen.recorded_claim))
    if record is None or code in BYTES_SAY_ENOUGH:
        return seen.evidence
    return replace(seen.evidence, content=look.compare(record))


def _possible(pictures: Iterable[content.Frame], house: House) -> tuple[PossibleMatch, ...]:
    """What of ours looks like these pictures, each output once, the nearest first."""
    found: dict[str, PossibleMatch] = {}
    for _, rgb in itertools.islice(pictures, KEYFRAMES):
        taken = take(rgb)
        for each in house.similar(taken.pdq) if taken.quality >= pdq.LEAST_QUALITY else ():
            known = found.get(each.manifest_label)
            if known is None or each.pdq_distance < known.pdq_distance:
                found[each.manifest_label] = each
    return tuple(sorted(found.values(), key=lambda each: each.pdq_distance)[:POSSIBLE])


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


def _credentials(file: client.Examination, house: House) -> Credentials:
    """What the Content Credentials say; that they cannot be read is the credential's fault, not the file's."""
    try:
        return Credentials.from_dict(file.credentials(**house.certificates))
    except (ChildError, MediaError) as error:
        return Credentials("broken", failures=(error.code,))


def _fetched_credentials(path: Path, kind: Sniffed, pointing: Credentials, house: House) -> Credentials:
    """The credentials that the file points to; where they cannot be fetched, that it points there, and why."""
    try:
        with place_for_file() as place:
            net.fetch(pointing.remote_url, place, manifest_policy())
            found = client.read_credentials(path, kind.mime, **house.certificates, store=place)
            return replace(Credentials.from_dict(found), remote_url=pointing.remote_url)
    except net.FetchError as error:
        return replace(pointing, failures=(error.code,))
    except (ChildError, MediaError) as error:
        return Credentials("broken", failures=(error.code,), remote_url=pointing.remote_url)


def _recorded_claim(file: client.Examination, found: Credentials, house: House) -> str:
    """The claim of our stored manifest that has the label of the file's; "" for none, and when nobody can tell."""

    def claim_of(store: bytes) -> str:
        try:
            return file.claim_of(store)
        except (ChildError, MediaError):
            return ""

    record = house.records(claim_of).by_manifest(found.label) if found.is_ours else None
    return record.claim_sha256 if record else ""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
