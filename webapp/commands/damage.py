"""One changed bit in published media, placed where it matters."""

from __future__ import annotations

from pathlib import Path


def flip_byte(source: Path, out: Path, *, kind: str) -> int:
    """Copy `source` to `out` with one bit of the media data changed; returns the offset.

    The byte lies in the entropy-coded data of a photo (past the last table) or inside a video's `mdat` box: bytes of
    the manifest's own padding are not covered by its hash and would prove nothing.
    """
    data = bytearray(source.read_bytes())
    if kind == "video":
        box = data.index(b"mdat")
        offset = box + (len(data) - box) // 2
        if data.find(b"moov", box) != -1:
            offset = box + (data.index(b"moov", box) - box) // 2
    elif data[:2] == b"\xff\xd8":
        scan = data.index(b"\xff\xda", data.rindex(b"\xff\xdb"))
        # Near the end: a decoder may lose its step at this bit, and then everything after it is another picture.
        offset = scan + (len(data) - scan) * 9 // 10
        while 0xFF in data[offset - 1 : offset + 2]:  # never make or break a marker
            offset += 1
    else:
        offset = data.rindex(b"IDAT") + 64 if b"IDAT" in data else data.index(b"VP8") + 64
    data[offset] ^= 0x01
    out.write_bytes(data)
    return offset
