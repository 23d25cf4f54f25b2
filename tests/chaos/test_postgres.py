"""The same work on PostgreSQL: one job published once although its worker was killed, one stopped by a withdrawal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.databases import fresh_postgresql


@pytest.fixture
def databases() -> Iterator[tuple[str, str]]:
    """Two fresh databases: main, key store."""
    with fresh_postgresql() as main, fresh_postgresql() as keys:
        yield main, keys


@pytest.mark.soak  # on SQLite the same is shown in every run
@pytest.mark.postgres
def test_on_postgresql_a_killed_worker_costs_nothing_and_a_withdrawal_stops_the_job(
    databases: tuple[str, str], open_house: Callable[..., Any], samples: Path, clip: Path
) -> None:
    house = open_house(DATABASE_URL=databases[0], KEYS_URL=databases[1])
    try:
        house.start_worker("ctl", beat=True)
        worker = house.start_worker()
        source = house.upload_ready(samples / "astronaut.jpg", "source")
        target = house.upload_ready(clip, "target")

        def submit() -> tuple[str, str]:
            donor = house.do("ask", role="face_donor", source=source)
            person = house.do("ask", role="target_person", target=target)
            return house.do("submit", source=source, target=target, donor=donor, person=person), donor

        job_id, _ = submit()
        house.wait_rendering(job_id)
        house.kill(worker)
        house.start_worker()
        assert house.wait_job(job_id, "succeeded")["outputs"] == 1

        second, donor = submit()
        house.wait_rendering(second)
        house.do("withdraw", consent_id=donor)
        found = house.wait_job(second, "refused", seconds=10)
        assert found["failure"]["code"] == "consent_withdrawn"
        house.wait(lambda: house.do("work_folders") == 0, seconds=10)
        assert house.do("job", job_id=second)["outputs"] == 0
    finally:
        house.close()  # before the databases are dropped
