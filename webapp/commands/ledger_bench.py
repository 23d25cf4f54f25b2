"""What an entry of the ledger costs, from the append to its signed place, and a proof; on a database of its own."""

from __future__ import annotations

import hashlib
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.db import transaction

from consent import ledger
from consent.ledger import export, house, notes, tree, verifying
from consent.ledger.models import LedgerEntry
from webapp.commands.progress import ProgressBar
from webapp.commands.scratch import scratch_database

PER_TRANSACTION = 100
PROOFS = 300
SINGLE = 500
APPEND_GOAL, PROOF_GOAL = 1.0, 5.0


def run(leaves: int, *, verify: bool = True) -> Iterator[str]:
    """Append, sequence, sign and prove; yields what is to be said. The deployment's log and keys are not touched."""
    with ProgressBar("bench ledger") as bar, _scratch_keys(), scratch_database("keys"), scratch_database() as database:
        one_by_one = _one_by_one(min(leaves, SINGLE))
        begin, worked = time.monotonic(), time.process_time()
        placing = 0.0
        for start in range(min(leaves, SINGLE), leaves, PER_TRANSACTION):
            with transaction.atomic():
                ledger.append_many([_new(number) for number in range(start, min(leaves, start + PER_TRANSACTION))])
            if (start + PER_TRANSACTION) % 1000 == 0 or start + PER_TRANSACTION >= leaves:
                before = time.monotonic()
                while ledger.sequence():
                    pass
                placing += time.monotonic() - before
                bar.show(f"{min(start + PER_TRANSACTION, leaves):,} of {leaves:,} leaves", 0.7 * start / leaves)
        spent, work = time.monotonic() - begin, time.process_time() - worked
        count = max(1, leaves - SINGLE)
        each, worked_each, placing_each = (1000 * seconds / count for seconds in (spent, work, placing))
        yield (
            f"{leaves:,} leaves on {database.vendor}, {PER_TRANSACTION} a transaction: append to signed place "
            f"{each:.3f} ms each (goal {APPEND_GOAL:g} ms), of which places and checkpoints {placing_each:.3f} ms; "
            f"processor time {worked_each:.3f} ms each"
        )
        yield f"one append in a transaction of its own: {one_by_one:.3f} ms in the middle"
        bar.show("proofs", 0.75)
        times, work = _proofs(leaves)
        yield (
            f"proof of inclusion, read and made: {statistics.median(times):.2f} ms in the middle, {max(times):.2f} ms "
            f"at most of {len(times)} (goal {PROOF_GOAL:g} ms), processor time {work:.2f} ms each; every one verifies"
        )
        with tempfile.NamedTemporaryFile("w", suffix=".ledger", encoding="utf-8") as file:
            before = time.monotonic()
            export.write(file)  # type: ignore[arg-type]  # a wrapper with the same methods
            file.flush()
            written = time.monotonic()
            report = export.check(Path(file.name))
            yield (
                f"export {written - before:.1f} s ({Path(file.name).stat().st_size / 2**20:.0f} MiB), "
                f"its verification {time.monotonic() - written:.1f} s, {'right' if report.ok else 'WRONG'}"
            )
        if verify:
            before = time.monotonic()
            report = verifying.verify(bar.show)
            yield (
                f"verification of the live database {time.monotonic() - before:.1f} s, "
                f"{'right' if report.ok else 'WRONG'}"
            )


def _new(number: int) -> ledger.NewEntry:
    return ledger.NewEntry("audit", "bench", {"id": number, "what": "a bench row"}, ref=f"bench_{number}")


def _one_by_one(count: int) -> float:
    times = []
    for number in range(count):
        before = time.perf_counter()
        with transaction.atomic():
            new = _new(number)
            ledger.append(new.kind, new.type, new.payload, ref=new.ref)
        times.append((time.perf_counter() - before) * 1000)
    return statistics.median(times)


def _proofs(leaves: int) -> tuple[list[float], float]:
    """Milliseconds of each proof, and of processor time in the mean."""
    rng = random.Random(5)  # noqa: S311 - which leaves are asked for
    head = notes.open_checkpoint(ledger.checkpoint(), house.verifiers())
    times, work = [], 0.0
    for _ in range(PROOFS):
        entry = LedgerEntry.objects.get(seq=rng.randrange(leaves))
        before, worked = time.perf_counter(), time.process_time()
        proof = ledger.proof(entry)
        times.append((time.perf_counter() - before) * 1000)
        work += time.process_time() - worked
        assert proof is not None
        assert tree.verify_inclusion(
            hashlib.sha256(b"\x00" + proof.leaf).digest(), proof.index, proof.size, proof.path, head.root
        )
    return times, 1000 * work / PROOFS


@contextmanager
def _scratch_keys() -> Iterator[None]:
    """A signer of its own: the bench's checkpoints must not become the house's memory."""
    kept = settings.KEYS_DIR
    with tempfile.TemporaryDirectory(prefix="imprimatur-bench-keys-") as folder:
        settings.KEYS_DIR = Path(folder)
        try:
            yield
        finally:
            settings.KEYS_DIR = kept
