"""One real engine, one real clip and its analysis for the whole session: nothing here is played."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.worker import neural_graphs as graphs
from watermark.keys import MarkKey, derive_mark_key
from watermark.pattern import derive
from worker.inference.client import ensure_engine, stop_engine
from worker.inference.importing import cache_of
from worker.inference.store import ModelStore
from worker.media.sample_clip import make_clip
from worker.pipeline.run import AnalysisSummary, analyse
from worker.spec import JobSpec, SourcePhoto, Swap

MARK_ID = bytes(range(8))
SWAPPER, ENHANCER = "hyperswap_1a_256", "gfpgan_1.4"


@pytest.fixture(scope="session")
def engine_socket(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("engine")
    yield ensure_engine(home, models_dir=models_dir)
    stop_engine(home)


@pytest.fixture(scope="session")
def operator_folder(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An operator's models (stand-ins); the swapper changes the picture by the mean of the source, so that it shows."""
    folder = tmp_path_factory.mktemp("operator")
    models = {
        "yoloface_8n": graphs.yoloface_8n(),
        "2dfan4": graphs.landmarks_2dfan4(),
        "arcface_w600k_r50": graphs.arcface_w600k_r50(),
        SWAPPER: graphs.swapper(256, shade=True, gain=100.0),
        ENHANCER: graphs.enhancer(),
    }
    graphs.install(ModelStore(folder, cache_of(models_dir)), **models)
    return folder


@pytest.fixture(scope="session")
def operator_engine(
    operator_folder: Path, models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """An engine that finds that folder as the operator names it."""
    home = tmp_path_factory.mktemp("engine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMPRIMATUR_OPERATOR_MODELS", str(operator_folder))
        socket = ensure_engine(home, models_dir=models_dir, providers="prefer:cpu")
    yield socket
    stop_engine(home)


@pytest.fixture(scope="session")
def mark_key() -> MarkKey:
    return derive_mark_key(bytes(32), deployment="tests", year=2026)


@pytest.fixture(scope="session")
def mark_id() -> bytes:
    return MARK_ID


@pytest.fixture(scope="session")
def pattern(mark_key: MarkKey) -> bytes:
    return derive(MARK_ID, mark_key).to_bytes()


@pytest.fixture(scope="session")
def clip(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of Ada at 640x480 with sound."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    make_clip(samples / "astronaut.jpg", path, seconds=2, size=(640, 480))
    return path


@pytest.fixture(scope="session")
def clip_analysis(
    clip: Path, engine_socket: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, AnalysisSummary]:
    folder = tmp_path_factory.mktemp("analysis")
    out = folder / "clip.analysis"
    return out, analyse(clip, out, engine_socket=engine_socket, work_dir=folder)


@pytest.fixture
def make_spec(samples: Path, tmp_path: Path) -> Callable[..., JobSpec]:
    """Return a function that describes a job which puts the face of the other portrait on a target."""

    def make(target: Path, analysis: Path, *, name: str = "", source: Path | None = None, **more: Any) -> JobSpec:
        photo = target.suffix != ".mp4"
        source = source or samples / "grace_hopper.jpg"
        folder = tmp_path / "out"
        folder.mkdir(exist_ok=True)
        options = {
            "job_id": "job",
            "kind": "photo" if photo else "video",
            "target_path": target,
            "target_sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
            "analysis_path": analysis,
            "output_path": folder / (name or ("out.png" if photo else "out.mp4")),
            "output_mime": "image/png" if photo else "video/mp4",
            "swaps": (Swap(0, (SourcePhoto(source, hashlib.sha256(source.read_bytes()).hexdigest()),)),),
        }
        return JobSpec(**{**options, **more})

    return make
