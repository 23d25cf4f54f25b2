"""A video shared by workers: the same frames from any number of them, whoever dies, and nothing left when it ends."""

from __future__ import annotations

import hashlib
import random
import time
from pathlib import Path
from typing import Any

import av
import pytest

from worker.media.sample_clip import make_clip

MARK = "5e6d3a9b40c1f287"
SEED = 48
REACTION = 10.0  # seconds from a withdrawal to the end of all work


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Path:
    """A video of five segments, of a width at which x264 repeats itself (see `ENCODER_THREADS`)."""
    path = tmp_path_factory.mktemp("clip") / "grace.mp4"
    make_clip(samples / "grace_hopper.jpg", path, seconds=14, size=(640, 480), fps=15)
    return path


def frames(path: Path) -> list[str]:
    """A hash of each decoded frame."""
    with av.open(str(path)) as source:
        return [
            hashlib.sha256(frame.to_ndarray(format="yuv420p").tobytes()).hexdigest() for frame in source.decode(video=0)
        ]


def submit(prepared: Any) -> str:
    """A job whose output gets the same mark as all others of this module, so that frames can be compared."""
    job_id, _, _ = prepared.submit()
    prepared.house.do("set_mark", job_id=job_id, mark=MARK)
    return str(job_id)


def result(house: Any, job_id: str, path: Path, *, seconds: float = 150.0) -> list[str]:
    """The frames of the one output, once it is there; its mark is free again then."""
    assert house.wait_job(job_id, "succeeded", seconds=seconds)["outputs"] == 1
    output = house.do("output", job_id=job_id, dest=str(path))
    assert output["mark_read"] == MARK
    house.wait(lambda: not house.do("job", job_id=job_id)["segments"] and not house.do("objects", prefix="part"))
    house.do("free_mark", job_id=job_id)
    return frames(path)


@pytest.fixture(scope="module")
def reference(_module_house: Any, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What one worker makes of the clip."""
    worker = _module_house.house.start_worker()
    job_id = submit(_module_house)
    found = result(_module_house.house, job_id, tmp_path_factory.mktemp("reference") / "out.mp4")
    _module_house.house.kill(worker)
    assert len(found) == 210
    return found


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.soak)])
def test_two_and_four_workers_make_the_frames_that_one_makes(
    prepared: Any, reference: list[str], tmp_path: Path, workers: int
) -> None:
    house = prepared.house
    job_id = submit(prepared)
    for _ in range(workers):
        house.start_worker()
    seen: set[str] = set()

    def rendered() -> bool:
        found = house.do("job", job_id=job_id)
        seen.update(each["lease_owner"] for each in found["segments"] if each["lease_owner"])
        return found["state"] in ("finishing", "succeeded")

    house.wait(rendered, every=0.05)
    assert len(seen) >= 2, "nobody helped"
    assert result(house, job_id, tmp_path / "out.mp4") == reference


def test_random_kills_of_workers_change_nothing_in_the_frames(
    prepared: Any, reference: list[str], tmp_path: Path
) -> None:
    house = prepared.house
    job_id = submit(prepared)
    workers = [house.start_worker(), house.start_worker()]
    kill_at_random(house, job_id, workers, random.Random(SEED), every=3.0, most=4)
    assert result(house, job_id, tmp_path / "out.mp4") == reference


def kill_at_random(
    house: Any, job_id: str, workers: list[Any], chance: random.Random, *, every: float, most: int
) -> int:
    """kill -9 of one of `workers` each `every` seconds of rendering, a new one in its place; how many were killed."""
    killed = 0
    house.wait_rendering(job_id)
    while killed < most:
        due = time.monotonic() + every
        # The death comes at a moment of its own, but never when the job is done.
        house.wait(lambda: time.monotonic() > due or ended(house, job_id), seconds=900)  # noqa: B023
        if ended(house, job_id):
            break
        victim = chance.randrange(len(workers))
        house.kill(workers[victim])
        workers[victim] = house.start_worker()
        killed += 1
    return killed


def ended(house: Any, job_id: str) -> bool:
    return bool(house.do("job", job_id=job_id)["final"])


def test_a_death_before_the_join_costs_no_segment_and_a_damaged_part_is_made_again(
    prepared: Any, reference: list[str], tmp_path: Path
) -> None:
    house = prepared.house
    job_id = submit(prepared)

    def all_done() -> Any:
        found = house.do("job", job_id=job_id)["segments"]
        return found if found and all(each["state"] == "done" for each in found) else None

    def starts() -> list[int]:
        return [each["starts"] for each in house.do("job", job_id=job_id)["segments"]]

    deadly = house.start_worker(include="joinless")
    house.wait(all_done)
    house.wait(lambda: house.do("job", job_id=job_id)["starts"] >= 3)  # it died at the join, and again
    house.kill(deadly)
    assert starts() == [1, 1, 1, 1, 1]

    house.wait(lambda: house.do("job", job_id=job_id)["state"] == "ready")
    house.do("damage_part", job_id=job_id, number=2)
    house.do("damage_part", job_id=job_id, number=3, gone=True)
    deadly = house.start_worker(include="joinless")
    house.wait(lambda: starts() == [1, 1, 2, 2, 1] and all_done())
    house.kill(deadly)
    house.start_worker()
    assert result(house, job_id, tmp_path / "out.mp4") == reference


@pytest.mark.parametrize("how", ["withdraw", "cancel"])
def test_the_end_of_a_job_stops_all_its_segments_and_removes_their_parts(prepared: Any, how: str) -> None:
    house = prepared.house
    job_id, donor, _ = prepared.submit()
    for _ in range(2):
        house.start_worker()

    def in_the_middle() -> bool:
        found = house.do("job", job_id=job_id)["segments"]
        return any(s["state"] == "done" for s in found) and sum(s["state"] == "running" for s in found) >= 2

    house.wait(in_the_middle, every=0.05)
    assert house.do("objects", prefix="part")
    begin = time.monotonic()
    if how == "withdraw":
        house.do("withdraw", consent_id=donor)
    else:
        house.do("cancel", job_id=job_id)
    house.wait(lambda: house.do("work_folders") == 0, seconds=REACTION)
    house.wait(lambda: not house.do("job", job_id=job_id)["segments"], seconds=REACTION)
    assert house.do("objects", prefix="part") == 0
    assert time.monotonic() - begin < REACTION
    assert house.do("job", job_id=job_id)["outputs"] == 0


@pytest.mark.soak
def test_a_kill_every_fifteen_seconds_changes_nothing_in_a_sixty_second_clip(
    prepared: Any, samples: Path, tmp_path: Path
) -> None:
    house = prepared.house
    path = tmp_path / "minute.mp4"
    make_clip(samples / "grace_hopper.jpg", path, seconds=60, size=(1920, 1080))  # long enough on a quick machine
    gate = house.start_worker("cpu.media")
    target = house.upload_ready(path, "target")
    house.kill(gate)
    longer = type(prepared)(house, prepared.source, target)
    workers = [house.start_worker()]
    expected = result(house, submit(longer), tmp_path / "one.mp4", seconds=900)
    assert len(expected) == 1500
    job_id = submit(longer)
    workers += [house.start_worker(), house.start_worker()]
    assert kill_at_random(house, job_id, workers, random.Random(SEED), every=15.0, most=60) >= 2
    assert result(house, job_id, tmp_path / "many.mp4", seconds=900) == expected
