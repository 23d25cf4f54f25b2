"""Is the database what was entered? Every leaf, commitment and row is compared with the others and with the signatures.

Nothing here trusts a table: the tree is computed again from the leaves, the leaves are compared with their columns, the
commitments are made again from the rows of today, and the signatures are checked with keys that lie in no database.
"""

from __future__ import annotations

import base64
import hmac
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from hashlib import sha256
from typing import Any

from django.db import DatabaseError, connection, transaction
from django.db.models import Count

from consent import keys
from consent.envelope import EnvelopeError
from consent.ledger import house, records, sources, tree
from consent.ledger.canonical import CHAIN_START, SALT_BYTES, commit, link
from consent.ledger.checking import LogChecker, Report
from consent.ledger.entries import iso, row_commit, row_key, unsealed
from consent.ledger.errors import LedgerError
from consent.ledger.models import LedgerCheckpoint, LedgerEntry, LedgerTile
from consent.ledger.store import WIDTH, root_of

CHUNK = 500
KEPT_KEYS = 4096

Show = Callable[[str, float], None]


def verify(show: Show = lambda words, fraction: None, kept: tuple[str, ...] = ()) -> Report:
    """Check the whole log and every row it speaks of; `kept` are checkpoints that somebody kept elsewhere.

    Changes nothing. One snapshot of the database is read, so that what is written meanwhile accuses nobody.
    """
    report = Report()
    memory = house.remembered()  # before the snapshot: what is signed meanwhile must not seem to be missing
    with _snapshot():
        _Verification(report, show).run([*kept, *([memory] if memory else [])])
    return report


@contextmanager
def _snapshot() -> Iterator[None]:
    """One state of the database to the end of the block, without keeping anybody from writing."""
    if connection.in_atomic_block:
        yield
    elif connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")  # Django's own transactions here take the lock for writing
            try:
                yield
            finally:
                cursor.execute("ROLLBACK")
    else:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield


