"""Whole runs in which every stage and every answer of the engine is late by chance: no frame is lost or misplaced."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.worker.pipeline.conftest import SWAPPER
from watermark.pattern import MarkPattern
from worker.inference.client import EngineClient, connect
from worker.inference.registry import ModelSet
from worker.media.sample_clip import make_clip
from worker.pipeline.chosen_models import with_models
from worker.pipeline.neural_analysis import analyse_neural
from worker.pipeline.stages import Stages
from worker.pipeline.video import run_video
from worker.spec import JobSpec

FRAMES = 15
LATEST = 0.004  # seconds


class Late:
    """The engine, whose every answer comes some milliseconds late; also what is asked is handed in late."""

    def __init__(self, engine: EngineClient, chance: random.Random) -> None:
        self._engine = engine
        self._chance = chance

    def run(self, model: str, inputs: Any) -> Any:
        return self.submit(model, inputs).result()

    def submit(self, model: str, inputs: Any) -> Any:
        _wait(self._chance)
        pending = self._engine.submit(model, inputs)
        return SimpleNamespace(result=lambda: (_wait(self._chance), pending.result())[1])


def _wait(chance: random.Random) -> None:
    if chance.random() < 0.5:
        time.sleep(chance.random() * LATEST)


def _made(spec: JobSpec, cards: ModelSet, mark: MarkPattern, runner: Any) -> tuple[bytes, bytes]:
    """Analysis and output of the film, as files."""
    options: Any = {"report": lambda *_: None, "raise_if_stopped": lambda: None}
    analyse_neural(spec.target_path, spec.analysis_path, runner, cards, photo=False, **options)
    outcome = run_video(spec, mark, runner, models=cards, **options)
    assert outcome.frames == FRAMES
    return spec.analysis_path.read_bytes(), spec.output_path.read_bytes()


def _runs(connection: EngineClient) -> int:
    """How often the swapper ran so far."""
    return sum(model["runs"] for model in connection.status()["models"] if model["name"] == SWAPPER)


@pytest.mark.parametrize("runs", [10, pytest.param(200, marks=pytest.mark.soak)])
def test_whatever_is_late_the_analysis_and_the_frames_are_the_same(
    samples: Path,
    tmp_path: Path,
    make_spec: Callable[..., JobSpec],
    pattern: bytes,
    operator_engine: Path,
    monkeypatch: pytest.MonkeyPatch,
    runs: int,
) -> None:
    film = tmp_path / "film.mp4"
    assert make_clip(samples / "astronaut.jpg", film, seconds=FRAMES / 25, size=(640, 480), sound=False) == FRAMES
    # Without loss, so that equal files mean equal frames.
    spec, cards = with_models(make_spec(film, tmp_path / "analysis", swapper=SWAPPER, crf=0), lambda: operator_engine)
    mark = MarkPattern.from_bytes(pattern)
    make_stages = Stages.__init__
    with connect(operator_engine, "offline", cards) as connection:
        before = _runs(connection)  # the engine may have served the shorter version of this test
        expected = _made(spec, cards, mark, connection)
        for seed in range(runs):
            chance = random.Random(seed)

            def late(self: Any, name: str, stages: Any, chance: random.Random = chance, **options: Any) -> None:
                def work(stage: Any) -> Callable[[Any], Any]:
                    return lambda item: (_wait(chance), stage.work(item))[1]

                make_stages(self, name, [replace(stage, work=work(stage)) for stage in stages], **options)

            monkeypatch.setattr(Stages, "__init__", late)
            assert _made(spec, cards, mark, Late(connection, chance)) == expected, seed
        assert _runs(connection) - before == (runs + 1) * FRAMES
