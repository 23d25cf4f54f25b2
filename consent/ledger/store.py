"""The stored tree: hashes by tile, read as a proof needs them, and the tiles that a batch completes."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connection

from consent.ledger import tree
from consent.ledger.models import LedgerTile

HEIGHT = 8
WIDTH = 1 << HEIGHT


class StoredTree:
    """Reads nodes for one question, keeping the tiles it has read; make a new one for the next question."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int, int], list[bytes]] = {}

    def node(self, level: int, index: int) -> bytes:
        """The root of a complete subtree (see `tree.Node`). Raises LookupError if the table lacks something."""
        tile_level, inside = divmod(level, HEIGHT)
        number, offset = divmod(index << inside, WIDTH)
        hashes = self._tile(tile_level, number)[offset : offset + (1 << inside)]
        if len(hashes) != 1 << inside:
            raise LookupError(f"the stored tree has no node {level}/{index}")
        while len(hashes) > 1:
            hashes = [tree.node_hash(hashes[at], hashes[at + 1]) for at in range(0, len(hashes), 2)]
        return hashes[0]

    def _tile(self, level: int, number: int) -> list[bytes]:
        if (level, number) not in self._rows:
            self._rows[level, number] = self._read(level, number)
        return self._rows[level, number]

    def _read(self, level: int, number: int) -> list[bytes]:
        whole = _column("SELECT hashes FROM consent_ledgertile WHERE level = %s AND number = %s", level, number)
        if whole:
            return [whole[0][at : at + tree.HASH_BYTES] for at in range(0, len(whole[0]), tree.HASH_BYTES)]
        return read_row(level, number)


def read_row(level: int, number: int) -> list[bytes]:
    """The hashes of a tile that is not complete yet, from the level below."""
    first, last = number * WIDTH, (number + 1) * WIDTH - 1
    if level == 0:
        return _column(
            "SELECT leaf_hash FROM consent_ledgerentry WHERE seq BETWEEN %s AND %s ORDER BY seq", first, last
        )
    return _column(
        "SELECT root FROM consent_ledgertile WHERE level = %s AND number BETWEEN %s AND %s ORDER BY number",
        level - 1,
        first,
        last,
    )


def _column(statement: str, *values: int) -> list[bytes]:
    """Plain SQL: a proof reads up to a thousand hashes, and a row through the ORM costs more than its hash."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return [bytes(row[0]) for row in cursor.fetchall() if row[0] is not None]


def complete_tiles(size: int, added: int) -> None:
    """Write the tiles that became complete when the last `added` leaves made the tree `size` leaves large."""
    level, before, after = 0, (size - added) // WIDTH, size // WIDTH
    while after > before:
        for number in range(before, after):
            hashes = read_row(level, number)
            if len(hashes) != WIDTH:
                raise LookupError(f"tile {level}/{number} lacks hashes")
            LedgerTile.objects.create(level=level, number=number, hashes=b"".join(hashes), root=root_of(hashes))
        level, before, after = level + 1, before // WIDTH, after // WIDTH


def root_of(hashes: Sequence[bytes]) -> bytes:
    """The root over a whole tile."""
    row = list(hashes)
    while len(row) > 1:
        row = [tree.node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]
