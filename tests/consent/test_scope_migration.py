"""Consents of before the wider scope keep what they allow: one target becomes a list of one, none stays any."""

from __future__ import annotations

from pathlib import Path

from tests.databases import run_migrating

SCRIPT = """
known = MigrationExecutor(connection).loader.disk_migrations
SCOPE = next(name for app, name in known if app == "consent" and name.endswith("_scope"))
BEFORE = next(name for app, name in known[("consent", SCOPE)].dependencies if app == "consent")

get = at(BEFORE)
now = timezone.now()
subject = get("consent", "Subject").objects.create(key_id="key_1")
common = dict(organisation_id="org_1", subject=subject, organisation_name="S", valid_until=now, link_expires_at=now)
one = dict(target_asset_id="ast_1", target_sha256="c" * 64, target_face=2)
get("consent", "Consent").objects.create(id="cns_one", role="target_person", token_sha256="1", **one, **common)
get("consent", "Consent").objects.create(id="cns_any", role="face_donor", token_sha256="2", **common)

get = at(SCOPE)
found = get("consent", "Consent").objects
assert found.get(pk="cns_one").targets == [{"asset_id": "ast_1", "sha256": "c" * 64, "face": 2}]
assert found.get(pk="cns_any").targets == []
assert found.get(pk="cns_one").territories == []

get = at(BEFORE)
back = get("consent", "Consent").objects.get(pk="cns_one")
assert (back.target_asset_id, back.target_sha256, back.target_face) == ("ast_1", "c" * 64, 2)
assert get("consent", "Consent").objects.get(pk="cns_any").target_face is None
print("kept")
"""


def test_the_migration_to_the_wider_scope_keeps_targets_both_ways(tmp_path: Path) -> None:
    run_migrating("consent", SCRIPT, tmp_path, f"sqlite:///{tmp_path / 'main.sqlite3'}")