class _Keys:
    """Data keys as this run has read them; a few thousand are kept."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, bytes | keys.KeyStoreError | EnvelopeError] = OrderedDict()

    def __call__(self, key_id: str) -> bytes:
        if key_id not in self._kept:
            try:
                self._kept[key_id] = keys.data_key(key_id)
            except (keys.KeyDestroyedError, keys.KeyMissingError, EnvelopeError) as error:
                self._kept[key_id] = error
            if len(self._kept) > KEPT_KEYS:
                self._kept.popitem(last=False)
        found = self._kept[key_id]
        if isinstance(found, Exception):
            raise found
        return found


class _Verification:
    """One run."""

    def __init__(self, report: Report, show: Show) -> None:
        self.report = report
        self.show = show
        self.key_of = _Keys()
        self.row_keys = [row_key(keys.data_key(each)) for each in house.house_keys()]
        self.forgotten: set[str] = set()
        self.missing: list[tuple[str, str]] = []  # (source, where) of entries without their row
        self.edited: list[tuple[str, str, bytes, dict[str, Any] | None]] = []  # and of rows that say something else
        self.above: dict[int, list[bytes]] = {}  # roots of complete tiles that wait for the tile above them

    def run(self, kept: list[str]) -> None:
        count = LedgerEntry.objects.filter(seq__isnull=False).count()
        stored = list(LedgerCheckpoint.objects.order_by("size"))
        verifiers = house.verifiers()
        if (stored and not verifiers) or (count and not self.row_keys):
            raise LedgerError(
                "ledger_key_unusable",
                "The log has entries, and the keys it was made with are not here (KEYS_DIR/ledger, and the key store "
                "of KEYS_URL), so nothing can be said about it. Nothing was changed; bring the keys back.",
            )
        log = LogChecker([*(each.note for each in stored), *kept], verifiers, self.report)
        self._checkpoint_columns(stored)
        with self._readable("the log"):
            self._leaves(log, count)
        log.finish()
        if log.size != count:
            self.report.add(
                "leaf_missing",
                f"leaf {log.size}",
                f"There are {count} places given, and only the first {log.size} follow each other: leaves were "
                "removed, doubled or renumbered.",
            )
        with self._readable("the stored tree"):
            self._tiles(log.size)
        with self._readable("the entries that wait"):
            self._waiting()
            self._doubled()
        self.show("rows without entries", 0.85)
        with self._readable("the rows of the entries"):
            self._rows()
        self.show("consents and uses", 0.9)
        with self._readable("the consents"):
            records.check(self.report, self.key_of)

    @contextmanager
    def _readable(self, what: str) -> Iterator[None]:
        """A value that no program of ours wrote may not even be readable; that is a finding, not a crash."""
        try:
            # A savepoint, where there is a transaction: PostgreSQL answers nothing after an error without one.
            with transaction.atomic() if connection.in_atomic_block else nullcontext():
                yield
        except (ValueError, TypeError, LookupError, DatabaseError, LedgerError) as error:
            self.report.add(
                "unreadable",
                what,
                f"A row cannot be read at all ({type(error).__name__}: {error}); the rest of it was not checked.",
            )

    def _rows(self) -> None:
        for source in sources.unentered():
            self.report.add(
                "row_not_entered", source, "This row was never entered into the log: it was inserted past the service."
            )
        for source, where, body, payload in self.edited:  # only now is it known what was forgotten
            if source not in self.forgotten or sources.differs(source, body, payload, forgotten=True):
                self.report.add("row_edited", source, f"This row does not say any more what {where} commits to.")
        for source, where in self.missing:
            if source not in self.forgotten:
                self.report.add("row_missing", source, f"The row that {where} commits to is not there any more.")

    def _checkpoint_columns(self, stored: list[LedgerCheckpoint]) -> None:
        for each in stored:
            lines = each.note.split("\n")
            if lines[1:2] != [str(each.size)] or each.note.count("\n") < 5 or not _is_root(lines[2], each.root):
                self.report.add(
                    "checkpoint_edited", f"checkpoint {each.size}", "A checkpoint's columns differ from its text."
                )

    def _leaves(self, log: LogChecker, count: int) -> None:
        chain = CHAIN_START
        row: list[bytes] = []
        while True:
            found = list(LedgerEntry.objects.filter(seq__gte=log.size).order_by("seq", "id")[:CHUNK])
            if not found or found[0].seq != log.size:
                return
            taken = []
            for entry in found:
                if entry.seq != log.size:
                    break
                taken.append(entry)
                leaf = bytes(entry.leaf or b"")
                self._compare_columns(entry, log.take(leaf))
                hashed = tree.leaf_hash(leaf)
                chain = link(chain, leaf)
                if bytes(entry.leaf_hash or b"") != hashed:
                    self.report.add("hash_differs", f"leaf {entry.seq}", "The stored hash is not that of the leaf.")
                if bytes(entry.chain or b"") != chain:
                    self.report.add(
                        "chain_broken", f"leaf {entry.seq}", "The chain is broken: this leaf or one before it changed."
                    )
                    chain = bytes(entry.chain or b"")  # said once, not for every leaf that follows
                row.append(hashed)
                if len(row) == WIDTH:
                    self._tile(0, (log.size - 1) // WIDTH, row)
                    row = []
            self._commitments(taken)
            self.show(f"leaf {log.size:,} of {count:,}", 0.8 * log.size / max(count, 1))

    def _compare_columns(self, entry: LedgerEntry, said: dict[str, object]) -> None:
        if not said:
            return
        columns = {
            "time": iso(entry.at),
            "kind": entry.kind,
            "type": entry.type,
            "ref_commit": bytes(entry.ref_commit).hex(),
            "payload_commit": bytes(entry.payload_commit).hex(),
            "row_commit": bytes(entry.row_commit).hex(),
        }
        different = sorted(name for name, value in columns.items() if said.get(name) != value)
        if different:
            self.report.add(
                "entry_edited",
                f"leaf {entry.seq}",
                f"The entry's columns differ from its leaf: {', '.join(different)}.",
            )

    def _commitments(self, entries: list[LedgerEntry]) -> None:
        now = sources.current_payloads([entry.source for entry in entries if entry.source])
        for entry in entries:
            where = f"leaf {entry.seq}" if entry.seq is not None else f"waiting entry {entry.pk}"
            bound = bytes(entry.row_commit)
            if not any(hmac.compare_digest(row_commit(entry, key), bound) for key in self.row_keys):
                self.report.add("entry_edited", where, "The entry's columns are not those that were committed to.")
                continue
            if entry.source and entry.source not in now:
                self.missing.append((entry.source, where))
            try:
                plain = unsealed(entry, self.key_of)
            except keys.KeyDestroyedError:
                self.report.erased += 1
                continue
            except (keys.KeyStoreError, EnvelopeError) as error:
                self.report.add("commitment_unreadable", where, f"What was committed to cannot be opened: {error}")
                continue
            salt, body = plain[:SALT_BYTES], plain[SALT_BYTES:]
            opened = hmac.compare_digest(hmac.new(salt, body, sha256).digest(), bytes(entry.payload_commit))
            if not opened or not hmac.compare_digest(commit(salt, entry.ref), bytes(entry.ref_commit)):
                self.report.add("commitment_differs", where, "The commitment is not that of the entry's own payload.")
                continue
            self.report.opened += 1
            if entry.type == sources.FORGOTTEN:
                self.forgotten.add(sources.forgotten_of(body))
            if entry.source in now:
                payload = now[entry.source]
                if sources.differs(entry.source, body, payload, forgotten=False):
                    self.edited.append((entry.source, where, body, payload))

    def _waiting(self) -> None:
        last = 0
        while found := list(LedgerEntry.objects.filter(seq__isnull=True, id__gt=last).order_by("id")[:CHUNK]):
            last = found[-1].pk
            self.report.waiting += len(found)
            self._commitments(found)

    def _doubled(self) -> None:
        for name in ("payload_commit", "source"):
            groups = LedgerEntry.objects.exclude(source="") if name == "source" else LedgerEntry.objects.all()
            doubled = groups.order_by().values(name).annotate(count=Count("id")).filter(count__gt=1)
            for group in doubled[:100]:
                value = group[name] if name == "source" else bytes(group[name]).hex()[:16]
                self.report.add("entry_doubled", f"{name} {value}", "One entry is there more than once.")

    def _tile(self, level: int, number: int, hashes: list[bytes]) -> None:
        """Compare a tile with what its hashes must be, and keep count of the level above."""
        tile = LedgerTile.objects.filter(level=level, number=number).first()
        root = root_of(hashes)
        if tile is None or bytes(tile.hashes) != b"".join(hashes) or bytes(tile.root) != root:
            self.report.add(
                "tile_differs", f"tile {level}/{number}", "The stored tree is not the tree of the leaves: proofs fail."
            )
        above = self.above.setdefault(level + 1, [])
        above.append(root)
        if len(above) == WIDTH:
            self.above[level + 1] = []
            self._tile(level + 1, number // WIDTH, above)

    def _tiles(self, size: int) -> None:
        """No tile stands where the tree has none."""
        expected, width = 0, size // WIDTH
        while width:
            expected += width
            width //= WIDTH
        if LedgerTile.objects.count() != expected:
            self.report.add("tile_differs", "tiles", f"The stored tree has not the {expected} tiles of {size} leaves.")


def _is_root(line: str, root: bytes | memoryview) -> bool:
    return base64.b64encode(bytes(root)).decode() == line
