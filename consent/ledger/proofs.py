"""What the log proves to others: inclusion, consistency, its signed heads and its leaves."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from consent.ledger import house, tree
from consent.ledger.errors import LedgerError
from consent.ledger.models import LedgerCheckpoint, LedgerEntry
from consent.ledger.sequencer import sequence, tree_size
from consent.ledger.store import StoredTree

logger = logging.getLogger(__name__)

MOST_LEAVES = 1000


@dataclass(frozen=True)
class Proof:
    """That a leaf stands at `index` of the tree of `size` leaves that `checkpoint` signs."""

    index: int
    size: int
    path: list[bytes]
    leaf: bytes
    checkpoint: str


def checkpoint() -> str:
    """The newest signed head. Raises LedgerError log_empty before the first."""
    note = LedgerCheckpoint.objects.order_by("-size").values_list("note", flat=True).first()
    if note is None:
        raise _empty()
    return note


def public_key() -> str:
    """The current signer's public key in the one-line form of C2SP signed notes."""
    return house.signer().verifier.text


def proof(entry: LedgerEntry) -> Proof | None:
    """That this entry is in the log, by the newest checkpoint; None until it is sequenced and covered by one."""
    found = LedgerEntry.objects.filter(pk=entry.pk).values_list("seq", "leaf").first()
    head = LedgerCheckpoint.objects.order_by("-size").values_list("size", "note").first()
    if found is None or head is None:
        return None
    index, leaf = found
    if index is None or leaf is None or index >= head[0]:
        return None
    return Proof(index, head[0], inclusion_path(index, head[0]), bytes(leaf), head[1])


def index_of(entry: LedgerEntry) -> int | None:
    """The place of an entry, sequencing now if it has none yet; None if that cannot be done now, never a guess."""
    for turn in range(4):
        seq = LedgerEntry.objects.filter(pk=entry.pk).values_list("seq", flat=True).first()
        if seq is not None or turn == 3:
            return seq
        try:
            sequence()
        except LedgerError as error:
            logger.warning("The ledger's checkpoint waits: %s (%s)", error.message, error.code)
    return None


def given_index(consent_id: str) -> int | None:
    """The place of the entry in which this person gave their permission, as `index_of`; None without such an entry."""
    given = LedgerEntry.objects.filter(event__consent=consent_id, event__type="given").order_by("-id").first()
    return index_of(given) if given is not None else None


def inclusion_path(index: int, size: int) -> list[bytes]:
    """The hashes from leaf `index` up to the root of the first `size` leaves. Raises LedgerError log_size_unknown."""
    _check_size(size)
    if not 0 <= index < size:
        raise LedgerError(
            "log_leaf_unknown", f"The tree of {size} leaves has no leaf {index}. Ask for a larger size.", status=404
        )
    return tree.inclusion(index, size, StoredTree().node)


def consistency_path(old: int, new: int) -> list[bytes]:
    """That the tree of `new` leaves continues that of `old`. Raises LedgerError log_size_unknown."""
    _check_size(new)
    if not 0 <= old <= new:
        raise LedgerError(
            "log_size_unknown", f"A tree of {new} leaves does not continue one of {old}. Exchange them.", status=400
        )
    return tree.consistency(old, new, StoredTree().node)


def index_of_leaf(leaf_hash: bytes) -> int:
    """The place of the leaf with this hash. Raises LedgerError log_leaf_unknown."""
    found = LedgerEntry.objects.filter(leaf_hash=leaf_hash, seq__isnull=False).values_list("seq", flat=True).first()
    if found is None:
        raise LedgerError(
            "log_leaf_unknown",
            "No leaf of this log has this hash. A new entry gets its place within seconds; ask again then.",
            status=404,
        )
    return found


def leaves(start: int, end: int) -> list[bytes]:
    """The leaves [start, end), at most MOST_LEAVES of them, as far as there are."""
    last = min(end, start + MOST_LEAVES) - 1
    found = LedgerEntry.objects.filter(seq__range=(start, last)).order_by("seq").values_list("leaf", flat=True)
    return [bytes(each) for each in found if each is not None]


def covered_size() -> int:
    """How many leaves the newest checkpoint covers. Raises LedgerError log_empty."""
    size = LedgerCheckpoint.objects.order_by("-size").values_list("size", flat=True).first()
    if size is None:
        raise _empty()
    return size


def _empty() -> LedgerError:
    return LedgerError("log_empty", "Nothing was entered into this log yet. Ask again later.", status=404)


def _check_size(size: int) -> None:
    if not 0 < size <= tree_size():
        raise LedgerError(
            "log_size_unknown", f"This log has not {size} leaves. See /log/checkpoint for its size.", status=404
        )
