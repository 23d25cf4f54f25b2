"""The words beside the picture: blocks of metadata in photos and films, cut out of their containers, not yet read.

Runs in the media child only: every byte is untrusted. Pixels are passed over; of each block at most `MOST_BLOCK` bytes
are taken, of a file `MOST_BLOCKS` blocks and `MOST_BYTES`, and what was packed is unpacked no further than that. What
does not fit is named in `Metadata.unread`. JPEG: ITU-T T.81 B.1, XMP part 3 1.1.3; PNG: W3C PNG 3 section 11.3; WebP:
RFC 9649; AVIF, HEIC, MP4, MOV: ISO/IEC 14496-12, ISO/IEC 23008-12 6.5, QuickTime File Format.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, Final, Literal

Kind = Literal["xmp", "exif", "iim", "text"]

MOST_BLOCK: Final = 1 << 20
MOST_BLOCKS: Final = 400
MOST_BYTES: Final = 16 << 20
MOST_PARTS: Final = 20_000
"""Segments, chunks or boxes that are walked over; a real file has a few hundred."""
DAMAGE: Final = (struct.error, ValueError, IndexError, KeyError, OverflowError, zlib.error, RecursionError)
"""What a damaged block makes its reader raise."""

_JPEG_XMP: Final = b"http://ns.adobe.com/xap/1.0/\x00"
_JPEG_MORE_XMP: Final = b"http://ns.adobe.com/xmp/extension/\x00"
_JPEG_IRB: Final = b"Photoshop 3.0\x00"
_RAW_PROFILES: Final[dict[str, Kind]] = {"exif": "exif", "APP1": "exif", "iptc": "iim", "xmp": "xmp"}
_IIM_RESOURCE: Final = 0x0404


@dataclass(frozen=True)
class Block:
    """One block: `where` it lay, the `key` a text is filed under, its bytes (cut off at `MOST_BLOCK`)."""

    kind: Kind
    where: str
    key: str
    data: bytes


@dataclass
class Metadata:
    """What was found; `unread` names what was not, as "place: too_large" or "place: malformed"."""

    blocks: list[Block] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    size: int = 0

    def add(self, kind: Kind, where: str, data: bytes, key: str = "") -> None:
        """Keep a block, or say that there are too many."""
        self.size += len(data)
        if len(self.blocks) >= MOST_BLOCKS or self.size > MOST_BYTES:
            self.missed(where, "too_large")
            return
        if len(data) > MOST_BLOCK:
            self.missed(where, "too_large")
        self.blocks.append(Block(kind, where, key[:80], data[:MOST_BLOCK]))

    def missed(self, where: str, why: Literal["too_large", "malformed"]) -> None:
        """Note once that something at `where` was not read."""
        note = f"{where}: {why}"
        if note not in self.unread and len(self.unread) < 40:
            self.unread.append(note)

    @contextmanager
    def bearing_damage(self, where: str) -> Iterator[None]:
        """A block that is not well formed is noted; the others are still read."""
        try:
            yield
        except DAMAGE:
            self.missed(where, "malformed")


def collect(file: BinaryIO, container: str) -> Metadata:
    """The blocks of a file; `container` is `worker.media.magic.Sniffed.container`. Never raises for damage."""
    found = Metadata()
    reader = _READERS.get(container)
    if reader is not None:
        with found.bearing_damage(container.lower()):
            reader(file, found)
    return found


def taken(file: BinaryIO, size: int, found: Metadata, where: str) -> bytes:
    """The next `size` bytes, at most one more than `MOST_BLOCK` (so that `add` sees it), passing over the rest."""
    data = file.read(min(size, MOST_BLOCK + 1))
    if size > len(data):
        file.seek(size - len(data), os.SEEK_CUR)
        if size <= MOST_BLOCK:
            found.missed(where, "malformed")  # the file ended first
    return data


def inflated(data: bytes) -> bytes:
    """What zlib packed, no more than one byte above `MOST_BLOCK`."""
    return zlib.decompressobj().decompress(data, MOST_BLOCK + 1)


def _jpeg(file: BinaryIO, found: Metadata) -> None:
    file.seek(2)
    more = bytearray()
    for _ in range(MOST_PARTS):
        marker = file.read(2)
        while marker[1:] == b"\xff":  # fill bytes (B.1.1.2)
            marker = marker[1:] + file.read(1)
        if len(marker) < 2 or marker[0] != 0xFF or marker[1] in (0xDA, 0xD9):
            break
        if marker[1] == 0x01 or 0xD0 <= marker[1] <= 0xD7:
            continue
        size = int.from_bytes(file.read(2), "big") - 2
        if size < 0:
            found.missed("jpeg", "malformed")
            break
        if marker[1] not in (0xE1, 0xED, 0xFE):
            file.seek(size, os.SEEK_CUR)
            continue
        body = file.read(size)
        if body.startswith(_JPEG_XMP):
            found.add("xmp", "xmp", body[len(_JPEG_XMP) :])
        elif body.startswith(_JPEG_MORE_XMP) and len(more) <= MOST_BLOCK:
            more += body[len(_JPEG_MORE_XMP) + 40 :]  # past GUID, length and offset; writers keep the order
        elif body.startswith(b"Exif\x00"):
            found.add("exif", "exif", body[6:])
        elif marker[1] == 0xED and body.startswith(_JPEG_IRB):
            with found.bearing_damage("iptc_iim"):
                _resources(body[len(_JPEG_IRB) :], found)
        elif marker[1] == 0xFE:
            found.add("text", "jpeg_comment", body, "Comment")
    if more:
        found.add("xmp", "xmp", bytes(more))


def _resources(data: bytes, found: Metadata) -> None:
    """Photoshop image resources: "8BIM", id, padded name, length, padded data."""
    place = 0
    while data[place : place + 4] == b"8BIM":
        (number,) = struct.unpack_from(">H", data, place + 4)
        place += 6 + ((data[place + 6] + 2) & ~1)
        (size,) = struct.unpack_from(">I", data, place)
        place += 4
        if number == _IIM_RESOURCE:
            found.add("iim", "iptc_iim", data[place : place + size])
        place += size + (size & 1)


def _png(file: BinaryIO, found: Metadata) -> None:
    file.seek(8)
    for _ in range(MOST_PARTS):
        header = file.read(8)
        if len(header) < 8:
            return
        size, kind = struct.unpack(">I4s", header)
        if kind == b"IEND":
            return
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"eXIf"):
            data = taken(file, size, found, "png_text")
            with found.bearing_damage("png_text"):
                _png_block(kind, data, found)
            file.seek(4, os.SEEK_CUR)
        else:
            file.seek(size + 4, os.SEEK_CUR)
    found.missed("png", "too_large")


def _png_block(kind: bytes, data: bytes, found: Metadata) -> None:
    if kind == b"eXIf":
        found.add("exif", "exif", data)
        return
    raw_key, _, rest = data.partition(b"\0")
    key = raw_key[:80].decode("latin-1")
    if kind == b"tEXt":
        text = rest.decode("latin-1").encode()
    elif kind == b"zTXt":
        text = inflated(rest[1:]).decode("latin-1").encode()
    else:
        packed, _method, rest = rest[0], rest[1], rest[2:]
        _language, _, rest = rest.partition(b"\0")
        _translated, _, text = rest.partition(b"\0")
        text = inflated(text) if packed else text
    profile = key.removeprefix("Raw profile type ").strip()
    if key == "XML:com.adobe.xmp":
        found.add("xmp", "xmp", text)
    elif profile != key and profile in _RAW_PROFILES:
        _raw_profile(_RAW_PROFILES[profile], text, found)
    else:
        found.add("text", "png_text", text, key)


def _raw_profile(kind: Kind, text: bytes, found: Metadata) -> None:
    """How ImageMagick keeps other formats' metadata in a PNG: name, length, then hexadecimal digits."""
    data = bytes.fromhex(b"".join(text.split()[2:]).decode("ascii"))
    if kind == "exif":
        found.add("exif", "exif", data.removeprefix(b"Exif\x00\x00"))
    elif kind == "iim" and data.startswith(b"8BIM"):
        _resources(data, found)
    else:
        found.add(kind, "iptc_iim" if kind == "iim" else kind, data)


