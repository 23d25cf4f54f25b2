"""XMP in files made of ISO boxes whose index tells where every byte lies: AVIF stills and QuickTime films.

A packet that is put before the media moves the media, so the places in the index move with it. XMP part 3 sections
1.1.9 (HEIF, AVIF: a metadata item, ISO/IEC 23008-12 section 6.5) and 1.2.7.2 (QuickTime: `XMP_` in `moov/udta`);
ISO/IEC 14496-12 for the boxes. Files come from our own encoder: what is not as it writes them is refused.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

_MAX_INDEX = 64 << 20
_CONTAINERS = (b"trak", b"mdia", b"minf", b"stbl", b"udta")
_XMP_TYPE = b"application/rdf+xml"
_UNKNOWN = "a box is not where it should be"


@dataclass(frozen=True)
class Box:
    """One box: its kind, where it begins, where its content begins, where it ends."""

    kind: bytes
    start: int
    body: int
    end: int


def boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    """The boxes between two places of `data`. Raises ValueError for one that does not fit."""
    while start < end:
        size, kind = struct.unpack_from(">I4s", data, start)
        body = start + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, body)
            body += 8
        elif size == 0:
            size = end - start
        if size < body - start or start + size > end:
            raise ValueError(_UNKNOWN)
        yield Box(kind, start, body, start + size)
        start += size


def write_avif(source: BinaryIO, target: BinaryIO, packet: bytes) -> None:
    """Add the packet as an item that describes the primary one; one that is there already is overwritten by it."""
    _rewrite(source, target, b"meta", lambda meta, growth: _avif_meta(meta, packet, growth))


def write_quicktime(source: BinaryIO, target: BinaryIO, packet: bytes) -> None:
    """Put the packet into `moov/udta/XMP_`, in place of one that is there already."""
    _rewrite(source, target, b"moov", lambda moov, growth: _quicktime_moov(moov, packet, growth))


def _rewrite(source: BinaryIO, target: BinaryIO, index: bytes, change: Callable[[bytes, int], bytes]) -> None:
    """Copy with the one box `index` changed; `change(box, growth)` moves its places by `growth` bytes."""
    size = source.seek(0, os.SEEK_END)
    found: list[tuple[int, int]] = []
    media_after = False
    place = 0
    while place < size:
        source.seek(place)
        length, kind = struct.unpack(">I4s", source.read(8))
        if length == 1:
            (length,) = struct.unpack(">Q", source.read(8))
        elif length == 0:
            length = size - place
        if length < 8 or place + length > size:
            raise ValueError(_UNKNOWN)
        if kind == index:
            found.append((place, length))
        media_after |= bool(found) and kind == b"mdat"
        place += length
    if len(found) != 1 or found[0][1] > _MAX_INDEX:
        raise ValueError(_UNKNOWN)
    start, length = found[0]
    source.seek(start)
    box = source.read(length)
    growth = len(change(box, 0)) - length
    changed = change(box, growth if media_after else 0)
    if len(changed) - length != growth:
        raise ValueError(_UNKNOWN)
    source.seek(0)
    target.write(source.read(start))
    target.write(changed)
    source.seek(start + length)
    shutil.copyfileobj(source, target, 1 << 20)


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _quicktime_moov(moov: bytes, packet: bytes, growth: int) -> bytes:
    top = next(boxes(moov, 0, len(moov)))

    def children(box: Box) -> Iterator[bytes]:
        user_data = False
        for child in boxes(moov, box.body, box.end):
            content = moov[child.body : child.end]
            last = box is top and child.kind == b"udta"
            if child.kind in _CONTAINERS:
                kept = b"".join(children(child))
                yield _box(child.kind, kept, _box(b"XMP_", packet) if last else b"")
                user_data |= last
            elif child.kind in (b"stco", b"co64"):
                form = "I" if child.kind == b"stco" else "Q"
                (count,) = struct.unpack_from(">I", content, 4)
                places = struct.unpack_from(f">{count}{form}", content, 8)
                moved = struct.pack(f">{count}{form}", *(each + growth for each in places))
                yield _box(child.kind, content[:8], moved)
            elif not (box.kind == b"udta" and child.kind == b"XMP_"):
                yield moov[child.start : child.end]
        if box is top and not user_data:
            yield _box(b"udta", _box(b"XMP_", packet))

    return _box(b"moov", *children(top))


def _avif_meta(meta: bytes, packet: bytes, growth: int) -> bytes:
    """The `meta` box with the packet in its own `idat` (iloc construction method 1): nothing is added to the media."""
    top = next(boxes(meta, 0, len(meta)))
    children = {each.kind: each for each in boxes(meta, top.body + 4, top.end)}
    if not {b"pitm", b"iinf", b"iloc"} <= set(children):
        raise ValueError(_UNKNOWN)

    def content(kind: bytes) -> bytes:
        return meta[children[kind].body : children[kind].end] if kind in children else b"\0\0\0\0"

    before = _packet_item(content(b"iinf"))
    item, places = _item_places(content(b"iloc"), before, len(packet), growth)
    parts = {kind: meta[each.start : each.end] for kind, each in children.items()}
    parts |= {b"iloc": places, b"idat": _box(b"idat", packet)}
    if not before:
        primary = _number(content(b"pitm"), 4, 4 if content(b"pitm")[0] else 2)
        parts |= {
            b"iinf": _item_names(content(b"iinf"), item),
            b"iref": _reference(content(b"iref"), item, primary),
        }
    return _box(b"meta", meta[top.body : top.body + 4], *parts.values())


def _packet_item(content: bytes) -> int:
    """The id of the XMP item in `iinf`; 0 when there is none."""
    for each in boxes(content, 8 if content[0] else 6, len(content)):
        entry = content[each.body : each.end]
        if entry[0] >= 2 and _XMP_TYPE in entry:
            return _number(entry, 4, 4 if entry[0] == 3 else 2)
    return 0


def _number(data: bytes, place: int, size: int) -> int:
    if place + size > len(data):
        raise ValueError(_UNKNOWN)
    return int.from_bytes(data[place : place + size], "big")


def _item_names(content: bytes, item: int) -> bytes:
    """`iinf` with one more entry: a hidden item of XMP's media type."""
    size = 4 if content[0] else 2
    count = _number(content, 4, size)
    entry = _box(b"infe", b"\x02\0\0\x01", struct.pack(">HH4s", item, 0, b"mime"), b"XMP\0" + _XMP_TYPE + b"\0")
    return _box(b"iinf", content[:4], (count + 1).to_bytes(size, "big"), content[4 + size :], entry)


