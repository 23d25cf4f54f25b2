"""Fetching one large file over HTTP so that a cut costs only what had not arrived yet.

Bytes are collected in a file of their own beside a note of where they came from; the next try asks for the rest, and
gets it only if a validator (ETag or Last-Modified) says that the server still has the same file (RFC 9110, If-Range).
Nothing here knows whether the bytes are the right ones: the caller compares the SHA-256.
"""

import http.client
import json
import logging
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from worker.inference.types import ModelError

log = logging.getLogger(__name__)

Progress = Callable[[str, float], None]

TIMEOUT: Final = 30.0  # seconds without a byte
TRIES: Final = 5  # in a row without a new byte
PAUSE: Final = 0.5  # seconds before the second try, doubled before each further one
MOST: Final = 8 << 30  # bytes; no model of the field comes near
_CHUNK: Final = 1 << 20


@dataclass
class _Note:
    """What is known about the collected bytes: whose they are, how many there will be, 0 if nobody said."""

    url: str
    validator: str = ""
    total: int = 0
    complete: bool = False


class _CutError(Exception):
    """The connection failed in a way that another try may mend."""


def fetch(urls: list[str], part: Path, progress: Progress) -> str:
    """Collect the file that the first answering URL has in `part`; that URL. What is there already is gone on with.

    Raises ModelError "source_unavailable" if no URL gave the whole file (what arrived stays for the next call), and
    "write_failed" if it could not be written.
    """
    note = _read_note(part)
    if note is not None and note.complete and note.url in urls:
        return note.url
    problems = []
    for url in urls:
        try:
            _fetch(url, part, progress)
        except _CutError as problem:
            problems.append(f"{url}: {problem}")
        except OSError as error:
            raise ModelError(
                "write_failed",
                f"The download could not be written to {part.parent} ({error.strerror or error}). What had arrived is "
                "kept. Free some space or check the folder's permissions, then run the same command again.",
            ) from error
        else:
            return url
    raise ModelError(
        "source_unavailable",
        "The file could not be fetched. What had arrived is kept, and the same command goes on from there. Check the "
        "network and the proxy, name a mirror in IMPRIMATUR_MODEL_MIRROR, or fetch the file elsewhere and use "
        f"`models import` or `--from FOLDER`. Tried: {'; '.join(problems)}",
    )


def discard(part: Path) -> None:
    """Remove what was collected, and the note."""
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def _fetch(url: str, part: Path, progress: Progress) -> None:
    failures = 0
    while True:
        before = _size(part)
        try:
            if _go_on(url, part, progress):
                return
            problem = "the connection ended early"
        except (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in (408, 416, 429):
                raise _CutError(f"the server answered {error.code}") from error
            problem = str(getattr(error, "reason", "")) or str(error) or type(error).__name__
        failures = 0 if _size(part) > before else failures + 1
        if failures >= TRIES:
            raise _CutError(problem)
        log.info("trying again after %s", problem)
        time.sleep(PAUSE * 2 ** max(0, failures - 1))


def _go_on(url: str, part: Path, progress: Progress) -> bool:
    """Ask for what is missing; True once all is there. Network errors and OSError as they come."""
    note = _read_note(part)
    have = _size(part)
    if note is None or note.url != url or not note.validator:
        note, have = _Note(url), 0  # nothing could tell whether old and new bytes fit together
    headers = {"User-Agent": "imprimatur", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": note.validator}
    try:
        answer = _OPENER.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)  # noqa: S310 - http(s) only
    except urllib.error.HTTPError as error:
        if error.code == 416:  # what is here does not fit what is there
            discard(part)
        raise
    with answer:
        resumed = have > 0 and answer.status == 206
        if resumed and not _starts_at(answer, have):
            discard(part)
            return False
        tag = answer.headers.get("ETag", "")
        note.validator = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")
        note.total = answer.length + (have if resumed else 0) if answer.length else 0
        if note.total > MOST:
            raise _CutError(f"the file is too large to be a model ({note.total:,} bytes)")
        with part.open("ab" if resumed else "wb") as file:
            _write_note(part, note)
            done = file.tell()
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                if done > MOST:
                    raise _CutError("the file is too large to be a model")
                share = done / note.total if note.total else 0.0
                progress(
                    f"{done / 1e6:,.0f} of {note.total / 1e6:,.0f} MB" if note.total else f"{done / 1e6:,.0f} MB", share
                )
    if note.total and done != note.total:
        return False
    note.complete = True
    _write_note(part, note)
    return True


def _starts_at(answer: Any, have: int) -> bool:
    return str(answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _note_of(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_note(part: Path) -> _Note | None:
    try:
        return _Note(**json.loads(_note_of(part).read_bytes())) if part.exists() else None
    except (OSError, ValueError, TypeError):
        return None


def _write_note(part: Path, note: _Note) -> None:
    _note_of(part).write_text(json.dumps(asdict(note)), "utf-8")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to other hosts, as file hosts make them, but never from https to anything else."""

    def redirect_request(  # noqa: PLR0917 - urllib's own signature
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        if not newurl.startswith("https://") and (
            req.full_url.startswith("https://") or not newurl.startswith("http://")
        ):
            raise urllib.error.URLError("it redirects away from https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Only http and https, through the environment's proxy where one is named."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


_OPENER: Final = _opener()
