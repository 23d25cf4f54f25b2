"""Events and attestations can be written, never changed or removed: the database itself refuses.

`install` and `remove` are also for tests whose clean-up empties tables; the product never removes the triggers.
"""

from django.db import migrations

TABLES = ("consent_event", "consent_attestation")


def statements(vendor):
    """(install, remove): the SQL statements for one kind of database; empty for kinds the product does not run on."""
    install, remove = [], []
    for table in TABLES:
        for verb in ("update", "delete"):
            name = f"{table}_no_{verb}"
            if vendor == "sqlite":
                install.append(
                    f"CREATE TRIGGER IF NOT EXISTS {name} BEFORE {verb.upper()} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
                )
                remove.append(f"DROP TRIGGER IF EXISTS {name}")
            elif vendor == "postgresql":
                install.append(
                    f"CREATE OR REPLACE TRIGGER {name} BEFORE {verb.upper()} ON {table} "
                    "FOR EACH ROW EXECUTE FUNCTION consent_append_only()"
                )
                remove.append(f"DROP TRIGGER IF EXISTS {name} ON {table}")
        if vendor == "sqlite":  # INSERT OR REPLACE deletes without the delete trigger
            install.append(
                f"CREATE TRIGGER IF NOT EXISTS {table}_no_replace BEFORE INSERT ON {table} "  # noqa: S608
                f"WHEN EXISTS (SELECT 1 FROM {table} WHERE id = NEW.id) "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
            remove.append(f"DROP TRIGGER IF EXISTS {table}_no_replace")
        elif vendor == "postgresql":
            install.append(
                f"CREATE OR REPLACE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION consent_append_only()"
            )
            remove.append(f"DROP TRIGGER IF EXISTS {table}_no_truncate ON {table}")
    if vendor == "postgresql":
        install.insert(
            0,
            "CREATE OR REPLACE FUNCTION consent_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ "
            "BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation'; END $$",
        )
        remove.append("DROP FUNCTION IF EXISTS consent_append_only()")
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
    dependencies = [("consent", "0001_initial")]
    operations = [migrations.RunPython(_forwards, _backwards)]
