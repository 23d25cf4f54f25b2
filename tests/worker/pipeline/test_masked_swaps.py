"""What a mask keeps out of a swap stays as it was in the frame, also after the enhancer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.worker import neural_graphs as graphs
from worker import model_choice
from worker.faces.align import TEMPLATES
from worker.faces.neural.donors import Identity
from worker.faces.neural.embeddings import unit
from worker.inference.importing import import_folder
from worker.inference.registry import ModelSet
from worker.inference.sessions import LocalRunner
from worker.inference.types import ModelError
from worker.media.planes import Planes
from worker.model_choice import ModelsMissingError
from worker.pipeline.analysed import FrameFace
from worker.pipeline.neural_swapping import NeuralTrackSwapper
from worker.spec import MASK_REGIONS, Masking

SWAPPER = "hyperswap_1a_256"
DONOR = Identity(unit(np.ones(512, np.float32)), 20.0, unit(np.ones(512, np.float32)))
OCCLUSION = Masking(types=("box", "occlusion"), models=("xseg_1",))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelSet:
    """The swapper makes its picture much lighter; the occluder takes what is blue for the face."""
    folder = tmp_path_factory.mktemp("operator")
    made = {name: graphs.graph_of(name) for name in ("arcface_w600k_r50", "gfpgan_1.4", "xseg_1", "bisenet_resnet_34")}
    made["xseg_2"] = graphs.occluder()
    made[SWAPPER] = graphs.swapper(256, shade=True, gain=10.0)
    for name, model in made.items():
        onnx.save(model, folder / f"{name}.onnx")
    return import_folder(folder, folder / "cache")


@pytest.fixture(scope="module")
def runner(models: ModelSet, models_dir: Path) -> LocalRunner:
    return LocalRunner(models_dir, models=models)


def scene() -> np.ndarray:
    """Blue to the left, red to the right of the middle of the face."""
    rgb = np.zeros((480, 640, 3), np.uint8)
    rgb[:, :320], rgb[:, 320:] = (0, 0, 250), (90, 0, 0)
    return rgb


def face() -> FrameFace:
    """Looking at the camera in the middle of the picture."""
    five = (np.array(TEMPLATES["arcface_128"], np.float32) - 0.5) * 220 + (320, 240)
    landmarks = (graphs.template_68() - 0.5) * 160 + (320, 240)
    landmarks[36:42], landmarks[42:48] = five[0], five[1]
    landmarks[30], landmarks[48], landmarks[54] = five[2], five[3], five[4]
    return FrameFace(0, 0.9, np.array([240, 160, 160, 160], np.float32), landmarks.astype(np.float32))


def swapped(runner: Any, models: ModelSet, masking: Masking | None, frame: Any, **more: Any) -> Any:
    plan = NeuralTrackSwapper(runner, models, SWAPPER, DONOR, masking=masking, **more)
    step = plan.begin(frame, face(), 0)
    for _ in plan.later:
        step = step.go_on(frame) if step is not None else None
    return frame


def changed(rgb: np.ndarray) -> np.ndarray:
    return np.abs(rgb.astype(int) - scene()).max(axis=2)


@pytest.mark.parametrize("enhancer", ["", "gfpgan_1.4"])
def test_what_is_in_front_of_the_face_stays_as_it_was(runner, models, enhancer):
    class Lighter:
        """An enhancer that would show wherever it is blended in."""

        def submit(self, model: str, inputs: Mapping[str, Any]) -> Any:
            run = runner.submit(model, inputs)
            if model != "gfpgan_1.4":
                return run
            made = {"output": run.result()["output"] + np.float32(0.5)}
            return type("Run", (), {"result": lambda _: made})()

    found = changed(swapped(Lighter(), models, OCCLUSION, scene(), enhancer=enhancer))
    assert found[:, 322:].max() == 0
    assert found[220:260, 260:300].min() > 20
    everything = changed(swapped(Lighter(), models, None, scene(), enhancer=enhancer))
    assert everything[220:260, 340:380].min() > 20


@pytest.mark.parametrize("boost", [1, 2])
def test_planes_are_masked_alike_however_finely_the_face_is_made(runner, models, boost):
    before = Planes((640, 480))
    before.paste(before.whole, scene())
    frame = Planes((640, 480))
    frame.buffer[:] = before.buffer
    swapped(runner, models, OCCLUSION, frame, pixel_boost=boost)
    np.testing.assert_array_equal(frame.y[:, 326:], before.y[:, 326:])
    np.testing.assert_array_equal(frame.v[:, 164:], before.v[:, 164:])
    assert np.abs(frame.y[230:250, 270:300].astype(int) - before.y[230:250, 270:300]).min() > 10


def test_regions_and_areas_show_alone_or_not_at_all(runner, models):
    parser = Masking(types=("region",), models=("bisenet_resnet_34",))
    skin = changed(swapped(runner, models, replace(parser, regions=("skin",)), scene()))
    assert skin[:, :318].max() == 0  # to the stand-in, red is skin and all else is hair
    assert changed(swapped(runner, models, replace(parser, regions=("nose",)), scene())).max() == 0
    lower = changed(swapped(runner, models, Masking(types=("area",), areas=("lower_face",)), scene()))
    assert lower[: 240 - 25].max() == 0
    assert lower[275:285, 315:325].min() > 20


def test_the_minimum_of_all_masks_shows(runner, models):
    both = Masking(types=("occlusion", "region", "area"), models=("xseg_1", "bisenet_resnet_34"))
    assert changed(swapped(runner, models, both, scene())).max() == 0  # what is blue is not skin
    several = replace(OCCLUSION, models=("xseg_1", "xseg_2"))
    one, two = (swapped(runner, models, masking, scene()) for masking in (OCCLUSION, several))
    np.testing.assert_array_equal(one, two)


def test_the_box_keeps_away_from_the_edges_of_the_square(runner, models):
    plain, same, narrow = (
        changed(swapped(runner, models, masking, scene()))
        for masking in (None, Masking(), Masking(padding=(0, 0, 40, 0)))
    )
    np.testing.assert_array_equal(plain, same)
    rows = [np.flatnonzero(found.max(axis=1)) for found in (plain, narrow)]
    assert abs(rows[0][0] - rows[1][0]) <= 1
    assert rows[1][-1] < rows[0][-1] - 60
    sharp = changed(swapped(runner, models, Masking(blur=0.0), scene()))
    assert (sharp > 20).sum() > 1.2 * (plain > 20).sum()


def test_a_blend_is_that_share_of_the_enhanced_face(runner, models):
    class Lighter:
        def submit(self, model: str, inputs: Mapping[str, Any]) -> Any:
            run = runner.submit(model, inputs)
            if model != "gfpgan_1.4":
                return run
            made = {"output": run.result()["output"] + np.uint8(51)}
            return type("Run", (), {"result": lambda _: made})()

    without = swapped(runner, models, None, scene()).astype(int)
    for blend in (0, 25, 100):
        frame = swapped(Lighter(), models, None, scene(), enhancer="gfpgan_1.4", enhancer_blend=blend)
        more = frame[240, 300].astype(int) - without[240, 300]
        assert more[1] == pytest.approx(51 * blend / 100, abs=1.5)
    untouched = NeuralTrackSwapper(runner, models, SWAPPER, DONOR, enhancer="gfpgan_1.4", enhancer_blend=0)
    assert untouched.later == ("paste",)


def test_all_runs_of_a_face_are_handed_in_before_one_is_waited_for(runner, models):
    class Noting:
        def __init__(self) -> None:
            self.submitted: list[str] = []

        def submit(self, model: str, inputs: Mapping[str, Any]) -> Any:
            self.submitted.append(model)
            return runner.submit(model, inputs)

    noting = Noting()
    masking = Masking(types=("occlusion", "region"), models=("xseg_1", "bisenet_resnet_34"))
    NeuralTrackSwapper(noting, models, SWAPPER, DONOR, masking=masking).begin(scene(), face(), 0)
    assert noting.submitted == [SWAPPER, "xseg_1", "bisenet_resnet_34"]


def test_a_mask_that_fails_leaves_the_frame_as_it_was(runner, models):
    class Failing:
        def submit(self, model: str, inputs: Mapping[str, Any]) -> Any:
            def result(_: Any) -> Any:
                raise ModelError("engine_failed", "it ended")

            return type("Run", (), {"result": result})() if model == "xseg_1" else runner.submit(model, inputs)

    frame = scene()
    plan = NeuralTrackSwapper(Failing(), models, SWAPPER, DONOR, masking=OCCLUSION)
    pending = plan.begin(frame, face(), 0)
    with pytest.raises(ModelError):
        pending.go_on(frame)
    assert changed(frame).max() == 0
    assert plan.facts().replaced == 0


def test_a_mask_whose_model_is_not_installed_is_refused_at_once(runner, models):
    with pytest.raises(ModelError) as caught:
        NeuralTrackSwapper(runner, models.only([SWAPPER, "arcface_w600k_r50"]), SWAPPER, DONOR, masking=OCCLUSION)
    assert caught.value.code == "model_missing"


def test_what_auto_means_depends_on_what_is_installed():
    assert model_choice.mask_types(("auto",), ()) == ("box",)
    assert model_choice.mask_types(("auto",), ("xseg_3", "gfpgan_1.4")) == ("box", "occlusion")
    assert model_choice.mask_types(("auto", "region"), ()) == ("box", "region")
    assert model_choice.mask_types(("area",), ("xseg_1",)) == ("area",)
    assert model_choice.mask_models(("box", "occlusion"), (), ("xseg_3", "xseg_2")) == ("xseg_2",)
    assert model_choice.mask_models(("occlusion",), ("xseg_3", "xseg_1"), ("xseg_1", "xseg_3")) == ("xseg_1", "xseg_3")
    assert model_choice.mask_models(("area", "box"), (), ()) == ()
    with pytest.raises(ModelsMissingError, match="bisenet_resnet_34"):
        model_choice.mask_models(("region",), (), ("xseg_1",))
    with pytest.raises(ModelsMissingError, match="xseg_2"):
        model_choice.mask_models(("occlusion",), ("xseg_2",), ("xseg_1",))
    assert len(MASK_REGIONS) == 10