def _item_places(content: bytes, before: int, length: int, growth: int) -> tuple[int, bytes]:
    """The packet's item and `iloc`: all places moved by `growth`, and the packet as the `length` bytes of `idat`.

    The item is `before`, or a free id when that is 0. Written anew as version 1: offsets and lengths of 4 bytes.
    """
    version = content[0]
    offset_size, length_size, base_size = content[4] >> 4, content[4] & 15, content[5] >> 4
    index_size = content[5] & 15 if version else 0
    id_size = 4 if version == 2 else 2
    place = 6 + id_size
    highest, items = 0, []
    for _ in range(_number(content, 6, id_size)):
        name = _number(content, place, id_size)
        place += id_size
        method = _number(content, place, 2) & 15 if version else 0
        place += 2 if version else 0
        reference, base = _number(content, place, 2), _number(content, place + 2, base_size)
        place += 2 + base_size
        step = index_size + offset_size + length_size
        count = _number(content, place, 2)
        starts = [place + 2 + number * step + index_size for number in range(count)]
        extents = [
            (_number(content, at, offset_size), _number(content, at + offset_size, length_size)) for at in starts
        ]
        place += 2 + count * step
        highest = max(highest, name)
        if name == before:
            continue
        if method:  # not counted from the file's begin: `idat` is about to be replaced
            raise ValueError(_UNKNOWN)
        items.append(_located(name, 0, reference, [(base + offset + growth, size) for offset, size in extents]))
    item = before or highest + 1
    if place != len(content) or item > 0xFFFF:
        raise ValueError(_UNKNOWN)
    items.append(_located(item, 1, 0, [(0, length)]))
    head = b"\x01" + content[1:4] + b"\x44\x00" + struct.pack(">H", len(items))
    return item, _box(b"iloc", head, *items)


def _located(item: int, method: int, reference: int, extents: list[tuple[int, int]]) -> bytes:
    places = b"".join(struct.pack(">II", *each) for each in extents)
    return struct.pack(">HHHH", item, method, reference, len(extents)) + places


def _reference(content: bytes, item: int, primary: int) -> bytes:
    """`iref` with one more entry: the item describes (`cdsc`) the primary one."""
    form = ">IHI" if content[0] else ">HHH"
    return _box(b"iref", content, _box(b"cdsc", struct.pack(form, item, 1, primary)))
