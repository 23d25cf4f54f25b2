"""Fixtures for every room: the built-in models, the two sample portraits, and both databases."""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from watermark.bench.priority import ordinary_priority

SAMPLES = Path(__file__).parent / "samples"

APPEND_ONLY = ("0002_append_only", "0003_ledger")  # migrations that bring append-only triggers

cv2.setNumThreads(1)


def pytest_configure() -> None:
    """A run started in the background inherits an ignored Ctrl-C and would hand it on to the processes it ends so."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that uses the database may use the key store too: the two are one system."""
    for item in items:
        for marker in item.iter_markers("django_db"):
            if "databases" not in marker.kwargs:
                marker.kwargs["databases"] = ["default", "keys"]


@pytest.fixture(autouse=True)
def _ordinary_priority() -> Iterator[None]:
    """SVT-AV1, run by root, leaves real-time priority behind; a browser started with it can stop the whole machine."""
    yield
    ordinary_priority()


@pytest.fixture(autouse=True)
def _append_only_gives_way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Transactional tests empty every table at their end; the append-only triggers step aside for that moment only."""
    marker = request.node.get_closest_marker("django_db")
    fixtures = {"transactional_db", "live_server"} & set(request.fixturenames)
    if not ((marker and marker.kwargs.get("transaction")) or fixtures):
        yield
        return
    from django.db import connection

    request.getfixturevalue("transactional_db")
    triggers = [importlib.import_module(f"consent.migrations.{name}") for name in APPEND_ONLY]
    for each in triggers:
        each.install(connection)
    yield
    for each in triggers:
        each.remove(connection)


@pytest.fixture(autouse=True)
def _signer_remembers_nothing() -> None:
    """Every test has a log of its own; the signer lies in the test run's home and would remember an earlier one."""
    from django.conf import settings

    (Path(settings.KEYS_DIR) / "ledger" / "last-checkpoint").unlink(missing_ok=True)


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The built-in model set and the gate's; built once into the folder named by IMPRIMATUR_MODELS (var/models)."""
    from worker.inference import builtin, gate_models

    folder = Path(os.environ["IMPRIMATUR_MODELS"])
    builtin.build(folder)
    gate_models.build(folder)  # what cannot be fetched here is left out, as on any machine
    return folder


def _portrait(name: str) -> NDArray[np.uint8]:
    bgr = cv2.imread(str(SAMPLES / name), cv2.IMREAD_COLOR)
    assert bgr is not None
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    rgb.setflags(write=False)
    return np.asarray(rgb, np.uint8)


@pytest.fixture(scope="session")
def astronaut() -> NDArray[np.uint8]:
    """Eileen Collins, `uint8 [512, 512, 3]` RGB, read-only (see tests/samples/SOURCES.md)."""
    return _portrait("astronaut.jpg")


@pytest.fixture(scope="session")
def grace() -> NDArray[np.uint8]:
    """Grace Hopper, `uint8 [600, 512, 3]` RGB, read-only (see tests/samples/SOURCES.md)."""
    return _portrait("grace_hopper.jpg")


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of the two sample portraits."""
    return SAMPLES


@pytest.fixture(scope="session")
def portraits() -> list[Path]:
    """The public-domain portraits that lie beside some checkouts (shared/media/portraits); skips where they do not."""
    for folder in Path(__file__).resolve().parents:
        if found := sorted((folder / "shared" / "media" / "portraits").glob("*.jpg")):
            return found
    pytest.skip("no portraits beside this checkout")
