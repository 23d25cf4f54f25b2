"""Metadata in files made of ISO boxes: items of AVIF and HEIC, user data and XMP of MP4 and QuickTime.

Runs in the media child only. Boxes of media are passed over by their length; of those with metadata at most `_META`
bytes are read.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, Final

from worker.gate.declared.metadata import MOST_BLOCK, MOST_PARTS, Metadata

_META: Final = 4 << 20  # of an item list, and of user data
_XMP_UUID: Final = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")  # XMP part 3, 1.2.7.1
_XMP_TYPE: Final = b"application/rdf+xml"


def collect(file: BinaryIO, found: Metadata) -> None:
    """Every block of the file. Raises what `worker.gate.declared.metadata.DAMAGE` names."""
    end = file.seek(0, os.SEEK_END)
    for kind, body, stop in _in_file(file, 0, end, found):
        if kind == b"uuid":
            file.seek(body)
            if file.read(16) == _XMP_UUID:
                found.add("xmp", "xmp", file.read(min(stop - body - 16, MOST_BLOCK + 1)))
        elif kind == b"meta":
            data = _read(file, body, stop, _META, found)
            with found.bearing_damage("items"):
                _items(file, data, end, found)
            with found.bearing_damage("film_tag"):
                _meta(data, found)
        elif kind == b"moov":
            for inner, at, until in _in_file(file, body, stop, found):
                if inner in (b"udta", b"meta"):
                    data = _read(file, at, until, _META, found)
                    with found.bearing_damage("film_tag"):
                        _user_data(data, found) if inner == b"udta" else _meta(data, found)
                elif inner == b"trak":
                    for deep, first, last in _in_file(file, at, until, found):
                        if deep == b"udta":
                            with found.bearing_damage("film_tag"):
                                _user_data(_read(file, first, last, _META, found), found)
                elif inner == b"uuid":
                    data = _read(file, at, until, _META, found)
                    if data[:16] == _XMP_UUID:
                        found.add("xmp", "xmp", data[16:])


def _in_file(file: BinaryIO, start: int, end: int, found: Metadata) -> Iterator[tuple[bytes, int, int]]:
    """(kind, begin of the content, end) of the boxes between two places of the file."""
    for _ in range(MOST_PARTS):
        if start + 8 > end:
            return
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        body = start + 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            body += 8
        elif size == 0:
            size = end - start
        if size < body - start:
            found.missed("boxes", "malformed")
            return
        yield kind, body, min(end, start + size)
        start += size
    found.missed("boxes", "too_large")


def _read(file: BinaryIO, start: int, end: int, most: int, found: Metadata) -> bytes:
    if end - start > most:
        found.missed("boxes", "too_large")
    file.seek(start)
    return file.read(min(end - start, most))


def _within(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """As `_in_file`, in memory; a box that sticks out ends the walk."""
    for _ in range(MOST_PARTS):
        if start + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        body = start + 8
        if size == 1 and start + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, body)
            body += 8
        elif size == 0:
            size = end - start
        if size < body - start or start + size > end:
            return
        yield kind, body, start + size
        start += size


def _user_data(data: bytes, found: Metadata) -> None:
    for kind, body, end in _within(data, 0, len(data)):
        if kind == b"meta":
            _meta(data[body:end], found)
        elif kind == b"XMP_":
            found.add("xmp", "xmp", data[body:end])
        elif kind[:1] == b"\xa9":
            _short_text(kind, data[body:end], found)
        elif kind in (b"AIGC", b"aigc"):
            found.add("text", "film_tag", data[body:end].strip(b"\0"), "AIGC")


def _short_text(kind: bytes, data: bytes, found: Metadata) -> None:
    """QuickTime's text atoms: length, language, text; iTunes' style has a `data` box instead."""
    key = kind.decode("latin-1")
    if data[4:8] == b"data":
        _values(data, key, found)
        return
    (length,) = struct.unpack_from(">H", data)
    found.add("text", "film_tag", data[4 : 4 + length], key)


def _meta(data: bytes, found: Metadata) -> None:
    """`keys` name the entries of `ilst` by number; without `keys` an entry's own kind is its name (iTunes)."""
    start = 0 if data[4:8] == b"hdlr" else 4  # QuickTime's has no version and flags
    names: list[str] = []
    for kind, body, end in _within(data, start, len(data)):
        if kind == b"keys":
            names = [data[at:to].decode("utf-8", "replace") for _, at, to in _within(data, body + 8, end)]
        elif kind == b"ilst":
            for name, at, to in _within(data, body, end):
                number = int.from_bytes(name, "big")
                if name == b"----":
                    _free_form(data[at:to], found)
                else:
                    key = names[number - 1] if 1 <= number <= len(names) else name.decode("latin-1")
                    _values(data[at:to], key, found)
        elif kind == b"xml ":
            found.add("xmp", "xmp", data[body + 4 : end])


