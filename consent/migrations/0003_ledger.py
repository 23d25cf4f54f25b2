"""The ledger's tables, and the triggers that keep them: written once; an entry gets its place once; nothing else.

`install` and `remove` are also for tests whose clean-up empties tables; the product never removes the triggers.
"""

import django.db.models.deletion
from django.db import migrations, models

import consent.ledger.models

ENTRIES = "consent_ledgerentry"
TABLES = ("consent_ledgertile", "consent_ledgercheckpoint", "consent_auditrecord")
FIXED = (
    "id",
    "kind",
    "type",
    "at",
    "ref",
    "source",
    "event_id",
    "key_id",
    "opening_sealed",
    "ref_commit",
    "payload_commit",
    "row_commit",
)  # of an entry: never change; seq, leaf, leaf_hash and chain are assigned once


def statements(vendor):
    """(install, remove): the SQL statements for one kind of database; empty for kinds the product does not run on."""
    if vendor == "sqlite":
        return _sqlite()
    if vendor == "postgresql":
        return _postgresql()
    return [], []


def _sqlite():
    install, remove = [], []

    def trigger(name, when, table, condition=""):
        install.append(
            f"CREATE TRIGGER IF NOT EXISTS {name} BEFORE {when} ON {table} {condition} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
        remove.append(f"DROP TRIGGER IF EXISTS {name}")

    for table in (ENTRIES, *TABLES):
        trigger(f"{table}_no_delete", "DELETE", table)
        # INSERT OR REPLACE deletes without the delete trigger
        trigger(f"{table}_no_replace", "INSERT", table, f"WHEN EXISTS (SELECT 1 FROM {table} WHERE id = NEW.id)")  # noqa: S608
    for table in TABLES:
        trigger(f"{table}_no_update", "UPDATE", table)
    for column in ("seq", "source", "event_id"):  # a replacement may also come in by another unique column
        trigger(
            f"{ENTRIES}_no_replace_{column}",
            "INSERT",
            ENTRIES,
            f"WHEN NEW.{column} <> '' AND EXISTS (SELECT 1 FROM {ENTRIES} WHERE {column} = NEW.{column})",  # noqa: S608
        )
    trigger(
        "consent_ledgercheckpoint_no_replace_size",
        "INSERT",
        "consent_ledgercheckpoint",
        "WHEN EXISTS (SELECT 1 FROM consent_ledgercheckpoint WHERE size = NEW.size)",
    )
    trigger(
        "consent_ledgertile_no_replace_place",
        "INSERT",
        "consent_ledgertile",
        "WHEN EXISTS (SELECT 1 FROM consent_ledgertile WHERE level = NEW.level AND number = NEW.number)",
    )
    changed = " OR ".join(f"OLD.{column} IS NOT NEW.{column}" for column in FIXED)
    trigger(
        f"{ENTRIES}_no_update",
        "UPDATE",
        ENTRIES,
        f"WHEN OLD.seq IS NOT NULL OR NEW.seq IS NULL OR {changed} "  # noqa: S608
        f"OR EXISTS (SELECT 1 FROM {ENTRIES} WHERE seq = NEW.seq)",  # UPDATE OR REPLACE
    )
    return install, remove


def _postgresql():
    changed = " OR ".join(f"OLD.{column} IS DISTINCT FROM NEW.{column}" for column in FIXED)
    install = [
        "CREATE OR REPLACE FUNCTION consent_ledger_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation'; END $$",
        "CREATE OR REPLACE FUNCTION consent_ledger_place_once() RETURNS trigger LANGUAGE plpgsql AS $$ "
        f"BEGIN IF OLD.seq IS NOT NULL OR NEW.seq IS NULL OR {changed} THEN "
        "RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation'; END IF; "
        "RETURN NEW; END $$",
        f"CREATE OR REPLACE TRIGGER {ENTRIES}_no_update BEFORE UPDATE ON {ENTRIES} "
        "FOR EACH ROW EXECUTE FUNCTION consent_ledger_place_once()",
    ]
    remove = [f"DROP TRIGGER IF EXISTS {ENTRIES}_no_update ON {ENTRIES}"]
    for table in (ENTRIES, *TABLES):
        verbs = [("delete", "ROW"), ("truncate", "STATEMENT")]
        if table != ENTRIES:
            verbs.append(("update", "ROW"))
        for verb, each in verbs:
            install.append(
                f"CREATE OR REPLACE TRIGGER {table}_no_{verb} BEFORE {verb.upper()} ON {table} "
                f"FOR EACH {each} EXECUTE FUNCTION consent_ledger_append_only()"
            )
            remove.append(f"DROP TRIGGER IF EXISTS {table}_no_{verb} ON {table}")
    remove.append("DROP FUNCTION IF EXISTS consent_ledger_append_only()")
    remove.append("DROP FUNCTION IF EXISTS consent_ledger_place_once()")
    return install, remove


def install(connection):
    """Put the triggers in place; again is fine."""
    with connection.cursor() as cursor:
        for statement in statements(connection.vendor)[0]:
            cursor.execute(statement)


def remove(connection):
    """Take them away; again is fine."""
    with connection.cursor() as cursor:
        for statement in statements(connection.vendor)[1]:
            cursor.execute(statement)


def _forwards(apps, schema_editor):
    if schema_editor.connection.alias != "keys":  # the key store has none of these tables
        install(schema_editor.connection)


def _backwards(apps, schema_editor):
    if schema_editor.connection.alias != "keys":
        remove(schema_editor.connection)


class Migration(migrations.Migration):
    dependencies = [
        ("consent", "0002_append_only"),
    ]

    operations = [
        migrations.CreateModel(
            name="LedgerCheckpoint",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("size", models.BigIntegerField(unique=True)),
                ("root", models.BinaryField()),
                ("note", models.TextField()),
                ("at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="LedgerLock",
            fields=[
                ("id", models.PositiveSmallIntegerField(primary_key=True, serialize=False)),
            ],
        ),
        migrations.CreateModel(
            name="AuditRecord",
            fields=[
                ("key_id", models.CharField(max_length=40)),
                (
                    "id",
                    models.CharField(
                        default=consent.ledger.models.audit_id,
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("at", models.DateTimeField()),
                ("actor_id", models.CharField(db_index=True, max_length=64)),
                ("action", models.CharField(max_length=40)),
                ("subject_ref", models.CharField(blank=True, db_index=True, default="", max_length=80)),
                ("reason_sealed", models.BinaryField(blank=True, null=True)),
            ],
            options={
                "indexes": [models.Index(fields=["-at"], name="audit_newest")],
            },
        ),
        migrations.CreateModel(
            name="LedgerTile",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("level", models.PositiveSmallIntegerField()),
                ("number", models.BigIntegerField()),
                ("hashes", models.BinaryField()),
                ("root", models.BinaryField()),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("level", "number"), name="ledger_tile_once")],
            },
        ),
        migrations.CreateModel(
            name="LedgerEntry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[("consent", "Consent"), ("screening", "Screening"), ("audit", "Audit")], max_length=12
                    ),
                ),
                ("type", models.CharField(max_length=40)),
                ("at", models.DateTimeField()),
                ("ref", models.CharField(blank=True, db_index=True, default="", max_length=80)),
                ("source", models.CharField(blank=True, default="", max_length=80)),
                ("key_id", models.CharField(max_length=40)),
                ("opening_sealed", models.BinaryField()),
                ("ref_commit", models.BinaryField()),
                ("payload_commit", models.BinaryField()),
                ("row_commit", models.BinaryField()),
                ("seq", models.BigIntegerField(blank=True, null=True, unique=True)),
                ("leaf", models.BinaryField(blank=True, null=True)),
                ("leaf_hash", models.BinaryField(blank=True, null=True)),
                ("chain", models.BinaryField(blank=True, null=True)),
                (
                    "event",
                    models.OneToOneField(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="ledger_entry",
                        to="consent.event",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(condition=models.Q(("seq__isnull", True)), fields=["id"], name="ledger_waiting"),
                    models.Index(fields=["leaf_hash"], name="ledger_leaf_hash"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("source", ""), _negated=True), fields=("source",), name="ledger_source_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("chain__isnull", True),
                                ("leaf__isnull", True),
                                ("leaf_hash__isnull", True),
                                ("seq__isnull", True),
                            ),
                            models.Q(
                                ("chain__isnull", False),
                                ("leaf__isnull", False),
                                ("leaf_hash__isnull", False),
                                ("seq__gte", 0),
                            ),
                            _connector="OR",
                        ),
                        name="ledger_sequenced_whole",
                    ),
                ],
            },
        ),
        migrations.RunPython(_forwards, _backwards),
    ]
