"""Both portraits as heads, their descriptors, one real engine, and a function that films and checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.worker.liveness.camera import filmed
from tests.worker.liveness.head import Head
from tests.worker.liveness.writing import write_clip
from worker.faces.analyse import analyse_image
from worker.faces.types import Floats, Rgb
from worker.gate.live.liveness import LivenessReport, examine
from worker.inference.client import ensure_engine, stop_engine
from worker.inference.sessions import LocalRunner

Check = Callable[..., LivenessReport]
PEOPLE = ("astronaut", "grace_hopper")


@pytest.fixture(scope="session")
def runner(models_dir: Path) -> LocalRunner:
    return LocalRunner(models_dir)


@pytest.fixture(scope="session")
def heads(samples: Path, runner: LocalRunner) -> Mapping[str, Head]:
    return {name: Head(samples / f"{name}.jpg", runner) for name in PEOPLE}


@pytest.fixture(scope="session")
def references(heads: Mapping[str, Head], runner: LocalRunner) -> Mapping[str, Floats]:
    found = {}
    for name, head in heads.items():
        descriptor = analyse_image(head.picture, runner)[0].descriptor
        assert descriptor is not None
        found[name] = descriptor
    return found


@pytest.fixture(scope="session")
def engine_socket(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("engine")
    yield ensure_engine(home, models_dir=models_dir)
    stop_engine(home)


@pytest.fixture
def check(tmp_path: Path, engine_socket: Path, references: Mapping[str, Floats]) -> Check:
    """Film `frames`, write them as `name` and have the clip checked against `actions` and the person `who`."""

    def run(
        frames: Iterable[Rgb],
        actions: Sequence[str],
        who: str,
        *,
        fps: float = 15.0,
        name: str = "clip.mp4",
        times: Sequence[float] | None = None,
        noise: float = 3.0,
        light: float = 1.0,
    ) -> LivenessReport:
        path = tmp_path / name
        write_clip(path, filmed(frames, fps, noise=noise, light=light), fps, times=times)
        return examine(
            path, actions=actions, references=[references[who]], engine_socket=engine_socket, work_dir=tmp_path
        )

    return run
