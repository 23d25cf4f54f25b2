"""Events and attestations cannot be changed or removed, whoever asks; and nothing personal lies in plain columns."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import DatabaseError, connection, transaction

from consent import services
from consent.models import Attestation, Event
from tests.databases import fresh_postgresql

pytestmark = pytest.mark.django_db


@pytest.fixture
def triggers() -> Iterator[None]:
    """The triggers of the migration, also where the test run builds its tables without migrations."""
    migration = importlib.import_module("consent.migrations.0002_append_only")
    migration.install(connection)
    migration.install(connection)
    return


def _attested() -> Attestation:
    boxes = dict(services.declaration_text("en").boxes)
    return services.attest_declaration(
        organisation_id="org", made_by="1", ticks=dict.fromkeys(boxes, True), locale="en"
    )


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE consent_event SET state = 'given'",
        "DELETE FROM consent_event",
        "INSERT OR REPLACE INTO consent_event (id, at, type, state, code, data, consent_id)"
        " SELECT id, at, 'given', state, code, data, consent_id FROM consent_event",
        "UPDATE consent_attestation SET basis = 'licensed'",
        "DELETE FROM consent_attestation",
    ],
)
def test_the_database_refuses_to_rewrite_what_happened(house, triggers, statement: str) -> None:
    if "OR REPLACE" in statement and connection.vendor != "sqlite":
        statement = "SET CONSTRAINTS ALL IMMEDIATE; TRUNCATE consent_event"  # what PostgreSQL has instead
    house.given()
    _attested()
    events, attestations = list(Event.objects.values()), list(Attestation.objects.values())
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert list(Event.objects.values()) == events
    assert list(Attestation.objects.values()) == attestations


def test_the_services_work_with_the_triggers_in_place(house, triggers) -> None:
    consent = house.given(max_outputs=1)
    assert services.reserve_use(consent.id, job_id="job_1", use=house.use()).ok
    services.count_use(consent.id, "job_1")
    services.withdraw_consent(consent)
    assert [event.type for event in consent.events.all()] == [
        "requested",
        "viewed",
        "given",
        "reserved",
        "used",
        "exhausted",
        "withdrawn",
    ]


def test_the_orm_cannot_rewrite_an_event_either(house, triggers) -> None:
    event = house.given().events.last()
    event.state = "refused"
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        event.save()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        event.delete()


FULL_RUN = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
os.environ["DATABASE_URL"] = {main!r}
os.environ["KEYS_URL"] = {keys!r}
import django
django.setup()
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
for alias in ("default", "keys"):
    call_command("migrate", "consent", database=alias, verbosity=0)
from consent import models, services, transitions
transitions._effects.clear()
from webapp.outbox.models import OutboxMessage
if "outbox_outboxmessage" not in connection.introspection.table_names():
    call_command("migrate", "outbox", verbosity=0)
photo, target = services.PhotoRef("p", "a" * 64), services.TargetRef("t", "c" * 64)
consent, token = services.request_consent(
    organisation_id="org", organisation_name="Studio", requested_by="MARKER-ASKER", role="face_donor",
    name="MARKER-NAME", contact="marker.contact@example.org", purposes=["personal"], photos=[photo], target=target,
    livemode=False, note="MARKER-NOTE")
notice = services.consent_text(consent, "en")
services.give_consent(consent, ticks={{n: True for n, _ in notice.boxes}}, typed_name="MARKER-TYPED",
    confirmed_photos=consent.photo_sha256s, notice_sha256=notice.sha256, user_agent="MARKER-BROWSER/1",
    ip="198.51.100.23")
boxes = dict(services.target_rights_text("en").boxes)
services.attest_target_rights(organisation_id="org", made_by="1", basis="licensed", target_sha256="c" * 64,
    statement="MARKER-STATEMENT: we hold the licence.", ticks=dict.fromkeys(boxes, True))
again = models.Consent.objects.get(pk=consent.pk)
assert (again.name, again.typed_name, again.subject.contact) == (
    "MARKER-NAME", "MARKER-TYPED", "marker.contact@example.org")
refused = 0
for statement in ("UPDATE consent_event SET code = 'x'", "DELETE FROM consent_attestation"):
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    except DatabaseError as error:
        refused += "append-only" in str(error)
print(refused, token)
sys.stdout.flush()
os._exit(0)
"""


def _full_run(main: str, tmp_path: Path) -> str:
    store = f"sqlite:///{tmp_path / 'keys.sqlite3'}"
    environment = {**os.environ, "IMPRIMATUR_TEST_HOME": str(tmp_path / "home"), "PYTHONPATH": "."}
    (tmp_path / "home" / "main" / "work" / "uploads").mkdir(parents=True)
    script = FULL_RUN.format(main=main, keys=store)
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    refused, token = done.stdout.split()
    assert refused == "2"
    return token


MARKERS = [
    b"MARKER-NAME",
    b"marker.contact",
    b"MARKER-ASKER",
    b"MARKER-NOTE",
    b"MARKER-TYPED",
    b"MARKER-STATEMENT",
    b"MARKER-BROWSER",
    b"198.51.100",
]


def test_a_migrated_database_refuses_rewriting_and_its_files_name_nobody(tmp_path: Path) -> None:
    token = _full_run(f"sqlite:///{tmp_path / 'main.sqlite3'}", tmp_path)
    on_disk = b"".join(path.read_bytes() for path in tmp_path.glob("*.sqlite3*"))
    assert b"consent_consent" in on_disk
    assert b"Studio" in on_disk  # the scan finds what is there in plain
    for marker in [*MARKERS, token.encode(), token[8:30].encode()]:
        assert marker not in on_disk, marker


@pytest.mark.postgres
def test_a_migrated_postgresql_refuses_rewriting_and_truncating(tmp_path: Path) -> None:
    import psycopg

    with fresh_postgresql() as own:
        _full_run(own, tmp_path)
        with psycopg.connect(own, autocommit=True) as database:
            for table in ("consent_event", "consent_attestation"):
                with pytest.raises(psycopg.Error, match="append-only"):
                    database.execute(f"TRUNCATE {table} CASCADE")
