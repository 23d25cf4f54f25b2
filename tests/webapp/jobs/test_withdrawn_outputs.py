"""What was published under a permission that ended: hidden at once, deleted after the grace, shown to the operator."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from consent import services as consents
from consent.keys import KeyDestroyedError
from tests.webapp import cast
from webapp import storage
from webapp.jobs import services, upkeep
from webapp.jobs.errors import JobsError
from webapp.jobs.models import Job, Output

pytestmark = pytest.mark.django_db


@pytest.fixture
def output(stage: Any, tmp_path: Any) -> Output:
    """A published result with real, encrypted bytes."""
    made = stage.publish(stage.run(stage.screened(stage.submit())))
    path = tmp_path / "result"
    path.write_bytes(b"the result")
    target = made.job.target
    made.key_id, made.object_name = target.key_id, storage.store_file(path, key_id=target.key_id, prefix="output")
    made.save(update_fields=["key_id", "object_name"])
    return made


@pytest.mark.parametrize("hours", [0, 6])
def test_it_is_deleted_with_its_key_once_the_grace_is_over(output: Output, settings: Any, hours: int) -> None:
    settings.WITHDRAWN_GRACE_HOURS = hours
    assert services.output_file(output).read() == b"the result"
    consents.withdraw_consent(cast.donor(output.job))
    with pytest.raises(JobsError) as error:
        services.output_file(output)
    assert (error.value.code, error.value.status) == ("output_withdrawn", 410)
    assert upkeep.erase_outputs() == (hours == 0)
    if hours:
        Output.objects.update(permission_changed_at=timezone.now() - timedelta(hours=hours, seconds=1))
        assert upkeep.erase_outputs() == 1
    with pytest.raises((KeyDestroyedError, storage.StorageError)):
        storage.open_decrypted(output.object_name, output.key_id).read()
    output.refresh_from_db()
    assert output.erased_at is not None
    assert upkeep.erase_outputs() == 0


def test_the_operator_ends_a_permission_at_the_command_line(output: Output) -> None:
    donor = cast.donor(output.job)
    said = StringIO()
    call_command("consents", "revoke", donor.pk, "--reason", "wrong_person", stdout=said)
    assert f"{donor.pk}: revoked" in said.getvalue()
    assert "revoked wrong_person" in said.getvalue()
    assert f"{output.pk}: revoked" in said.getvalue()
    assert "Ada" not in said.getvalue()
    output.refresh_from_db()
    assert output.permission == "revoked"
    for arguments in (("revoke", donor.pk, "--reason", "fraud"), ("show", "cns_none")):
        with pytest.raises(CommandError):
            call_command("consents", *arguments)
    services.confirm_deletion(output)
    said = StringIO()
    call_command("consents", "show", donor.pk, stdout=said)
    assert "copies deleted by the account" in said.getvalue()


def test_a_wrong_person_ends_what_waits_as_refused(stage: Any) -> None:
    waiting = stage.screened(stage.submit())
    consents.revoke_consent(cast.donor(waiting), reason="wrong_person")
    waiting.refresh_from_db()
    assert (waiting.state, waiting.failure_code) == (Job.State.REFUSED, "consent_revoked")


def test_a_reserved_use_of_a_permission_that_expires_is_not_published(stage: Any) -> None:
    job = stage.run(stage.screened(stage.submit()))
    donor = cast.donor(job)
    type(donor).objects.filter(pk=donor.pk).update(valid_until=timezone.now() - timedelta(seconds=1))
    assert consents.expire_due() == 1
    job.refresh_from_db()
    assert (job.state, job.failure_code) == (Job.State.REFUSED, "consent_expired")
    assert not Output.objects.exists()
