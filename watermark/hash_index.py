"""Search among a million 256-bit hashes for all within 31 bits of a few others, in one file that processes share.

Multi-index hashing (Norouzi, Punjani and Fleet 2012): the bits are cut into 16 bands of 16. Two hashes that differ in
at most 31 bits differ in at most one bit of some band (else they would differ in 16 x 2 = 32), so for each band the
entries under 17 values are looked at, some 4,000 of a million in all, and their bits are counted. Exact, and never
dearer than counting everybody's bits, which is done where the entries crowd under few values.

The file is written once, under a name that speaks of its content, and mapped read-only: what one worker has in memory
all have. It holds nothing but the hashes, in which list each stands and in which line of the imported file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

RADIUS: Final = 31
"""Bits of 256 by which PDQ's authors let two hashes of one picture differ."""
SIZE: Final = 32  # bytes of a hash
MOST: Final = 20_000_000
_BANDS: Final = 16
_VALUES: Final = 1 << 16
_MAGIC: Final = b"IMPHSH01"
_HEAD: Final = 64
_BLOCK: Final = 1 << 16
_TOGETHER: Final = 8  # queries in one step: with the next line this bounds the memory
_MOST_PAIRS: Final = 4_000_000
_MASKS: Final = np.array([0, *(1 << bit for bit in range(16))], np.int64)


@dataclass(frozen=True)
class Match:
    """An entry near the query of number `query`: in which list, in which line of its file, how many bits away."""

    query: int
    list: int
    line: int
    distance: int


