"""Workers die by kill -9, hang, race and lose messages; a job still ends, and ends once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any


def count(house: Any, job_id: str, **wanted: str) -> int:
    """How many of the job's events went `to_state`, or had this `code`."""
    names = ("from_state", "to_state", "code")
    events = [dict(zip(names, event, strict=True)) for event in house.do("job", job_id=job_id)["events"]]
    return sum(1 for event in events if all(event[name] == value for name, value in wanted.items()))


REACTION = 10.0  # seconds from a withdrawal to the end of the work


def test_a_worker_killed_three_times_in_the_middle_still_publishes_one_output(prepared: Any, tmp_path: Path) -> None:
    house = prepared.house
    job_id, donor, _ = prepared.submit()
    finished: set[int] = set()
    for _ in range(3):
        worker = house.start_worker()
        found = house.wait_rendering(job_id)
        finished |= {each["number"] for each in found["segments"] if each["state"] == "done"}
        house.kill(worker)
        house.wait(lambda: not any(each["lease_owner"] for each in house.do("job", job_id=job_id)["segments"]))
    found = house.do("job", job_id=job_id)
    assert finished <= {each["number"] for each in found["segments"] if each["state"] == "done"}
    house.start_worker()
    assert house.wait_job(job_id, "succeeded")["outputs"] == 1
    assert count(house, job_id, to_state="running") >= 2
    output = house.do("output", job_id=job_id, dest=str(tmp_path / "out.mp4"))
    assert output["mark_read"] == output["mark_recorded"]
    assert house.do("uses", consent_id=donor) == {"counted": 1}
    house.wait(lambda: house.do("work_folders") == 0)  # also those of the dead


def test_a_job_that_kills_its_worker_each_time_is_given_up_as_worker_crash(prepared: Any) -> None:
    house = prepared.house
    job_id, donor, _ = prepared.submit()
    worker = house.start_worker(include="crashing")
    found = house.wait_job(job_id)
    assert (found["state"], found["failure"]["code"]) == ("failed", "worker_crash")
    assert 1 <= count(house, job_id, to_state="running") <= 5  # those that help die of the same segments
    assert found["outputs"] == 0
    assert worker.poll() is None  # only its child died, each time
    assert house.do("uses", consent_id=donor) == {"released": 1}
    house.wait(lambda: house.do("work_folders") == 0)


def test_a_withdrawal_in_the_middle_of_the_work_stops_it_within_ten_seconds_and_leaves_no_output(prepared: Any) -> None:
    house = prepared.house
    before = house.do("objects", prefix="output")
    job_id, donor, person = prepared.submit()
    house.start_worker()
    house.wait_rendering(job_id)
    begin = time.monotonic()
    assert house.do("withdraw", consent_id=person) == "withdrawn"
    found = house.do("job", job_id=job_id)
    assert (found["state"], found["failure"]["code"]) == ("refused", "consent_withdrawn")
    house.wait(lambda: house.do("work_folders") == 0, seconds=REACTION)
    assert time.monotonic() - begin < REACTION
    found = house.do("job", job_id=job_id)
    assert (found["state"], found["outputs"]) == ("refused", 0)
    assert house.do("objects", prefix="output") == before
    assert house.do("uses", consent_id=donor) == {"released": 1}


def test_a_cancelation_in_the_middle_of_the_work_stops_it_too(prepared: Any) -> None:
    house = prepared.house
    job_id, _, _ = prepared.submit()
    house.start_worker()
    house.wait_rendering(job_id)
    assert house.do("cancel", job_id=job_id) == "canceled"
    house.wait(lambda: house.do("work_folders") == 0, seconds=REACTION)
    assert house.do("job", job_id=job_id)["outputs"] == 0


def test_two_workers_and_six_messages_make_one_run(prepared: Any) -> None:
    house = prepared.house
    gate = house.start_worker("cpu.media")
    job_id, _, _ = prepared.submit()
    house.wait_job(job_id, "ready")
    house.kill(gate)
    for _ in range(5):
        house.do("age_queue", minutes=2)
        house.do("tick")
    assert len(list((house.home / "spool").glob("offline/*.msg"))) >= 5
    house.start_worker("interactive,offline")
    house.start_worker("interactive,offline")
    found = house.wait_job(job_id, "succeeded")
    assert found["outputs"] == 1
    assert count(house, job_id, to_state="running") == 1


def test_a_lost_message_is_sent_again_by_the_sweeper(prepared: Any) -> None:
    house = prepared.house
    job_id, _, _ = prepared.submit()
    messages = house.wait(lambda: list((house.home / "spool").glob("cpu*/*.msg")))
    for message in messages:
        message.unlink()
    house.start_worker()
    house.wait(lambda: " ready." in house.logs().rpartition("--- worker-")[2])
    assert house.do("job", job_id=job_id)["state"] == "queued"  # nobody knows of it
    house.do("age_queue", minutes=2)
    house.wait_job(job_id, "ready", "running", "finishing", "succeeded")
    house.do("cancel", job_id=job_id)


def test_a_worker_that_hangs_past_its_lease_cannot_publish_when_it_wakes(prepared: Any) -> None:
    house = prepared.house
    job_id, _, _ = prepared.submit()
    sleeper = house.start_worker()
    house.wait_rendering(job_id)
    house.freeze(sleeper)
    try:
        house.wait_job(job_id, "ready")
        house.start_worker()
        house.wait_rendering(job_id)
    finally:
        os.killpg(sleeper.pid, signal.SIGCONT)
    found = house.wait_job(job_id, "succeeded")
    assert found["outputs"] == 1
    assert count(house, job_id, to_state="running") == 2
    house.wait(lambda: house.do("work_folders") == 0)
    assert count(house, job_id, to_state="succeeded") == 1