def _webp(file: BinaryIO, found: Metadata) -> None:
    file.seek(12)
    for _ in range(MOST_PARTS):
        header = file.read(8)
        if len(header) < 8:
            return
        kind, size = struct.unpack("<4sI", header)
        if kind in (b"EXIF", b"XMP "):
            data = taken(file, size, found, "webp")
            if kind == b"EXIF":
                found.add("exif", "exif", data.removeprefix(b"Exif\x00\x00"))
            else:
                found.add("xmp", "xmp", data)
            file.seek(size & 1, os.SEEK_CUR)
        else:
            file.seek(size + (size & 1), os.SEEK_CUR)
    found.missed("webp", "too_large")


def _boxes(file: BinaryIO, found: Metadata) -> None:
    from worker.gate.declared import metadata_boxes

    metadata_boxes.collect(file, found)


def _matroska(file: BinaryIO, found: Metadata) -> None:
    """Tags of a Matroska file or WebM, as FFmpeg reads them."""
    import av

    try:
        with av.open(file, format="matroska", options={"probesize": "65536"}) as film:
            tags = [*film.metadata.items(), *(item for stream in film.streams for item in stream.metadata.items())]
    except (av.FFmpegError, OSError):
        found.missed("matroska", "malformed")
        return
    for key, value in tags:
        found.add("text", "film_tag", value.encode("utf-8", "replace"), key)


_READERS: Final[dict[str, Callable[[BinaryIO, Metadata], None]]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "AVIF": _boxes,
    "HEIF": _boxes,
    "mov": _boxes,
    "matroska": _matroska,
}