class HashIndex:
    """The hashes of all lists. Thread-safe: nothing of it changes."""

    def __init__(
        self,
        hashes: NDArray[np.uint64],
        lists: NDArray[np.uint16],
        lines: NDArray[np.uint32],
        starts: NDArray[np.uint32],
        order: NDArray[np.uint32],
    ) -> None:
        """`hashes` [N, 4]; `starts` [16, 65537]: where in `order` [16, N] the entries with a band's value begin."""
        self._hashes, self._lists, self._lines = hashes, lists, lines
        self._starts, self._order = starts, order

    def __len__(self) -> int:
        return len(self._hashes)

    @classmethod
    def build(cls, hashes: NDArray[np.uint8], lists: NDArray[np.uint16], lines: NDArray[np.uint32]) -> Self:
        """From uint8 [N, 32], the number of each one's list [N] and its line [N]. Raises ValueError."""
        count = len(hashes)
        if hashes.shape != (count, SIZE) or len(lists) != count or len(lines) != count or count > MOST:
            raise ValueError("not hashes of 32 bytes with a list and a line each")
        hashes = np.ascontiguousarray(hashes)
        bands = hashes.view(">u2").astype(np.uint16)
        order = np.empty((_BANDS, count), np.uint32)
        starts = np.zeros((_BANDS, _VALUES + 1), np.uint32)
        for number in range(_BANDS):
            order[number] = np.argsort(bands[:, number], kind="stable")
            starts[number, 1:] = np.cumsum(np.bincount(bands[:, number], minlength=_VALUES))
        return cls(hashes.view(np.uint64), np.asarray(lists, np.uint16), np.asarray(lines, np.uint32), starts, order)

    def write(self, path: Path) -> None:
        """Write the file; it appears whole or not at all, readable by this user only. Raises OSError."""
        half = path.with_name(f".{path.name}.{os.getpid()}.part")
        descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write((_MAGIC + len(self).to_bytes(8, "little")).ljust(_HEAD, b"\0"))
                for part in (self._hashes, self._order, self._starts, self._lines, self._lists):
                    file.write(np.ascontiguousarray(part).data.cast("B") if part.size else b"")
                file.flush()
                os.fsync(file.fileno())
            half.replace(path)
        except BaseException:
            half.unlink(missing_ok=True)
            raise

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map a file that `write` made. Raises ValueError for anything else, OSError."""
        with path.open("rb") as file:
            head = file.read(_HEAD)
            size = os.fstat(file.fileno()).st_size
        count = int.from_bytes(head[8:16], "little")
        shapes: list[tuple[type[Any], tuple[int, ...]]] = [
            (np.uint64, (count, 4)),
            (np.uint32, (_BANDS, count)),
            (np.uint32, (_BANDS, _VALUES + 1)),
            (np.uint32, (count,)),
            (np.uint16, (count,)),
        ]
        sizes = [int(np.prod(shape)) * np.dtype(kind).itemsize for kind, shape in shapes]
        if head[:8] != _MAGIC or count > MOST or size != _HEAD + sum(sizes):
            raise ValueError(f"{path.name} is no index of hashes")
        parts: list[NDArray[Any]] = []
        place = _HEAD
        for (kind, shape), length in zip(shapes, sizes, strict=True):
            # numpy maps no empty array.
            parts.append(np.memmap(path, kind, "r", place, shape) if length else np.empty(shape, kind))
            place += length
        hashes, order, starts, lines, lists = parts
        return cls(hashes, lists, lines, starts, order)

    def search(self, asked: Sequence[bytes], radius: int = RADIUS) -> list[Match]:
        """All entries within `radius` bits (0 to 31) of one of `asked` (32 bytes each), the nearest first.

        Raises ValueError.
        """
        if not 0 <= radius <= RADIUS or any(len(each) != SIZE for each in asked):
            raise ValueError("A hash has 32 bytes, and is looked for within 0 to 31 bits.")
        if not len(self):
            return []
        # An entry that is near in several bands comes several times.
        found = {match for start in range(0, len(asked), _TOGETHER) for match in self._near(asked, start, radius)}
        return sorted(found, key=lambda match: (match.distance, match.query, match.list, match.line))

    def _near(self, asked: Sequence[bytes], start: int, radius: int) -> Iterator[Match]:
        raw = np.frombuffer(b"".join(asked[start : start + _TOGETHER]), np.uint8).reshape(-1, SIZE)
        wanted = raw.view(np.uint64)
        pairs = self._candidates(raw)
        if pairs is None:
            for number, query in enumerate(wanted):
                yield from self._everybody(start + number, query, radius)
            return
        queries, entries = pairs
        for first in range(0, len(entries), _BLOCK):
            part = slice(first, first + _BLOCK)
            apart = np.bitwise_count(self._hashes[entries[part]] ^ wanted[queries[part]]).sum(axis=1)
            for place in np.flatnonzero(apart <= radius):
                yield self._match(start + int(queries[part][place]), int(entries[part][place]), int(apart[place]))

    def _everybody(self, number: int, query: NDArray[np.uint64], radius: int) -> Iterator[Match]:
        for first in range(0, len(self), _BLOCK):
            apart = np.bitwise_count(self._hashes[first : first + _BLOCK] ^ query).sum(axis=1)
            for place in np.flatnonzero(apart <= radius):
                yield self._match(number, first + int(place), int(apart[place]))

    def _match(self, query: int, entry: int, distance: int) -> Match:
        return Match(query, int(self._lists[entry]), int(self._lines[entry]), distance)

    def _candidates(self, raw: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """(query, entry) of every pair of which a band differs in at most one bit; None if those are too many."""
        bands = raw.view(">u2").astype(np.int64)
        places = (bands[:, :, None] ^ _MASKS) + (np.arange(_BANDS) * (_VALUES + 1))[None, :, None]
        starts = self._starts.reshape(-1)
        begin = starts[places].astype(np.int64)
        lengths = starts[places + 1] - begin
        total = int(lengths.sum())
        # To look entries up here and there costs some four times as much as to count through all in order.
        if total > min(_MOST_PAIRS, len(raw) * len(self) // 4):
            return None
        begin += (np.arange(_BANDS) * len(self))[None, :, None]
        flat = lengths.reshape(-1)
        ahead = np.cumsum(flat) - flat  # pairs that lie before each run
        places_in_order = np.repeat(begin.reshape(-1) - ahead, flat) + np.arange(total)
        queries = np.repeat(np.arange(len(raw)), lengths.reshape(len(raw), -1).sum(axis=1))
        return queries, self._order.reshape(-1)[places_in_order].astype(np.int64)
