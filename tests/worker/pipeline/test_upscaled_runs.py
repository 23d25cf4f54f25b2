"""Whole jobs whose result is larger than their target: the real engine, the real child, the real codecs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.worker import neural_graphs as graphs
from watermark.image import read as read_mark
from watermark.video import read as read_video_mark
from worker.inference.client import ensure_engine, stop_engine
from worker.inference.importing import cache_of
from worker.inference.store import ModelStore
from worker.inference.types import ModelError
from worker.media import client
from worker.pipeline.chosen_models import with_models
from worker.pipeline.errors import PipelineError
from worker.pipeline.run import analyse, run_job
from worker.pipeline.upscaling import sizes_of
from worker.spec import JobSpec, Masking

UPSCALER, OCCLUDER = "real_esrgan_x2", "xseg_1"
SET = ("yoloface_8n", "2dfan4", "arcface_w600k_r50", "inswapper_128", OCCLUDER, UPSCALER)


@pytest.fixture(scope="module")
def engine(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder, home = tmp_path_factory.mktemp("operator"), tmp_path_factory.mktemp("engine")
    graphs.install(ModelStore(folder, cache_of(models_dir)), *SET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMPRIMATUR_OPERATOR_MODELS", str(folder))
        socket = ensure_engine(home, models_dir=models_dir, providers="prefer:cpu")
    yield socket
    stop_engine(home)


def test_a_photo_is_enlarged_after_the_swap_and_labelled_and_marked_at_its_size(
    samples: Path, tmp_path: Path, make_spec: Callable[..., JobSpec], engine: Path, pattern: bytes, mark_key, mark_id
) -> None:
    photo = samples / "astronaut.jpg"
    analyse(photo, tmp_path / "a", engine_socket=engine, work_dir=tmp_path)
    results = {}
    for upscaler in ("", UPSCALER):
        spec = make_spec(photo, tmp_path / "a", name=f"out{upscaler}.png", upscaler=upscaler)
        spec, cards = with_models(spec, lambda: engine)
        assert set(cards.extra) == ({UPSCALER} if upscaler else set())  # the built-in swapper needs no other model
        results[upscaler] = run_job(spec, pattern=pattern, engine_socket=engine, cards=cards)
    plain, large = results[""], results[UPSCALER]
    assert (large.width, large.height) == (2 * plain.width, 2 * plain.height)
    one, two = (cv2.imread(str(each.output)) for each in (plain, large))
    assert two.shape == (1024, 1024, 3)
    assert read_mark(two[..., ::-1].copy(), [mark_key]).mark_id == mark_id
    # But for label and mark it is the smaller one, every pixel four times.
    pixels = np.abs(cv2.resize(two, (512, 512), interpolation=cv2.INTER_AREA).astype(int) - one)[200:, :]
    assert np.percentile(pixels, 99) <= 8
    quality = large.quality["0"]
    assert (quality["upscaler"], quality["masks"]) == (UPSCALER, [])
    assert quality["distance_to_source"] == pytest.approx(plain.quality["0"]["distance_to_source"], abs=0.05)
    assert "upscale" in large.timings


def test_a_video_is_enlarged_frame_by_frame_with_masks_that_the_engine_can_make(
    clip: Path, clip_analysis: Any, make_spec: Callable[..., JobSpec], engine: Path, pattern: bytes, mark_key, mark_id
) -> None:
    wanted = make_spec(
        clip,
        clip_analysis[0],
        swapper="inswapper_128",
        upscaler=UPSCALER,
        masking=Masking(types=("auto",)),
        scale=0.75,
        trim_end=0.4,
    )
    spec, cards = with_models(wanted, lambda: engine)
    assert (spec.masking.types, spec.masking.models) == (("box", "occlusion"), (OCCLUDER,))
    assert set(cards.extra) == set(SET)
    result = run_job(spec, pattern=pattern, engine_socket=engine, cards=cards)
    assert (result.width, result.height, result.frames) == (960, 720, 10)
    assert {"swap", "paste", "upscale", "mark", "encode"} <= set(result.timings)
    quality = result.quality["0"]
    assert (quality["upscaler"], quality["masks"]) == (UPSCALER, ["box", "occlusion"])
    assert quality["frames_judged"] >= 1
    with client.open_frames(clip) as before, client.open_frames(result.output) as after:
        one, two = (next(frames.frames(0.0, 1))[1] for frames in (before, after))
    small = cv2.resize(one, (480, 360), interpolation=cv2.INTER_AREA).repeat(2, axis=0).repeat(2, axis=1)
    assert two.shape == small.shape == (720, 960, 3)
    assert np.abs(two.astype(int) - small)[500:, :300].mean() < 5  # away from the label
    with client.open_frames(result.output) as frames:
        assert read_video_mark(frames, [mark_key]).mark_id == mark_id


def test_a_model_that_is_not_installed_is_refused_before_anything_is_made(
    clip: Path, clip_analysis: Any, make_spec: Callable[..., JobSpec], engine: Path
) -> None:
    spec = make_spec(clip, clip_analysis[0], swapper="inswapper_128")
    for changes in (
        {"upscaler": "real_esrgan_x4"},
        {"swapper": "mesh", "upscaler": "real_esrgan_x4"},
        {"masking": Masking(types=("region",))},
        {"masking": Masking(types=("occlusion",), models=("xseg_3",))},
    ):
        with pytest.raises(ModelError) as caught:
            with_models(replace(spec, **changes), lambda: engine)  # type: ignore[arg-type]
        assert caught.value.code == "model_missing"


def test_a_result_larger_than_can_be_read_again_is_refused(clip: Path, make_spec: Callable[..., JobSpec]) -> None:
    video = make_spec(clip, clip, upscaler="real_esrgan_x4")
    assert sizes_of(video, (640, 480)) == ((640, 480), (2560, 1920), False)
    assert sizes_of(replace(video, scale=0.5), (1920, 1080))[1] == (3840, 2160)
    assert sizes_of(replace(video, upscaler=""), (4096, 2304))[1] == (4096, 2304)
    photo = replace(video, kind="photo", output_mime="image/png")
    assert sizes_of(photo, (1200, 1600))[1] == (4800, 6400)
    for spec, size in ((video, (1920, 1080)), (photo, (2000, 2000))):
        with pytest.raises(PipelineError) as caught:
            sizes_of(spec, size)
        assert caught.value.code == "result_too_large"
