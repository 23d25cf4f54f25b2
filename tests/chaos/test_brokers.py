"""The same work over Redis, a broker that dies and comes back, and a disk that is full."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


class Redis:
    """A Redis server of the test's own, which may be killed and started again with what it had on disk."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = folder
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--appendonly", "yes", "--save", "", "--loglevel", "warning"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        pytest.fail("The Redis server did not start.")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=10)
            self.process = None


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Redis]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    server = Redis(tmp_path)
    server.start()
    yield server
    server.kill()


def prepare(house: Any, samples: Path) -> tuple[str, str, str, str]:
    source = house.upload_ready(samples / "astronaut.jpg", "source")
    target = house.upload_ready(samples / "grace_hopper.jpg", "target")
    donor = house.do("ask", role="face_donor", source=source)
    person = house.do("ask", role="target_person", target=target)
    return source, target, donor, person


@pytest.mark.redis
def test_over_redis_a_job_publishes_once_also_when_its_worker_was_killed(
    open_house: Callable[..., Any], samples: Path, clip: Path, tmp_path: Path
) -> None:
    url = os.environ.get("TEST_REDIS_URL")
    if not url:
        pytest.skip("TEST_REDIS_URL names no Redis server")
    house = open_house(REDIS_URL=url, REDIS_KEY_PREFIX=f"imprimatur-{secrets.token_hex(6)}:")
    house.start_worker("ctl", beat=True)
    worker = house.start_worker()
    source = house.upload_ready(samples / "astronaut.jpg", "source")
    target = house.upload_ready(clip, "target")
    donor = house.do("ask", role="face_donor", source=source)
    person = house.do("ask", role="target_person", target=target)
    job_id = house.do("submit", source=source, target=target, donor=donor, person=person)
    house.wait_rendering(job_id)
    house.kill(worker)
    house.start_worker()
    found = house.wait_job(job_id, "succeeded")
    assert found["outputs"] == 1
    output = house.do("output", job_id=job_id, dest=str(tmp_path / "out.mp4"))
    assert output["mark_read"] == output["mark_recorded"]


@pytest.mark.redis
def test_while_the_broker_is_dead_nothing_is_refused_and_all_is_done_after_its_return(
    open_house: Callable[..., Any], samples: Path, own_redis: Redis
) -> None:
    house = open_house(REDIS_URL=own_redis.url)
    house.start_worker("ctl", beat=True)
    house.start_worker()
    source, target, donor, person = prepare(house, samples)
    own_redis.kill()
    job_id = house.do("submit", source=source, target=target, donor=donor, person=person)
    assert house.do("job", job_id=job_id)["state"] == "queued"
    assert house.do("unsent") == 1
    assert house.do("attempts") == 1  # tried at once, in vain; kept
    own_redis.start()
    assert house.wait_job(job_id, "succeeded")["outputs"] == 1
    house.wait(lambda: house.do("unsent") == 0)


def test_a_full_disk_ends_the_job_by_its_name_and_the_house_goes_on(house: Any, samples: Path) -> None:
    work = house.home / "scratch"
    work.mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m,mode=700", "none", str(work)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        house.start_worker()
        source, target, donor, person = prepare(house, samples)
        job_id = house.do("submit", source=source, target=target, donor=donor, person=person)
        found = house.wait_job(job_id)
        assert (found["state"], found["failure"]["code"]) == ("failed", "disk_full")
        assert found["outputs"] == 0
        assert house.do("uses", consent_id=donor) == {"released": 1}
        house.wait(lambda: house.do("work_folders") == 0)
        subprocess.run(["mount", "-o", "remount,size=512m", str(work)], check=True)
        again = house.do("submit", source=source, target=target, donor=donor, person=person)
        house.wait_job(again, "succeeded")
    finally:
        for process in list(house.processes):
            house.kill(process)
        subprocess.run(["umount", "--lazy", str(work)], check=True)
