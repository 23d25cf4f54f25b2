"""A hold and a publication in the same instant: whichever is first, nothing is published after the hold."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection, connections

from consent.models import Event
from consent.portal import restriction
from tests.webapp import cast
from webapp.jobs import running
from webapp.jobs.errors import JobsError
from webapp.jobs.models import Output

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


@pytest.mark.parametrize("round_", range(4))
@pytest.mark.parametrize("everything", [False, True])
def test_nothing_is_published_after_a_hold(stage: Any, everything: bool, round_: int) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("a database in memory serves one thread; run with DATABASE_URL on PostgreSQL")
    job = stage.run(stage.screened(stage.submit()))
    assert running.begin_finishing(job.pk, "worker")
    draft = stage.draft(job)
    start = threading.Barrier(2)
    errors: list[str] = []

    def hold() -> None:
        if everything:
            restriction.restrict_all(cast.donor(job).subject)
        else:
            restriction.restrict_consent(cast.donor(job))

    def publish() -> None:
        try:
            running.publish_output(job.pk, "worker", draft)
        except JobsError as error:
            errors.append(error.code)

    def run(act: Any) -> None:
        try:
            start.wait()
            act()
        except Exception as error:  # told below
            errors.append(repr(error))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(act,)) for act in (hold, publish)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    job.refresh_from_db()
    order = list(
        Event.objects.filter(consent=cast.donor(job), type__in=["used", "restricted"])
        .order_by("pk")
        .values_list("type", flat=True)
    )
    assert "restricted" in order, (order, errors)
    if Output.objects.exists():
        assert (job.state, order, errors) == ("succeeded", ["used", "restricted"], [])
    else:
        assert (job.state, job.failure_code, order) == ("refused", "consent_restricted", ["restricted"])
        assert set(errors) <= {"lease_lost", "consent_restricted"}
