"""Tell what a file is from its first bytes. The name of a file is never believed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from worker.media.errors import MediaError
from worker.media.types import Kind

HEAD_BYTES: Final = 4096

_HEIC_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
_MOV_ATOMS: Final = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
_NAMES: Final = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".gif", ".avif"}
)
# Real media that we do not take: (offset, bytes).
_OTHERS: Final = (
    (0, b"GIF8"),
    (0, b"BM"),
    (0, b"II*\0"),
    (0, b"MM\0*"),
    (0, b"FLV\1"),
    (0, b"OggS"),
    (0, b"\x30\x26\xb2\x75"),  # ASF
    (0, b"\0\0\1\xba"),  # MPEG program stream
    (0, b"\0\0\1\xb3"),
    (0, b"8BPS"),
    (0, b"\0\0\0\x0cJXL "),
    (0, b"\0\0\0\x0cjP  "),
    (0, b"ID3"),
    (0, b"fLaC"),
    (0, b"#EXTM3U"),
    (0, b"ffconcat"),
)


@dataclass(frozen=True)
class Sniffed:
    """`container` is the name of the one reader that may open the file: Pillow's format or FFmpeg's demuxer."""

    kind: Kind
    mime: str
    container: str


def sniff(head: bytes, name: str = "") -> Sniffed:
    """Return what the file that begins with `head` (HEAD_BYTES or the whole file) is.

    A supported file under a wrong name is accepted for what it is. Raises MediaError: `zero_length`,
    `format_unsupported` for other media, `format_mismatch` when only the name says it is media, else `not_media`.
    """
    if not head:
        raise MediaError("zero_length")
    if head[:3] == b"\xff\xd8\xff":
        return Sniffed("photo", "image/jpeg", "JPEG")
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return Sniffed("photo", "image/png", "PNG")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return Sniffed("photo", "image/webp", "WEBP")
    if head[4:8] == b"ftyp":
        return _iso_brand(head)
    if head[4:8] in _MOV_ATOMS:
        return Sniffed("video", "video/quicktime", "mov")
    if head[:4] == b"\x1a\x45\xdf\xa3":
        if b"webm" in head[:64]:
            return Sniffed("video", "video/webm", "matroska")
        return Sniffed("video", "video/x-matroska", "matroska")
    if any(head[at : at + len(mark)] == mark for at, mark in _OTHERS) or head[:4] == b"RIFF" or _is_transport(head):
        raise MediaError("format_unsupported")
    raise MediaError("format_mismatch" if PurePath(name).suffix.lower() in _NAMES else "not_media")


def _iso_brand(head: bytes) -> Sniffed:
    # ISO/IEC 14496-12, 4.3: major brand, version, then the compatible brands to the end of the box.
    end = min(int.from_bytes(head[:4], "big"), len(head), 256)
    major = head[8:12]
    brands = {major, *(head[at : at + 4] for at in range(16, end - 3, 4))}
    if brands & _AVIF_BRANDS and major not in _HEIC_BRANDS - {b"mif1", b"msf1"}:
        return Sniffed("photo", "image/avif", "AVIF")
    if major in _HEIC_BRANDS:
        return Sniffed("photo", "image/heic", "HEIF")
    if major[:3] in (b"M4A", b"M4B"):
        raise MediaError("no_video_stream")
    return Sniffed("video", "video/quicktime" if major == b"qt  " else "video/mp4", "mov")


def _is_transport(head: bytes) -> bool:
    return len(head) > 376 and head[0] == head[188] == head[376] == 0x47
