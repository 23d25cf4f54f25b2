"""The log as one file that verifies without this house: its checkpoints, its public keys and its leaves.

Lines of JSON. The first is a header; then `{"checkpoint": note}` lines; then the leaves, each line (without its
newline) being the very bytes that are hashed. `{"end": count}` is the last line, so that a file cut short says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from consent.ledger import house, proofs
from consent.ledger.checking import LogChecker, Report
from consent.ledger.errors import LedgerError
from consent.ledger.models import LedgerCheckpoint
from consent.ledger.notes import Verifier
from consent.ledger.sequencer import tree_size

FORMAT = "imprimatur-ledger"
VERSION = 1
LONGEST_LINE = 1 << 16
CHUNK = 1000

Show = Callable[[str, float], None]


def write(file: TextIO, show: Show = lambda words, fraction: None) -> int:
    """Write everything under the newest checkpoint; returns the number of leaves. Raises LedgerError log_empty."""
    proofs.checkpoint()
    stored = LedgerCheckpoint.objects.order_by("size")
    newest = stored.values_list("size", flat=True).last() or 0
    size = min(newest, tree_size())
    verifiers = house.verifiers()
    header = {
        "format": FORMAT,
        "version": VERSION,
        "origin": house.signer().name,
        "leaves": size,
        "keys": [each.text for each in verifiers],
    }
    _line(file, header)
    for note in stored.filter(size__lte=newest).values_list("note", flat=True).iterator():
        _line(file, {"checkpoint": note})
    for start in range(0, size, CHUNK):
        for leaf in proofs.leaves(start, min(start + CHUNK, size)):
            file.write(leaf.decode("utf-8", "surrogateescape") + "\n")
        show(f"leaf {min(start + CHUNK, size):,} of {size:,}", min(start + CHUNK, size) / size)
    _line(file, {"end": size})
    return size


def check(
    path: Path, *, keys: Sequence[str] = (), kept: Sequence[str] = (), show: Show = lambda words, fraction: None
) -> Report:
    """Check an export on its own: no database, no key store. Raises LedgerError export_invalid, note_invalid.

    `keys` are public keys known from elsewhere: without them those in the file are believed, which shows that the file
    is whole in itself, not whose it is. `kept` are checkpoints that somebody kept elsewhere.
    """
    report = Report()
    try:
        total = max(1, path.stat().st_size)
        with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            lines = _lines(file)
            header = _header(next(lines, ""))
            named = [Verifier.parse(text) for text in (keys or header["keys"])]
            notes, first = _notes(lines)
            log = LogChecker([*notes, *kept], named, report)
            end, read = None, 0
            for line in _after(first, lines):
                read += len(line)
                if line.startswith('{"end"'):
                    end = _end(line)
                    break
                log.take(line.encode("utf-8", "surrogateescape"))
                if log.size % CHUNK == 0:
                    show(f"leaf {log.size:,}", min(1.0, read / total))
            log.finish()
            if end != log.size or header["leaves"] != log.size or next(lines, None) is not None:
                report.add(
                    "export_incomplete",
                    "the file's end",
                    f"The file announces {header['leaves']} leaves and holds {log.size}: it was cut short or added to.",
                )
            if not report.checkpoints:
                report.add("checkpoint_missing", "the file", "No checkpoint in the file can be believed.")
            elif report.covered < log.size:
                report.add(
                    "leaf_uncovered",
                    f"leaf {report.covered}",
                    "The last leaves are under no signature; an honest export has none of those.",
                )
    except OSError as error:
        raise LedgerError("export_invalid", f"The file cannot be read ({error.strerror}).", status=422) from error
    return report


def _line(file: TextIO, value: Any) -> None:
    file.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


def _lines(file: TextIO) -> Iterator[str]:
    while line := file.readline(LONGEST_LINE):
        if not line.endswith("\n") and len(line) >= LONGEST_LINE:
            raise _invalid("it has a line longer than any leaf")
        yield line.rstrip("\n")


def _header(line: str) -> dict[str, Any]:
    try:
        header = json.loads(line)
        if (
            header["format"] != FORMAT
            or header["version"] != VERSION
            or not isinstance(header["leaves"], int)
            or not all(isinstance(key, str) for key in header["keys"])
        ):
            raise ValueError
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _invalid(f"its first line is not a header of {FORMAT}/{VERSION}") from None
    return dict(header)


def _notes(lines: Iterator[str]) -> tuple[list[str], str | None]:
    """The checkpoints, and the first line after them."""
    notes: list[str] = []
    for line in lines:
        if not line.startswith('{"checkpoint"'):
            return notes, line
        try:
            note = json.loads(line)["checkpoint"]
        except (ValueError, TypeError, KeyError, RecursionError):
            note = None
        if not isinstance(note, str):
            raise _invalid("a checkpoint line is damaged")
        notes.append(note)
    return notes, None


def _end(line: str) -> int | None:
    try:
        found = json.loads(line)["end"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return found if isinstance(found, int) else None


def _after(first: str | None, rest: Iterator[str]) -> Iterator[str]:
    if first is not None:
        yield first
        yield from rest


def _invalid(why: str) -> LedgerError:
    return LedgerError(
        "export_invalid", f"This is not an export of a ledger: {why}. Nothing was checked; get it again.", status=422
    )
