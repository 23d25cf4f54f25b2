"""Fields of metadata blocks: the few of EXIF, IPTC-IIM and XMP that say where a picture comes from.

Runs in the media child only. EXIF: TIFF 6.0 with CIPA DC-008; IIM: IPTC-NAA IIM 4.2; XMP: ISO 16684-1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final
from xml.parsers import expat

IPTC_EXT: Final = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_EXIF_NAMES: Final = {
    0x010E: "ImageDescription",
    0x010F: "Make",
    0x0110: "Model",
    0x0131: "Software",
    0x9286: "UserComment",
    0x9C9C: "XPComment",
    0xA434: "LensModel",
}
_EXIF_IFD: Final = 0x8769
_WIDTHS: Final = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8)  # of the TIFF types, in bytes
_MOST_ENTRIES: Final = 400
_MOST_TEXT: Final = 1 << 18
_IIM_NAMES: Final = {65: "OriginatingProgram", 110: "Credit", 115: "Source", 120: "Caption"}
_MOST_NODES: Final = 20_000


def exif(data: bytes) -> Iterator[tuple[str, str]]:
    """(name, text) of the fields we know, of the first directory and the Exif one."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise ValueError("not a TIFF header")
    (first,) = struct.unpack_from(f"{order}I", data, 4)
    places: list[int] = [first]
    seen: set[int] = set()
    for place in places:  # grows by the Exif directory
        (count,) = struct.unpack_from(f"{order}H", data, place)
        for number in range(min(count, _MOST_ENTRIES)):
            at = place + 2 + 12 * number
            tag, form, length = struct.unpack_from(f"{order}HHI", data, at)
            size = length * (_WIDTHS[form] if form < len(_WIDTHS) else 0)
            if tag in seen:
                continue
            if tag == _EXIF_IFD:
                places += struct.unpack_from(f"{order}I", data, at + 8)
                seen.add(tag)
            elif tag in _EXIF_NAMES:
                seen.add(tag)
                (far,) = struct.unpack_from(f"{order}I", data, at + 8)
                start = at + 8 if size <= 4 else far
                raw = data[start : start + min(size, _MOST_TEXT)]
                yield _EXIF_NAMES[tag], _exif_text(tag, raw, order)


def _exif_text(tag: int, raw: bytes, order: str) -> str:
    if tag == 0x9C9C:
        return raw.decode("utf-16-le", "replace").strip("\0 ")
    if tag != 0x9286:
        return raw.decode("utf-8", "replace").strip("\0 ")
    head, body = raw[:8], raw[8:]
    if head.startswith(b"UNICODE"):
        # The header's byte order by the standard; many writers use the other one, which shows in the zeros.
        little = body[1:64:2].count(0) > body[:64:2].count(0)
        plain = body[:64].count(0) < 8
        fallback = "utf-16-le" if order == "<" else "utf-16-be"
        code = fallback if plain else "utf-16-le" if little else "utf-16-be"
        return body.decode(code, "replace").strip("\0 ")
    known = head in (b"ASCII\0\0\0", bytes(8)) or head.startswith(b"JIS")
    return (body if known else raw).decode("utf-8", "replace").strip("\0 ")


def iim(data: bytes) -> Iterator[tuple[str, str]]:
    """(name, text) of the datasets of record 2. The standard has none for the digital source type; any may name it."""
    place = 0
    for _ in range(_MOST_ENTRIES):
        if data[place : place + 1] != b"\x1c":
            return
        record, dataset, size = struct.unpack_from(">BBH", data, place + 1)
        if size & 0x8000:  # extended: the length of the length
            return
        if record == 2:
            text = data[place + 5 : place + 5 + size].decode("utf-8", "replace")
            yield _IIM_NAMES.get(dataset, f"2:{dataset}"), text
        place += 5 + size


def xmp(data: bytes) -> list[tuple[str, str, str]]:
    """(namespace, name, text) of every property of a packet, as element, attribute or `rdf:resource`.

    Raises ValueError: not XML, too many nodes, or a document type, which could define entities that grow without end.
    """
    found: list[tuple[str, str, str]] = []
    stack: list[tuple[str, list[str]]] = []
    parser = expat.ParserCreate(namespace_separator="\n")
    parser.buffer_text = True
    nodes = 0

    def refuse(*_: object) -> None:
        raise ValueError("a document type")

    def begin(name: str, attributes: dict[str, str]) -> None:
        nonlocal nodes
        nodes += 1 + len(attributes)
        if nodes > _MOST_NODES:
            raise ValueError("too many nodes")
        stack.append((name, []))
        for key, value in attributes.items():
            owner = _outer(stack) if key == f"{_RDF}\nresource" else key
            found.append((*_parts(owner), value.strip()))

    def text(value: str) -> None:
        if stack:
            stack[-1][1].append(value)

    def end(_: str) -> None:
        value = "".join(stack[-1][1]).strip()
        if value:
            found.append((*_parts(_outer(stack)), value))
        stack.pop()

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = begin, end, text
    start = max(data.find(b"<"), 0)
    try:
        parser.Parse(data[start:].rstrip(b"\0 \r\n\t"), True)
    except expat.ExpatError as error:
        raise ValueError(str(error)) from error
    return found


def _outer(stack: list[tuple[str, list[str]]]) -> str:
    """The innermost element that is not RDF's own list or item: the property a value belongs to."""
    for name, _ in reversed(stack):
        if not name.startswith(f"{_RDF}\n"):
            return name
    return ""


def _parts(name: str) -> tuple[str, str]:
    namespace, _, local = name.rpartition("\n")
    return namespace, local
