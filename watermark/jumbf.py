"""The boxes of a C2PA manifest store (JUMBF, ISO/IEC 19566-5; C2PA 2.2 section 11): as far as taking one out needs it.

Only for stores of our own records: they were written by our signer, so what does not fit is our fault, not an attack.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_SUPERBOX = b"jumb"
_DESCRIPTION = b"jumd"
_STORE = b"c2pa"  # the first four bytes of a content type's UUID say what it is
_MANIFESTS = (b"c2ma", b"c2um")  # a standard and an update manifest


class StoreError(ValueError):
    """These bytes are no manifest store. Nothing was changed."""

    code = "store_damaged"


@dataclass(frozen=True)
class _Box:
    kind: bytes
    start: int
    content: int
    end: int


def active_manifest(store: bytes) -> bytes:
    """A manifest store that holds nothing but the active manifest of `store`, which is the last one in it.

    Its hashed references to other manifests then lead nowhere: it says what was claimed, the whole store proves it.
    Raises StoreError.
    """
    outer = next(_boxes(store, 0, len(store)), None)
    if outer is None or outer.kind != _SUPERBOX:
        raise StoreError("no superbox")
    parts = list(_boxes(store, outer.content, outer.end))
    if not parts or parts[0].kind != _DESCRIPTION or _type(store, parts[0]) != _STORE:
        raise StoreError("no manifest store")
    manifests = [part for part in parts[1:] if part.kind == _SUPERBOX and _is_manifest(store, part)]
    if not manifests:
        raise StoreError("no manifest in it")
    body = store[parts[0].start : parts[0].end] + store[manifests[-1].start : manifests[-1].end]
    return (len(body) + 8).to_bytes(4, "big") + _SUPERBOX + body


def _is_manifest(store: bytes, superbox: _Box) -> bool:
    description = next(_boxes(store, superbox.content, superbox.end), None)
    return description is not None and _type(store, description) in _MANIFESTS


def _type(store: bytes, description: _Box) -> bytes:
    return store[description.content : description.content + 4]


def _boxes(data: bytes, start: int, end: int) -> Iterator[_Box]:
    """The boxes that lie one behind the other in `data[start:end]`."""
    while start < end:
        size, kind, header = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8], 8
        if size == 1:
            size, header = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        elif size == 0:
            size = end - start
        if size < header or start + size > end:
            raise StoreError(f"a box of {size} bytes at {start}")
        yield _Box(kind, start, start + header, start + size)
        start += size
