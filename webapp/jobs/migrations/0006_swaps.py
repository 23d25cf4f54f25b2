"""Several replacements in one job: what a job said of its only one moves into a row of its own."""

import django.db.models.deletion
from django.db import migrations, models

MOVED = ("target_face", "donor_consent_id", "target_consent_id", "target_attestation_id")


def _forwards(apps, schema_editor):
    """Each job's face, permissions and photos become its first replacement."""
    database = schema_editor.connection.alias
    swaps = apps.get_model("jobs", "JobSwap").objects.using(database)
    photos = apps.get_model("jobs", "JobSource").objects.using(database)
    for job in apps.get_model("jobs", "Job").objects.using(database).iterator():
        swap = swaps.create(job=job, **{name: getattr(job, name) for name in MOVED})
        photos.filter(job=job).update(swap=swap)
    _check_at_once(schema_editor)


def _backwards(apps, schema_editor):
    """Into the job again. One of several replacements cannot be said in the old form, so nothing is lost in silence."""
    database = schema_editor.connection.alias
    jobs = apps.get_model("jobs", "Job").objects.using(database)
    photos = apps.get_model("jobs", "JobSource").objects.using(database)
    swaps = apps.get_model("jobs", "JobSwap").objects.using(database)
    if swaps.filter(position__gt=0).exists():
        raise RuntimeError(
            "There are jobs with several replacements, which the earlier version cannot hold. Nothing was changed. "
            "Restore a backup of before the update instead."
        )
    for swap in swaps.iterator():
        jobs.filter(pk=swap.job_id).update(**{name: getattr(swap, name) for name in MOVED})
        photos.filter(swap=swap).update(job=swap.job_id)
    _check_at_once(schema_editor)


def _check_at_once(schema_editor):
    """PostgreSQL alters no table while checks of its foreign keys wait for the end of the transaction."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        schema_editor.execute("SET CONSTRAINTS ALL DEFERRED")


def _key(to, **more):
    return models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to=to, **more)


class Migration(migrations.Migration):
    dependencies = [("consent", "0009_given_at"), ("jobs", "0005_segments")]
    operations = [
        migrations.CreateModel(
            name="JobSwap",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("position", models.PositiveIntegerField(default=0)),
                ("target_face", models.PositiveIntegerField(default=0)),
                ("donor_consent", _key("consent.consent")),
                (
                    "job",
                    models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="swaps", to="jobs.job"),
                ),
                ("target_consent", _key("consent.consent", blank=True, null=True)),
                ("target_attestation", _key("consent.attestation", blank=True, null=True)),
            ],
            options={
                "ordering": ["position"],
                "constraints": [
                    models.UniqueConstraint(fields=("job", "position"), name="job_swap_in_order"),
                    models.UniqueConstraint(fields=("job", "target_face"), name="job_face_replaced_once"),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("target_consent__isnull", False), ("target_attestation__isnull", False), _connector="XOR"
                        ),
                        name="job_swap_covered_once",
                    ),
                ],
            },
        ),
        migrations.AddField(
            "jobsource",
            "swap",
            models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.CASCADE, related_name="photos", to="jobs.jobswap"
            ),
        ),
        # On the way back a job has no replacement yet when these columns return; they are filled before they bind.
        migrations.RemoveConstraint("job", "job_target_covered_once"),
        migrations.RemoveConstraint("jobsource", "job_source_once"),
        migrations.RemoveField("job", "sources"),
        migrations.AlterField(
            "jobsource",
            "job",
            models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, to="jobs.job"),
        ),
        migrations.AlterField("job", "donor_consent", _key("consent.consent", null=True)),
        migrations.RunPython(_forwards, _backwards),
        migrations.AlterField(
            "jobsource",
            "swap",
            models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="photos", to="jobs.jobswap"),
        ),
        migrations.AddConstraint(
            "jobsource", models.UniqueConstraint(fields=("swap", "asset"), name="job_source_once")
        ),
        migrations.RemoveField("jobsource", "job"),
        migrations.RemoveField("job", "target_face"),
        migrations.RemoveField("job", "donor_consent"),
        migrations.RemoveField("job", "target_consent"),
        migrations.RemoveField("job", "target_attestation"),
    ]
