"""IPTC's "Digital Source Type" as an XMP packet in each of our formats, written before the file is signed.

XMP part 3 (storage in files) says where the packet goes; IPTC Photo Metadata 2025.1 names the property. The file is
copied beside itself in pieces and replaced at the end, so a failure leaves the old one; no file is held in memory
whole. An XMP packet that is there already is replaced.
"""

from __future__ import annotations

import os
import secrets
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from xml.sax.saxutils import escape

from watermark.aigc import KEY, NAMESPACE
from watermark.credentials import DIGITAL_SOURCE_TYPE
from watermark.iptc_boxes import write_avif, write_quicktime

AI_EDITED = f"{DIGITAL_SOURCE_TYPE}compositeWithTrainedAlgorithmicMedia"

_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\x00"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_XMP = b"XML:com.adobe.xmp\x00"
_MP4_XMP = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")
_VP8X_XMP = 0x04
_VP8X_ALPHA = 0x10


class IptcError(Exception):
    """The label could not be written; the file is as it was. `code`: iptc_format, iptc_malformed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def xmp_packet(digital_source_type: str = AI_EDITED, aigc: str = "") -> bytes:
    """The packet, UTF-8, read-only (`end="r"`: an edit in place would break the signature anyway).

    `aigc` is China's label (`watermark.aigc`), if there is one.
    """
    china = f'<TC260:{KEY} xmlns:TC260="{NAMESPACE}">{escape(aigc)}</TC260:{KEY}>' if aigc else ""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
        f"<Iptc4xmpExt:DigitalSourceType>{escape(digital_source_type)}</Iptc4xmpExt:DigitalSourceType>{china}"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()


def write_iptc(path: Path, mime: str, digital_source_type: str = AI_EDITED, aigc: str = "") -> None:
    """Write the label, and China's `aigc` if there is one, into the file at `path`.

    Raises IptcError, OSError; the file is then unchanged.
    """
    writer = _WRITERS.get(mime)
    if writer is None:
        raise IptcError(
            "iptc_format",
            f"An IPTC label cannot be written into {mime[:80]}. The file is unchanged. "
            f"Write the output as one of {', '.join(_WRITERS)}.",
        )
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.xmp")
    try:
        with path.open("rb") as source, temporary.open("x+b") as target:
            try:
                writer(source, target, xmp_packet(digital_source_type, aigc))
            except (struct.error, IndexError, ValueError) as error:
                raise _malformed(mime) from error
            target.flush()
            os.fsync(target.fileno())
        shutil.copymode(path, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _malformed(kind: str) -> IptcError:
    return IptcError(
        "iptc_malformed",
        f"This is not a well-formed {kind} file, so no label was written into it. The file is unchanged. "
        "Encode it again.",
    )


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    """Copy exactly `size` bytes."""
    while size:
        piece = source.read(min(size, 1 << 20))
        if not piece:
            raise _malformed("complete")
        target.write(piece)
        size -= len(piece)


def _jpeg(source: BinaryIO, target: BinaryIO, packet: bytes) -> None:
    """APP1 after the segments that must come first (JFIF in APP0, Exif in APP1)."""
    if source.read(2) != b"\xff\xd8":
        raise _malformed("JPEG")
    target.write(b"\xff\xd8")
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(_JPEG_XMP) + len(packet)) + _JPEG_XMP + packet
    written = False
    while True:
        marker = source.read(2)
        if len(marker) < 2 or marker[0] != 0xFF:
            raise _malformed("JPEG")
        if marker[1] == 0xDA:  # start of scan: the rest is picture data
            target.write(b"" if written else segment)
            target.write(marker)
            break
        (size,) = struct.unpack(">H", source.read(2))
        body = source.read(size - 2)
        if size < 2 or len(body) != size - 2:
            raise _malformed("JPEG")
        if marker[1] == 0xE1 and body.startswith(_JPEG_XMP):
            continue
        early = marker[1] == 0xE0 or (marker[1] == 0xE1 and body.startswith(b"Exif\x00"))
        if not early and not written:
            target.write(segment)
            written = True
        target.write(marker + struct.pack(">H", size) + body)
    shutil.copyfileobj(source, target, 1 << 20)


def _png(source: BinaryIO, target: BinaryIO, packet: bytes) -> None:
    """iTXt chunk right after IHDR, not compressed (XMP part 3 section 1.1.5)."""
    if source.read(8) != _PNG_SIGNATURE:
        raise _malformed("PNG")
    target.write(_PNG_SIGNATURE)
    body = _PNG_XMP + b"\x00\x00\x00\x00" + packet
    while True:
        header = source.read(8)
        size, kind = struct.unpack(">I4s", header)
        if kind == b"iTXt" and size < 1 << 24:
            content = source.read(size + 4)
            if len(content) != size + 4:
                raise _malformed("PNG")
            if not content.startswith(_PNG_XMP):
                target.write(header + content)
            continue
        target.write(header)
        _copy(source, target, size + 4)
        if kind == b"IHDR":
            target.write(struct.pack(">I", len(body)) + b"iTXt" + body + struct.pack(">I", zlib.crc32(b"iTXt" + body)))
        if kind == b"IEND":
            return


def _webp(source: BinaryIO, target: BinaryIO, packet: bytes) -> None:
    """Chunk "XMP " at the end and its flag in VP8X, which is made when the file is a simple one (RFC 9649)."""
    riff, size, form = struct.unpack("<4sI4s", source.read(12))
    if riff != b"RIFF" or form != b"WEBP":
        raise _malformed("WebP")
    end = 8 + size
    target.write(b"RIFF\x00\x00\x00\x00WEBP")
    first = True
    while source.tell() + 8 <= end:
        kind, length = struct.unpack("<4sI", source.read(8))
        padded = length + (length & 1)
        if first:
            first = False
            if kind == b"VP8X":
                extended = bytearray(source.read(padded))
                extended[0] |= _VP8X_XMP
                target.write(b"VP8X" + struct.pack("<I", length) + extended)
                continue
            start = source.read(min(16, padded))
            target.write(b"VP8X" + struct.pack("<I", 10) + _vp8x(kind, start))
            target.write(struct.pack("<4sI", kind, length) + start)
            _copy(source, target, padded - len(start))
        elif kind == b"XMP ":
            source.seek(padded, os.SEEK_CUR)
        else:
            target.write(struct.pack("<4sI", kind, length))
            _copy(source, target, padded)
    if first:
        raise _malformed("WebP")
    target.write(b"XMP " + struct.pack("<I", len(packet)) + packet + b"\x00" * (len(packet) & 1))
    total = target.tell() - 8
    target.seek(4)
    target.write(struct.pack("<I", total))


def _vp8x(kind: bytes, start: bytes) -> bytes:
    """The extended header for a simple file, from the first bytes of its VP8 or VP8L chunk."""
    flags = _VP8X_XMP
    if kind == b"VP8 " and start[3:6] == b"\x9d\x01\x2a":  # RFC 6386 section 9.1
        width = int.from_bytes(start[6:8], "little") & 0x3FFF
        height = int.from_bytes(start[8:10], "little") & 0x3FFF
    elif kind == b"VP8L" and start[0] == 0x2F:
        bits = int.from_bytes(start[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        flags |= _VP8X_ALPHA if bits >> 28 & 1 else 0
    else:
        raise _malformed("WebP")
    return bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def _mp4(source: BinaryIO, target: BinaryIO, packet: bytes) -> None:
    """uuid box at the end (XMP part 3 section 1.2.7.1): no byte before it moves, so every chunk offset stays right."""
    shutil.copyfileobj(source, target, 1 << 20)
    end = target.tell()
    position, kinds = 0, []
    while position < end:
        target.seek(position)
        size, kind = struct.unpack(">I4s", target.read(8))
        header = 8
        if size == 1:
            (size,) = struct.unpack(">Q", target.read(8))
            header = 16
        elif size == 0:  # "to the end of the file" would swallow what is appended: write the size out
            size = end - position
            if size >> 32:
                raise _malformed("MP4")
            target.seek(position)
            target.write(struct.pack(">I", size))
        if size < header or position + size > end:
            raise _malformed("MP4")
        if kind == b"uuid":
            target.seek(position + header)
            if target.read(16) == _MP4_XMP:
                target.seek(position + 4)
                target.write(b"free")  # a second packet would contradict the first; removing it would move offsets
        kinds.append(kind)
        position += size
    if b"ftyp" not in kinds or b"moov" not in kinds:
        raise _malformed("MP4")
    target.seek(end)
    target.write(struct.pack(">I4s", 24 + len(packet), b"uuid") + _MP4_XMP + packet)


_WRITERS: dict[str, Callable[[BinaryIO, BinaryIO, bytes], None]] = {
    "image/jpeg": _jpeg,
    "image/png": _png,
    "image/webp": _webp,
    "image/avif": write_avif,
    "video/mp4": _mp4,
    "video/quicktime": write_quicktime,
}
