"""The whole scope of a permission: several targets in place of one, partners, territories, intended use, seconds."""

from django.db import migrations, models


def _forwards(apps, schema_editor):
    """One target becomes a list of one."""
    if schema_editor.connection.alias == "keys":
        return
    consents = apps.get_model("consent", "Consent").objects.using(schema_editor.connection.alias)
    for consent in consents.exclude(target_sha256="").iterator():
        targets = [{"asset_id": consent.target_asset_id, "sha256": consent.target_sha256, "face": consent.target_face}]
        consents.filter(pk=consent.pk).update(targets=targets)


def _backwards(apps, schema_editor):
    """The first target; a permission for several cannot be said in the old form, so only one of them stays allowed."""
    if schema_editor.connection.alias == "keys":
        return
    consents = apps.get_model("consent", "Consent").objects.using(schema_editor.connection.alias)
    for consent in consents.iterator():
        if consent.targets:
            first = consent.targets[0]
            consents.filter(pk=consent.pk).update(
                target_asset_id=first["asset_id"], target_sha256=first["sha256"], target_face=first["face"]
            )


class Migration(migrations.Migration):
    dependencies = [("consent", "0005_forget")]
    operations = [
        migrations.AddField("consent", "targets", models.JSONField(blank=True, default=list)),
        migrations.AddField("consent", "max_total_seconds", models.FloatField(blank=True, null=True)),
        migrations.AddField("consent", "partners", models.JSONField(blank=True, default=list)),
        migrations.AddField("consent", "territories", models.JSONField(blank=True, default=list)),
        migrations.AddField("consent", "intended_use_sealed", models.BinaryField(blank=True, null=True)),
        migrations.AddField(
            "consent",
            "relationship",
            models.CharField(
                blank=True,
                choices=[
                    ("self", "Self"),
                    ("friend", "Friend"),
                    ("employee", "Employee"),
                    ("talent", "Talent"),
                    ("other", "Other"),
                ],
                default="",
                max_length=10,
            ),
        ),
        migrations.RemoveConstraint("consent", "consent_target_whole"),
        migrations.RunPython(_forwards, _backwards),
        migrations.RemoveField("consent", "target_asset_id"),
        migrations.RemoveField("consent", "target_sha256"),
        migrations.RemoveField("consent", "target_face"),
    ]
