"""How long the manifest repository takes to answer, with as many entries as wanted, on a database of its own."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import connection, models, transaction
from django.utils import timezone

from webapp.commands.progress import ProgressBar
from webapp.commands.scratch import scratch_database
from webapp.jobs import repository
from webapp.jobs.models import Output, OutputFingerprint

CHUNK = 20_000
IDS, NEAR, FAR = 200, 60, 40
STORE = bytes(256)
"""A manifest's bytes are read by none of the look-ups that are measured; real ones have 15,000 to 40,000."""
SEED = 20


@dataclass(frozen=True)
class Times:
    """Milliseconds of one kind of look-up."""

    what: str
    goal: float
    middle: float
    slowest: float
    found: str = ""

    def line(self) -> str:
        words = f"{self.what:<34} {self.middle:8.2f} ms in the middle, {self.slowest:8.2f} ms at most"
        return f"{words}   (goal {self.goal:g} ms)   {self.found}".rstrip()


def run(entries: int) -> Iterator[str]:
    """Fill a throw-away database with synthetic outputs, ask it, and yield what is to be said."""
    with ProgressBar("bench repository") as bar, scratch_database() as database:
        begin = time.monotonic()
        _fill(entries, bar.show)
        yield (
            f"{entries:,} outputs with a fingerprint each on {database.vendor} "
            f"({_size() / 2**30:.2f} GiB, filled in {time.monotonic() - begin:.0f} s)"
        )
        bar.show("asking", 0.99)
        for times in (_by_id(entries), *_by_fingerprint(entries)):
            yield times.line()


def _fill(entries: int, show: Callable[[str, float], None]) -> None:
    """Rows of the two tables, their look-up indexes made at the end, which is how a database likes it best."""
    _drop_references(Output, OutputFingerprint)
    quoted = connection.ops.quote_name
    table, indexes = quoted(OutputFingerprint._meta.db_table), OutputFingerprint._meta.indexes
    with connection.cursor() as cursor:
        for index in indexes:
            cursor.execute(f"DROP INDEX {quoted(index.name)}")
    for start in range(0, entries, CHUNK):
        numbers = range(start, min(entries, start + CHUNK))
        with transaction.atomic():
            _insert(Output(**_output(0), published_at=timezone.now()), _output, numbers)
            _insert(OutputFingerprint(**_print(0)), _print, numbers)
        show(f"{numbers.stop:,} of {entries:,} rows", 0.7 * numbers.stop / entries)
    with connection.cursor() as cursor:
        for number, index in enumerate(indexes):
            show(f"index {number + 1} of {len(indexes)}", 0.7 + 0.25 * number / len(indexes))
            cursor.execute(f"CREATE INDEX {quoted(index.name)} ON {table} ({quoted(index.fields[0])})")
        cursor.execute("ANALYZE")


def _drop_references(*tables: type[models.Model]) -> None:
    """Outputs without jobs, consents and accounts: the look-ups read none of them."""
    if connection.vendor == "sqlite":
        connection.disable_constraint_checking()
        return
    with connection.cursor() as cursor:
        for table in tables:
            found = connection.introspection.get_constraints(cursor, table._meta.db_table)
            for name in (name for name, facts in found.items() if facts["foreign_key"]):
                quoted = connection.ops.quote_name(name)
                cursor.execute(
                    f"ALTER TABLE {connection.ops.quote_name(table._meta.db_table)} DROP CONSTRAINT {quoted}"
                )


def _insert(example: models.Model, vary: Callable[[int], Mapping[str, Any]], numbers: range) -> None:
    """Rows like `example` but for what `vary` gives each; only the example goes through Django's slow conversions."""
    fields = example._meta.concrete_fields
    names = [str(field.attname) for field in fields]
    common = {
        name: field.get_db_prep_save(getattr(example, name), connection)
        for name, field in zip(names, fields, strict=True)
    }
    table = connection.ops.quote_name(example._meta.db_table)
    columns = ", ".join(connection.ops.quote_name(str(field.column)) for field in fields)
    rows = ([row[name] for name in names] for row in ({**common, **vary(number)} for number in numbers))
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
            return
        places = ", ".join(["%s"] * len(fields))
        cursor.executemany(f"INSERT INTO {table} ({columns}) VALUES ({places})", list(rows))  # noqa: S608


def _output(number: int) -> dict[str, Any]:
    return {
        "id": f"out_{number:020d}",
        "organisation_id": 1,
        "job_id": f"job_{number:020d}",
        "mime": "image/jpeg",
        "sha256": f"{number:064x}",
        "size": 500_000,
        "object_name": f"output/{number:040x}",
        "key_id": f"key_{number:020d}",
        "mark_id": _mark(number),
        "mark_key": "bench/2026",
        "manifest_label": f"urn:c2pa:{number:032x}",
        "manifest_store": STORE,
    }


def _print(number: int) -> dict[str, Any]:
    pdq = _pdq(number)
    return {
        "id": number + 1,
        "output_id": f"out_{number:020d}",
        "pdq": pdq,
        **repository.bands(pdq),
    }


def _mark(number: int) -> bytes:
    return _bytes("mark", number)[:8]


def _pdq(number: int) -> bytes:
    return _bytes("pdq", number)


def _bytes(what: str, number: int) -> bytes:
    return hashlib.sha256(f"{SEED} {what} {number}".encode()).digest()


def _by_id(entries: int) -> Times:
    times = [_timed(partial(_permission, _mark(_any(number, entries))))[0] for number in range(IDS)]
    return Times("by the mark's id", 2.0, *_summary(times))


def _permission(mark_id: bytes) -> Any:
    return Output.objects.filter(mark_id=mark_id).values_list("pk", "permission").get()


def _any(number: int, entries: int) -> int:
    return int.from_bytes(_bytes("any", number)[:8], "big") % entries


def _by_fingerprint(entries: int) -> Iterator[Times]:
    found, times = 0, []
    for turn in range(NEAR):
        number = _any(turn, entries)
        apart = turn % (repository.RADIUS + 1)
        places = sorted(range(256), key=lambda place, turn=turn: _bytes(f"place {turn}", place))[:apart]  # type: ignore[misc]
        asked = int.from_bytes(_pdq(number), "big") ^ sum(1 << place for place in places)
        spent, near = _timed(partial(repository.by_fingerprint, asked.to_bytes(32, "big")))
        times.append(spent)
        found += any(each.output_id == f"out_{number:020d}" and each.distance == apart for each in near)
    words = f"found {found} of {NEAR}"
    yield Times(f"by a fingerprint within {repository.RADIUS} bits", 200.0, *_summary(times), found=words)
    times = [_timed(partial(repository.by_fingerprint, _bytes("nobody", turn)))[0] for turn in range(FAR)]
    yield Times("by a fingerprint nobody has", 200.0, *_summary(times))


def _timed(ask: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    answer = ask()
    return (time.perf_counter() - begin) * 1000, answer


def _summary(times: Sequence[float]) -> tuple[float, float]:
    return statistics.median(times), max(times)


def _size() -> int:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_database_size(current_database())")
        else:
            cursor.execute("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
        return int(cursor.fetchone()[0])
