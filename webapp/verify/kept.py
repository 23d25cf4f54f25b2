"""From a stranger's file to an answer that can be read again for a while.

Small files are looked at while the asker waits. A large one gets its row at once and is looked at by a thread of the
same process, which holds the slot and the file; the row's `alive_until` tells everybody whether that process lives.
Nothing is queued: the file of a stranger never leaves the machine that received it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db import connections
from django.utils import timezone

from watermark.credentials import Credentials
from watermark.verdict import ContentEvidence, Evidence, MarkEvidence, PossibleMatch, Verdict, verdict
from webapp.verify import services
from webapp.verify.models import Verification
from webapp.verify.records import PublishedOutputs, as_now
from webapp.verify.slots import FETCHES, slot
from webapp.verify.words import ai_sentence

logger = logging.getLogger(__name__)

AT_ONCE_BYTES = 20 << 20
BEAT_SECONDS = 5.0
SILENT_AFTER = timedelta(seconds=30)
THREAD_NAME = "verification"
INTERRUPTED = {
    "code": "verification_interrupted",
    "message": "The service was stopped while it looked at the file, which was not kept. Send it again.",
}


def receive_upload(file: UploadedFile, *, fetch_manifest: bool = False) -> Verification:
    """Look at an upload. The row is `done`, or `running` for more than AT_ONCE_BYTES.

    `fetch_manifest`: see `services.examine`. Raises slots.BusyError when too many files are being looked at.
    """
    with ExitStack() as held:
        held.enter_context(slot())
        path = held.enter_context(services.place_for_file())
        services.put(file, path)
        return _look(path, held, fetch_manifest)


def receive_url(url: str, *, fetch_manifest: bool = False) -> Verification:
    """Fetch and look at the file at an address. As `receive_upload`; raises net.FetchError as well."""
    with ExitStack() as held:
        path = held.enter_context(services.place_for_file())
        with slot(FETCHES):  # a slow server must not take the place of those whose file is here
            services.fetch(url, path)
        held.enter_context(slot())
        return _look(path, held, fetch_manifest)


def _look(path: Path, held: ExitStack, fetch_manifest: bool) -> Verification:
    if path.stat().st_size <= AT_ONCE_BYTES:
        row = Verification(expires_at=_end(), **_found(services.examine(path, fetch_manifest=fetch_manifest)))
        row.save(force_insert=True)
        return row
    row = Verification.objects.create(expires_at=_end(), alive_until=timezone.now() + SILENT_AFTER)
    work = (row.pk, path, held.pop_all(), fetch_manifest)
    threading.Thread(target=_in_background, args=work, name=f"{THREAD_NAME}-{row.pk}", daemon=True).start()
    return row


def _in_background(pk: str, path: Path, held: ExitStack, fetch_manifest: bool) -> None:
    try:
        with held, _beating(pk):
            examined = services.examine(path, fetch_manifest=fetch_manifest)
            Verification.objects.filter(pk=pk).update(**_found(examined))
    except Exception:
        logger.exception("A verification in the background failed")
        Verification.objects.filter(pk=pk).update(state=Verification.State.FAILED)
    finally:
        connections.close_all()


@contextmanager
def _beating(pk: str) -> Iterator[None]:
    """Say that the work goes on, for as long as the block lasts."""
    ended = threading.Event()

    def beat() -> None:
        try:
            while not ended.wait(BEAT_SECONDS):
                Verification.objects.filter(pk=pk).update(alive_until=timezone.now() + SILENT_AFTER)
        finally:
            connections.close_all()

    beater = threading.Thread(target=beat, daemon=True)
    beater.start()
    try:
        yield
    finally:
        ended.set()
        beater.join()


def _found(examined: services.Examined) -> dict[str, Any]:
    """The columns of an answer."""
    return {
        "state": Verification.State.DONE,
        "evidence": evidence_to_json(examined.evidence) | {"recorded_claim": examined.recorded_claim},
        "kind": examined.kind,
        "duration": examined.duration,
    }


def _end() -> Any:
    return timezone.now() + timedelta(days=settings.VERIFICATION_RETENTION_DAYS)


def find(pk: str) -> Verification | None:
    """An answer that is still kept."""
    if not (pk.isascii() and pk.isprintable() and len(pk) <= 32):
        return None
    return Verification.objects.filter(pk=pk, expires_at__gt=timezone.now()).first()


def forget() -> int:
    """Delete answers whose time is over; how many."""
    return Verification.objects.filter(expires_at__lte=timezone.now()).delete()[0]


def verdict_of(row: Verification) -> Verdict | None:
    """The verdict that follows from an answer and from our records as they are now; None while there is none."""
    if row.state != Verification.State.DONE:
        return None
    try:
        evidence = evidence_from_json(row.evidence)
    except (KeyError, TypeError, ValueError):
        logger.warning("a kept answer cannot be read any more")
        return None
    evidence = replace(evidence, possible=as_now(evidence.possible))
    return verdict(evidence, PublishedOutputs(lambda store: str(row.evidence.get("recorded_claim", ""))))


def body(row: Verification) -> dict[str, Any]:
    """An answer as the API and the JSON download give it: every member always there, null where nothing is known."""
    found = verdict_of(row)
    state = row.current_state if found or row.state != Verification.State.DONE else Verification.State.FAILED
    said = found.to_json() if found else dict.fromkeys(VERDICT_MEMBERS)
    return {
        "object": "verification",
        "id": row.pk,
        "state": state,
        "failure": INTERRUPTED if state == Verification.State.FAILED else None,
        "created_at": row.created_at.astimezone(UTC).isoformat(),
        "expires_at": row.expires_at.astimezone(UTC).isoformat(),
        "url": f"{settings.PUBLIC_URL}/verify/r/{row.pk}",
        "media": {"kind": row.kind, "duration": row.duration or None} if row.kind else None,
        "ai": ai_sentence(found) if found else None,
        **said,
    }


VERDICT_MEMBERS = (
    *("code", "reason", "severity", "headline", "sentence", "output", "manifest", "mark", "content"),
    "possible_matches",
)


def evidence_to_json(evidence: Evidence) -> dict[str, Any]:
    """Plain values to keep; without the raw manifest."""
    mark = asdict(evidence.mark) | {"mark_id": evidence.mark.mark_id.hex()} if evidence.mark else None
    return {
        "credentials": evidence.credentials.to_dict(raw=False) if evidence.credentials else None,
        "mark": mark,
        "content": asdict(evidence.content) if evidence.content else None,
        "file_sha256": evidence.file_sha256,
        "unreadable": evidence.unreadable,
        "possible": [asdict(each) for each in evidence.possible],
    }


def evidence_from_json(values: Mapping[str, Any]) -> Evidence:
    """Read back what `evidence_to_json` gave. Raises KeyError, TypeError or ValueError for anything else."""
    mark, content = values["mark"], values["content"]
    spans = tuple((float(start), float(end)) for start, end in mark["spans"]) if mark else ()
    return Evidence(
        credentials=Credentials.from_dict(values["credentials"]) if values["credentials"] else None,
        mark=MarkEvidence(**mark | {"mark_id": bytes.fromhex(mark["mark_id"]), "spans": spans}) if mark else None,
        content=ContentEvidence(**content | {"regions": tuple(content["regions"])}) if content else None,
        file_sha256=str(values["file_sha256"]),
        unreadable=str(values["unreadable"]),
        possible=tuple(PossibleMatch(**each) for each in values["possible"]),
    )