def _free_form(data: bytes, found: Metadata) -> None:
    """iTunes' `----`: `mean`, `name` and `data`."""
    key = ""
    for kind, body, end in _within(data, 0, len(data)):
        if kind == b"name":
            key = data[body + 4 : end].decode("utf-8", "replace")
        elif kind == b"data":
            found.add("text", "film_tag", data[body + 8 : end], key)


def _values(data: bytes, key: str, found: Metadata) -> None:
    for kind, body, end in _within(data, 0, len(data)):
        if kind == b"data":
            found.add("text", "film_tag", data[body + 8 : end], key)


def _items(file: BinaryIO, meta: bytes, size: int, found: Metadata) -> None:
    """Exif and XMP items of a picture: `iinf` says which, `iloc` where, `idat` may hold them."""
    parts = {kind: (body, end) for kind, body, end in _within(meta, 4, len(meta))}
    if not {b"iinf", b"iloc"} <= set(parts):
        return
    wanted = dict(_named_items(meta, *parts[b"iinf"]))
    if not wanted:
        return
    held = meta[slice(*parts[b"idat"])] if b"idat" in parts else b""
    for item, method, extents in _places(meta[slice(*parts[b"iloc"])]):
        if item not in wanted or method > 1:
            continue
        data = b""
        for offset, length in extents[:64]:
            length = min(length or size, MOST_BLOCK + 1 - len(data))  # noqa: PLW2901 - a length of 0 is "all"
            if method == 1:
                data += held[offset : offset + length]
            else:
                file.seek(offset)
                data += file.read(length)
        if wanted[item] == "xmp":
            found.add("xmp", "xmp", data)
        else:  # 23008-12 A.2.1: four bytes say how far the TIFF header is
            found.add("exif", "exif", data[4 + int.from_bytes(data[:4], "big") :])


def _named_items(meta: bytes, start: int, end: int) -> Iterator[tuple[int, str]]:
    for _, body, stop in _within(meta, start + (8 if meta[start] else 6), end):
        entry = meta[body:stop]
        if len(entry) < 12 or entry[0] < 2:
            continue
        width = 4 if entry[0] == 3 else 2
        number, kind = int.from_bytes(entry[4 : 4 + width], "big"), entry[6 + width : 10 + width]
        if kind == b"Exif":
            yield number, "exif"
        elif kind == b"mime" and _XMP_TYPE in entry:
            yield number, "xmp"


def _places(data: bytes) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """(item, construction method, [(offset, length)]) of `iloc` (ISO/IEC 14496-12, 8.11.3)."""
    version = data[0]
    sizes = (data[4] >> 4, data[4] & 15, data[5] >> 4, data[5] & 15 if version else 0)
    offset_size, length_size, base_size, index_size = sizes
    width = 4 if version == 2 else 2
    place = 6

    def number(count: int) -> int:
        nonlocal place
        if place + count > len(data):
            raise ValueError("item locations end early")
        place += count
        return int.from_bytes(data[place - count : place], "big")

    for _ in range(number(width)):
        item = number(width)
        method = number(2) & 15 if version else 0
        number(2)
        base = number(base_size)
        extents: list[tuple[int, int]] = []
        count = number(2)
        if count > 1 and not index_size + offset_size + length_size:
            raise ValueError("extents without a size")
        for _ in range(count):
            number(index_size)
            offset = number(offset_size)
            extents.append((base + offset, number(length_size)))
        yield item, method, extents
