"""Files of PDQ hashes as others hand them out: CSV, and the JSON of ThreatExchange.

CSV: with a header that names a column `hash`, `pdq`, `indicator` or as ThreatExchange's own download does
(`td_raw_indicator`), or without one and the hash in the first column. A column `quality` leaves out what is below 50.
JSON (facebook/ThreatExchange, python-threatexchange/threatexchange/indicator.py): objects with `indicator`, `type` and
perhaps `status` and `should_delete`, as an array, under `data`, or one a line. Frames of vPDQ (`pdq`, `quality`) too.
Other types, deleted entries and those that are called harmless are passed over and counted.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
from numpy.typing import NDArray

from watermark import pdq
from watermark.hash_index import MOST, SIZE

MOST_BYTES: Final = 4 << 30
ENTRY: Final = np.dtype([("hash", "u1", SIZE), ("line", "<u4")])
_HASH: Final = re.compile(r"[0-9a-fA-F]{64}")
_COLUMNS: Final = ("hash", "pdq", "pdq_hash", "indicator", "raw_indicator", "td_raw_indicator", "value", "signal")
_TYPES: Final = ("HASH_PDQ", "PDQ")
_HARMLESS: Final = "NON_MALICIOUS"
_LONGEST_LINE: Final = 1 << 20


class HashFileError(Exception):
    """The file was not imported; nothing was changed. `code`: list_unreadable, list_entry_invalid, list_empty,
    list_too_large."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Parsed:
    """`entries`: `ENTRY` [N], each hash once, by hash; `skipped`: how many were passed over, by reason."""

    entries: NDArray[Any]
    skipped: Mapping[str, int]


def parse(path: Path) -> Parsed:
    """Read a file. Raises HashFileError."""
    skipped: dict[str, int] = {}
    hashes, lines = bytearray(), []
    try:
        if path.stat().st_size > MOST_BYTES:
            raise HashFileError("list_too_large", f"{path.name} is larger than 4 GiB. Nothing was changed. Split it.")
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line, value, reason in _rows(file, path.name):
                if reason:
                    skipped[reason] = skipped.get(reason, 0) + 1
                    continue
                if not _HASH.fullmatch(value):
                    raise HashFileError(
                        "list_entry_invalid",
                        f"Entry {line} of {path.name} is no PDQ hash (64 hexadecimal digits). Nothing was changed. "
                        "Correct or remove it, and import the file again.",
                    )
                hashes += bytes.fromhex(value)
                lines.append(line)
                if len(lines) > MOST:
                    raise HashFileError("list_too_large", f"More than {MOST:,} entries. Nothing was changed. Split it.")
    except (OSError, UnicodeDecodeError, csv.Error, RecursionError) as error:
        raise HashFileError(
            "list_unreadable", f"{path.name} cannot be read as CSV or JSON ({error}). Nothing was changed."
        ) from error
    if not lines:
        raise HashFileError("list_empty", f"{path.name} holds no PDQ hash that counts. Nothing was changed.")
    entries = np.empty(len(lines), ENTRY)
    entries["hash"] = np.frombuffer(bytes(hashes), np.uint8).reshape(-1, SIZE)
    entries["line"] = lines
    _, first = np.unique(entries["hash"], axis=0, return_index=True)
    if len(first) < len(entries):
        skipped["twice in the file"] = len(entries) - len(first)
    return Parsed(entries[first], skipped)


def _rows(file: TextIO, name: str) -> Iterator[tuple[int, str, str]]:
    """(number of the entry, its hash, why it is passed over or "")."""
    first = file.readline(_LONGEST_LINE)
    while first and not first.strip():
        first = file.readline(_LONGEST_LINE)
    if first.lstrip()[:1] in ("[", "{"):
        yield from _json_rows(file, first, name)
    else:
        yield from _csv_rows(file, first)


def _csv_rows(file: TextIO, first: str) -> Iterator[tuple[int, str, str]]:
    reader = csv.reader(chain([first], file))
    header = [cell.strip().lower() for cell in next(reader, [])]
    column = next((header.index(each) for each in _COLUMNS if each in header), None)
    quality = header.index("quality") if "quality" in header else None
    status = header.index("td_status") if "td_status" in header else None
    rows: Iterator[list[str]] = reader
    if column is None:  # the first line is an entry already
        column, quality, rows = 0, None, chain([header], reader)
    for number, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#"):
            continue
        yield number, _cell(cells, column), _why_not(_cell(cells, quality), _cell(cells, status), deleted=False)


def _cell(cells: list[str], place: int | None) -> str:
    return cells[place] if place is not None and place < len(cells) else ""


def _json_rows(file: TextIO, first: str, name: str) -> Iterator[tuple[int, str, str]]:
    for number, item in enumerate(_items(file, first, name), 1):
        if not isinstance(item, dict):
            raise HashFileError("list_unreadable", f"Entry {number} of {name} is no JSON object. Nothing was changed.")
        value = next((item[key] for key in ("indicator", "raw_indicator", "pdq", "hash", "value") if key in item), "")
        kind = str(item.get("type", item.get("signal_type", "HASH_PDQ"))).upper()
        reason = "not PDQ" if kind not in _TYPES else ""
        reason = reason or _why_not(
            str(item.get("quality", "")), str(item.get("status", "")), deleted=item.get("should_delete") is True
        )
        yield number, str(value).strip(), reason


def _items(file: TextIO, first: str, name: str) -> Iterator[Any]:
    """The objects of a whole document, or of one object a line."""
    try:
        document = json.loads(first)
    except ValueError:
        document = None  # it goes on in the next line
    if isinstance(document, dict) and "data" not in document:
        for line in chain([first], file):
            if line.strip():
                yield _loaded(line, name)
        return
    if document is None:
        document = _loaded(first + file.read(), name)
    found = document.get("data", [document]) if isinstance(document, dict) else document
    if not isinstance(found, list):
        raise HashFileError("list_unreadable", f"{name} holds no array of entries. Nothing was changed.")
    yield from found


def _loaded(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise HashFileError("list_unreadable", f"{name} is no JSON ({error}). Nothing was changed.") from error


def _why_not(quality: str, status: str, *, deleted: bool) -> str:
    if deleted:
        return "deleted"
    if status.upper() == _HARMLESS:
        return "called harmless"
    try:
        return "quality below 50" if quality and float(quality) < pdq.LEAST_QUALITY else ""
    except ValueError:
        return ""
