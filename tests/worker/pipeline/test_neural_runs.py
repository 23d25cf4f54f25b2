"""Whole jobs with an operator's models (stand-ins): the real engine, the real child, the real codecs."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.worker.pipeline.conftest import ENHANCER, SWAPPER
from watermark.image import read as read_mark
from watermark.pattern import MarkPattern
from watermark.video import read as read_video_mark
from worker.inference.client import EngineClient, connect
from worker.inference.registry import BUILTIN, ModelSet
from worker.inference.types import ModelError
from worker.media import client
from worker.pipeline import video
from worker.pipeline.analysed import Form
from worker.pipeline.analysis import Analysis
from worker.pipeline.chosen_models import with_models
from worker.pipeline.run import JobResult, analyse, join_job, run_job, segment_worker
from worker.pipeline.segments import Namer, Part, Segment, plan
from worker.spec import JobSpec


@pytest.fixture
def neural(
    clip: Path, clip_analysis: Any, make_spec: Callable[..., JobSpec], operator_engine: Path
) -> tuple[JobSpec, ModelSet]:
    """A video job, encoded without loss, so that equal files mean equal frames."""
    spec = make_spec(clip, clip_analysis[0], swapper=SWAPPER, enhancer=ENHANCER, crf=0)
    return with_models(spec, lambda: operator_engine)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, JobResult]:
    """What one process made of the video job, once it did."""
    return {}


@pytest.fixture
def alone(
    neural: tuple[JobSpec, ModelSet],
    pattern: bytes,
    operator_engine: Path,
    kept: dict[str, JobResult],
    tmp_path_factory: Any,
) -> JobResult:
    """What one process makes of it."""
    if not kept:
        spec = replace(neural[0], output_path=tmp_path_factory.mktemp("alone") / "out.mp4")
        kept["result"] = run_job(spec, pattern=pattern, engine_socket=operator_engine, cards=neural[1])
    return kept["result"]


def test_a_video_is_swapped_enhanced_labelled_and_marked_and_says_with_what(
    neural: tuple[JobSpec, ModelSet],
    alone: JobResult,
    clip: Path,
    clip_analysis: Any,
    mark_key: Any,
    mark_id: bytes,
) -> None:
    cards, result = neural[1], alone
    quality = result.quality["0"]
    assert (quality["frames_replaced"], quality["frames_left_alone"], quality["frames_judged"]) == (50, 0, 5)
    assert (quality["swapper"], quality["enhancer"], quality["model_set"]) == (SWAPPER, ENHANCER, cards.id())
    assert cards.id().startswith("extended-")
    assert 0 < quality["distance_to_source"] < 2
    assert {"swap", "paste", "enhance", "mark", "encode"} <= set(result.timings)
    (face,) = next(iter(Analysis.load(clip_analysis[0]).frames())).faces
    x, y = (int(value) for value in face.landmarks[:, :2].mean(axis=0))
    with client.open_frames(clip) as before, client.open_frames(result.output) as after:
        one, two = (next(frames.frames(0.0, 1))[1].astype(int) for frames in (before, after))
    change = two - one
    assert change[y - 10 : y + 10, x - 10 : x + 10].mean() < -20, "the swapper's shade is on the face"
    assert abs(change[400:, :100]).max() <= 12, "far from face and label there is nothing but the mark"
    with client.open_frames(result.output) as frames:
        assert read_video_mark(frames, [mark_key]).mark_id == mark_id


def test_one_process_and_two_give_identical_files(
    neural: tuple[JobSpec, ModelSet], alone: JobResult, clip_analysis: Any, pattern: bytes, operator_engine: Path
) -> None:
    spec, cards = neural
    segments = plan(Analysis.load(clip_analysis[0]))
    assert len(segments) == 2
    made: dict[int, tuple[Part, Path]] = {}

    def work(segment: Segment) -> None:
        path = spec.output_path.with_name(f"{segment.number}.mp4")
        with segment_worker(spec, pattern=pattern, engine_socket=operator_engine, threads=1, cards=cards) as worker:
            made[segment.number] = (worker.render(segment, path), path)

    threads = [threading.Thread(target=work, args=(segment,)) for segment in segments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result = join_job(spec, [made[number] for number in (0, 1)])
    assert result.output.read_bytes() == alone.output.read_bytes()
    assert (result.fingerprint, result.quality, result.duration) == (alone.fingerprint, alone.quality, alone.duration)


def test_a_photo_is_swapped_by_the_models_and_marked(
    samples: Path,
    make_spec: Callable[..., JobSpec],
    pattern: bytes,
    operator_engine: Path,
    mark_key: Any,
    mark_id: bytes,
    astronaut: Any,
    tmp_path: Path,
) -> None:
    path = tmp_path / "astronaut.jpg"
    shutil.copy(samples / "astronaut.jpg", path)
    summary = analyse(path, tmp_path / "a", engine_socket=operator_engine, work_dir=tmp_path)
    spec, cards = with_models(
        make_spec(path, tmp_path / "a", swapper=SWAPPER, enhancer=ENHANCER), lambda: operator_engine
    )
    result = run_job(spec, pattern=pattern, engine_socket=operator_engine, cards=cards)
    rgb = client.decode_image(result.output)
    assert read_mark(rgb, [mark_key], effort="fast").mark_id == mark_id
    change = rgb.astype(int) - astronaut
    x, y, width, height = (int(value) for value in summary.tracks[0].box)
    assert change[y + height // 3 : y + height // 2, x + width // 3 : x + width // 2].mean() < -20
    assert np.abs(change[300:, :]).max() <= 12
    quality = result.quality["0"]
    assert (quality["frames_judged"], quality["model_set"]) == (1, cards.id())
    assert abs(quality["target_yaw"]) < 45


class Counting:
    """The engine, which holds the first swapped face back until three more are handed in, and counts those that are."""

    def __init__(self, engine: EngineClient) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._enough = threading.Event()
        self.open = self.most = 0

    def run(self, model: str, inputs: Any) -> Any:
        return self._engine.run(model, inputs)

    def submit(self, model: str, inputs: Any) -> Any:
        pending = self._engine.submit(model, inputs)
        if model != SWAPPER:
            return pending
        with self._lock:
            self.open += 1
            self.most = max(self.most, self.open)
        if self.open >= 4:
            self._enough.set()
        return SimpleNamespace(result=lambda: self._result(pending))

    def _result(self, pending: Any) -> Any:
        assert self._enough.wait(60), "frame by frame, nothing for the engine to batch"
        with self._lock:
            self.open -= 1
        return pending.result()


def test_several_frames_are_in_the_engine_at_a_time_and_never_many(
    neural: tuple[JobSpec, ModelSet], pattern: bytes, operator_engine: Path, tmp_path: Path
) -> None:
    spec, cards = neural
    with connect(operator_engine, "offline", cards) as connection:
        counting = Counting(connection)
        mark = MarkPattern.from_bytes(pattern)
        with video.opened(spec, mark, counting, lambda *_: None, lambda: None, models=cards) as renderer:
            part = renderer.render(Segment(0, 0, 24), tmp_path / "part.mp4")
    assert part.tracks["0"].replaced == 25
    assert 4 <= counting.most <= 12
    assert counting.open == 0


def test_media_are_analysed_by_the_models_where_that_is_asked_for(
    clip: Path, operator_engine: Path, tmp_path: Path
) -> None:
    _, cards = with_models(_any(clip, tmp_path, swapper=SWAPPER), lambda: operator_engine)
    summary = analyse(clip, tmp_path / "a", engine_socket=operator_engine, work_dir=tmp_path, cards=cards, neural=True)
    assert (summary.form, summary.model_set, summary.frames) == (Form(68, 2, 512), cards.id(), 50)
    assert [track.frames for track in summary.tracks] == [50]


def test_models_that_are_not_there_are_refused_before_anything_is_made(
    clip: Path, operator_engine: Path, engine_socket: Path, tmp_path: Path
) -> None:
    wanted = _any(clip, tmp_path, swapper=SWAPPER)
    for spec, socket in ((wanted, engine_socket), (replace(wanted, swapper="inswapper_128"), operator_engine)):
        with pytest.raises(ModelError) as caught:
            with_models(spec, lambda socket=socket: socket)  # type: ignore[misc]
        assert caught.value.code == "model_missing"
        assert "Nothing was made" in caught.value.message
    mesh, cards = with_models(_any(clip, tmp_path), lambda: pytest.fail("nobody needs the engine for that"))
    assert (mesh.model_set, cards) == (BUILTIN.id(), BUILTIN)


def test_a_segment_is_named_by_the_models_that_make_it_and_by_no_other(
    neural: tuple[JobSpec, ModelSet], pattern: bytes, operator_engine: Path
) -> None:
    spec, cards = neural
    segment = Segment(0, 0, 24)
    plain = replace(spec, enhancer="")
    fewer = with_models(plain, lambda: operator_engine)[1]
    assert set(cards.extra) - set(fewer.extra) == {ENHANCER}
    names = {
        Namer(each, pattern).address(segment)
        for each in (
            spec,
            plain,
            replace(plain, model_set=fewer.id()),
            replace(spec, swapper="inswapper_128"),
            replace(spec, pixel_boost=2),
        )
    }
    assert len(names) == 5


def _any(clip: Path, folder: Path, **more: Any) -> JobSpec:
    from worker.spec import SourcePhoto, Swap

    return JobSpec(
        job_id="job",
        kind="video",
        target_path=clip,
        target_sha256="",
        analysis_path=folder / "a",
        output_path=folder / "out.mp4",
        output_mime="video/mp4",
        swaps=(Swap(0, (SourcePhoto(clip, ""),)),),
        **more,
    )
