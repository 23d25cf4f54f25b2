"""Where a manifest store lies in a file, to change bytes of it in place (C2PA 2.4, appendix A.3 on embedding)."""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Iterator
from typing import BinaryIO

_JPEG_HEAD = 12  # marker, length, CI, En, Z of an APP11 segment (ISO/IEC 19566-5, annex D)
_BOX_HEAD = 8  # LBox and TBox, which every segment of one box repeats


class StorePlacesError(Exception):
    """The store is not in the file as it should be. `code`: manifest_signing."""

    code = "manifest_signing"

    def __init__(self) -> None:
        super().__init__("the manifest store does not lie in the signed file as it should")
        self.message = str(self)


def write_into_store(file: BinaryIO, mime: str, before: bytes, after: bytes) -> None:
    """Change the store in an open file, byte for byte: `before` is what lies there, `after` is as long.

    Raises StorePlacesError when it does not lie there; nothing is changed then.
    """
    with mmap.mmap(file.fileno(), 0) as data:
        pieces = list(_jpeg_pieces(data) if mime == "image/jpeg" else _one_piece(data, before))
        found = b"".join(data[start : start + size] for start, size in pieces)
        if found != before or len(after) != len(before):
            raise StorePlacesError
        place = 0
        for start, size in pieces:
            data[start : start + size] = after[place : place + size]
            place += size
        if mime == "image/png":  # the chunk's checksum follows it, and covers its name
            start, end = pieces[0][0] - 4, pieces[0][0] + len(after)
            data[end : end + 4] = zlib.crc32(data[start:end]).to_bytes(4, "big")


def _one_piece(data: mmap.mmap, store: bytes) -> Iterator[tuple[int, int]]:
    start = data.find(store)
    if start < 0 or data.find(store, start + 1) >= 0:
        raise StorePlacesError
    yield start, len(store)


def _jpeg_pieces(data: mmap.mmap) -> Iterator[tuple[int, int]]:
    """The payloads of the APP11 segments; all but the first without the repeated head of the box."""
    place, first = 2, True
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        size = int.from_bytes(data[place + 2 : place + 4], "big")
        if data[place + 1] == 0xEB and data[place + 4 : place + 6] == b"JP":
            head = _JPEG_HEAD + (0 if first else _BOX_HEAD)
            yield place + head, size + 2 - head
            first = False
        place += 2 + size
