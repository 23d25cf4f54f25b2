"""A house of its own per test: databases, keys, spool and real worker processes in a temporary folder."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 150.0  # seconds; a machine shared with other tests is slow


class HouseError(Exception):
    """A request the house refused; `code` is the service's own."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(f"{answer['error']}: {answer['text']}")
        self.code = answer["code"]


class House:
    """One machine's Imprimatur. `do` runs a function of `driver.py` in it; workers are Celery's own processes."""

    def __init__(self, home: Path, models: Path, **environment: str) -> None:
        self.home = home
        self.environment = {
            **os.environ,
            "IMPRIMATUR_IN_HOUSE": "1",
            "IMPRIMATUR_HOME": str(home),
            "IMPRIMATUR_MODELS": str(models),
            "IMPRIMATUR_PROFILE": "evaluation",
            "LEASE_SECONDS": "3",
            "OMP_NUM_THREADS": "1",
            "REDIS_URL": "",
            **environment,
        }
        self.environment.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
        self.processes: list[subprocess.Popen[bytes]] = []
        self.started = 0
        home.mkdir(parents=True, exist_ok=True)
        self._driver = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("driver.py"))],
            cwd=REPOSITORY,
            env={**self.environment, "PYTHONPATH": f"{REPOSITORY}:{os.environ.get('PYTHONPATH', '')}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.do("migrate")
        self.do("people")

    def do(self, name: str, **arguments: Any) -> Any:
        """Call a function of the driver. Raises HouseError with the code of what it raised."""
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        self._driver.stdin.write(json.dumps({"do": name, "args": arguments}) + "\n")
        self._driver.stdin.flush()
        line = self._driver.stdout.readline()
        assert line, "the driver ended"
        answer = json.loads(line)
        if "error" in answer:
            raise HouseError(answer)
        return answer["result"]

    def start_worker(
        self,
        queues: str = "cpu.media,interactive,offline",
        *,
        beat: bool = False,
        include: str = "",
        **environment: str,
    ) -> Any:
        """Start a Celery worker with one process in a process group of its own."""
        number = self.started
        self.started += 1
        command = [sys.executable, "-m", "celery", "-A", "webapp.celery", "worker", "-c", "1", "-Q", queues]
        command += ["-n", f"w{number}@house", "--loglevel", "INFO"]
        if beat:
            command += ["--beat", "--schedule", str(self.home / f"beat-{number}")]
        if include:
            command += ["-I", include]
            environment["PYTHONPATH"] = f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"
        with (self.home / f"worker-{number}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def start_web(self, port: int) -> str:
        """Start the web server, as `serve` does; returns its address once it answers."""
        command = [sys.executable, "-m", "uvicorn", "webapp.asgi:application", "--host", "127.0.0.1", "--port"]
        with (self.home / "worker-web.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, str(port), "--log-level", "warning"],
                cwd=REPOSITORY,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        address = f"http://127.0.0.1:{port}"
        self.wait(lambda: _answers(f"{address}/healthz"))
        return address

    def kill(self, process: Any) -> None:
        """kill -9 of a worker and everything it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
        self.processes.remove(process)

    def freeze(self, process: Any) -> None:
        """Stop a worker and everything it started, but not amid a write: SQLite has one lock for the whole house."""

        def frozen() -> bool:
            os.killpg(process.pid, signal.SIGSTOP)
            if self.do("can_write"):
                return True
            os.killpg(process.pid, signal.SIGCONT)
            return False

        self.wait(frozen)

    def logs(self) -> str:
        """The end of all workers' logs, for a failed wait."""
        paths = sorted(self.home.glob("worker-*.log"))
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in paths)

    def wait(self, what: Callable[[], Any], *, seconds: float = PATIENCE, every: float = 0.2) -> Any:
        """Ask until the answer is true; fails with the workers' logs."""
        deadline = time.monotonic() + seconds
        while True:
            answer = what()
            if answer:
                return answer
            if any(process.poll() is not None for process in self.processes):
                pytest.fail(f"A worker ended by itself.\n{self.logs()}")
            if time.monotonic() > deadline:
                pytest.fail(f"Waited {seconds:.0f} s in vain.\n{self.logs()}")
            time.sleep(every)

    def upload_ready(self, path: Path, role: str) -> str:
        """Upload and wait until the asset is ready."""
        asset_id = self.do("upload", path=str(path), role=role)

        def settled() -> Any:
            state = self.do("asset", asset_id=asset_id)
            return state if state["state"] not in {"uploaded", "screening"} else None

        state = self.wait(settled)
        assert state["state"] == "ready", f"{state['failure']}\n{self.logs()}"
        return str(asset_id)

    def wait_job(self, job_id: str, *states: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """Wait until the job is in one of `states` (default: has ended)."""

        def there() -> Any:
            found = self.do("job", job_id=job_id)
            if states and found["final"] and found["state"] not in states:
                pytest.fail(f"The job ended as {found['state']}: {found['failure']}\n{self.logs()}")
            return found if (found["state"] in states if states else found["final"]) else None

        return dict(self.wait(there, seconds=seconds, every=0.1))

    def wait_rendering(self, job_id: str) -> dict[str, Any]:
        """Wait until a worker, the job's own or one that helps, is in the middle of the job's pixels."""

        def there() -> Any:
            found = self.do("job", job_id=job_id)
            if found["final"]:
                pytest.fail(f"The job ended as {found['state']}: {found['failure']}\n{self.logs()}")
            busy = [each for each in found["segments"] if each["state"] == "running" and each["frames_done"]]
            return found if busy else None

        return dict(self.wait(there, every=0.05))

    def close(self) -> None:
        """Stop everything this house started."""
        for process in list(self.processes):
            self.kill(process)
        if self._driver.stdin is not None:
            self._driver.stdin.close()
        self._driver.wait(timeout=30)
        from worker.inference.client import stop_engine

        stop_engine(self.home)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture
def open_house(tmp_path: Path, models_dir: Path) -> Iterator[Callable[..., House]]:
    """Make a house of the test's own; environment variables may be given. All are closed in the end."""
    opened: list[House] = []

    def make(**environment: str) -> House:
        opened.append(House(tmp_path / f"house-{len(opened)}", models_dir, **environment))
        return opened[-1]

    yield make
    for house in opened:
        house.close()


@dataclass(frozen=True)
class Prepared:
    """A house with a screened photo of Ada (source) and a screened clip of Ben (target)."""

    house: House
    source: str
    target: str

    def submit(self, **options: Any) -> tuple[str, str, str]:
        """A job with fresh consents of both: (job, donor's consent, target person's consent)."""
        donor = self.house.do("ask", role="face_donor", source=self.source)
        person = self.house.do("ask", role="target_person", target=self.target)
        job_id = self.house.do(
            "submit", source=self.source, target=self.target, donor=donor, person=person, options=options
        )
        return job_id, donor, person


@pytest.fixture(scope="module")
def _module_house(
    tmp_path_factory: pytest.TempPathFactory, models_dir: Path, samples: Path, clip: Path
) -> Iterator[Prepared]:
    house = House(tmp_path_factory.mktemp("house"), models_dir)
    try:
        house.start_worker("ctl", beat=True)
        worker = house.start_worker("cpu.media")
        source = house.upload_ready(samples / "astronaut.jpg", "source")
        target = house.upload_ready(clip, "target")
        house.kill(worker)
        yield Prepared(house, source, target)
    finally:
        house.close()


@pytest.fixture
def prepared(_module_house: Prepared) -> Iterator[Prepared]:
    """A house on the spool with its scheduler running, shared by the tests of a module; workers are each test's own."""
    scheduler = _module_house.house.processes[0]
    yield _module_house
    for process in list(_module_house.house.processes):
        if process is not scheduler:
            _module_house.house.kill(process)


@pytest.fixture
def house(open_house: Callable[..., House]) -> House:
    """A house on the spool with a scheduler and no worker yet."""
    made = open_house()
    made.start_worker("ctl", beat=True)
    return made


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Path:
    """A video of one face, long enough to be interrupted in its middle."""
    from worker.media.sample_clip import make_clip

    path = tmp_path_factory.mktemp("clip") / "grace.mp4"
    make_clip(samples / "grace_hopper.jpg", path, seconds=8, size=(640, 480), fps=15)
    return path
