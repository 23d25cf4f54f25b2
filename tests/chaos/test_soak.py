"""Long proofs (`make soak`): many jobs under random deaths, and memory that does not grow with the clip's length."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

JOBS = 20
SEED = 20261120


@pytest.mark.soak
def test_twenty_jobs_under_random_kills_are_each_published_exactly_once(
    open_house: Callable[..., Any], samples: Path, clip: Path
) -> None:
    house = open_house()
    house.start_worker("ctl", beat=True)
    workers = [house.start_worker(), house.start_worker()]
    source = house.upload_ready(samples / "astronaut.jpg", "source")
    target = house.upload_ready(clip, "target")
    jobs = []
    for _ in range(JOBS):
        donor = house.do("ask", role="face_donor", source=source)
        person = house.do("ask", role="target_person", target=target)
        jobs.append(house.do("submit", source=source, target=target, donor=donor, person=person))
    chance = random.Random(SEED)
    pause = threading.Event()
    for _ in range(JOBS):
        pause.wait(chance.uniform(1.0, 6.0))
        victim = chance.randrange(2)
        house.kill(workers[victim])
        workers[victim] = house.start_worker()
    for job_id in jobs:
        found = house.wait_job(job_id, "succeeded", seconds=900)
        assert found["outputs"] == 1
    house.wait(lambda: house.do("work_folders") == 0)


@pytest.mark.soak
def test_a_sixty_second_clip_peaks_within_a_tenth_of_a_ten_second_one(
    models_dir: Path, samples: Path, tmp_path: Path
) -> None:
    from worker.bench import jobs
    from worker.inference.client import ensure_engine, stop_engine
    from worker.media.sample_clip import make_clip

    engine = ensure_engine(tmp_path, models_dir=models_dir)
    peaks = []
    try:
        for seconds in (10, 60):
            clip = tmp_path / f"{seconds}.mp4"
            make_clip(samples / "astronaut.jpg", clip, seconds=seconds, size=(1920, 1080))
            peaks.append(jobs.run(clip, samples / "grace_hopper.jpg", tmp_path / str(seconds), engine).both.peak)
    finally:
        stop_engine(tmp_path)
    assert peaks[1] <= 1.10 * peaks[0]
