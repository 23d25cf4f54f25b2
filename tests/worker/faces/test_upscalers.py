"""A picture that a model enlarges in tiles is the picture enlarged: no seams, whatever its size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.worker import neural_graphs as graphs
from worker import model_choice
from worker.faces.neural.upscalers import OVERLAP, Upscaler, enlarge_planes
from worker.inference import registry
from worker.inference.importing import import_folder
from worker.inference.registry import ModelSet
from worker.inference.sessions import LocalRunner
from worker.media.planes import Planes

# One of each tile and factor; that of x8 would be 50 MB a tile.
NAMES = ("real_esrgan_x2", "span_kendata_x4", "real_web_photo_x4")
SIZES = ((300, 200), (256, 256), (129, 517), (40, 30), (257, 64), (1, 1))


def textured(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(sum(size)).integers(0, 256, (size[1], size[0], 3), np.uint8)


def repeated(rgb: np.ndarray, factor: int) -> np.ndarray:
    return rgb.repeat(factor, axis=0).repeat(factor, axis=1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelSet:
    folder = tmp_path_factory.mktemp("operator")
    for name in NAMES:
        onnx.save(graphs.graph_of(name), folder / f"{name}.onnx")
    onnx.save(graphs.upscaler("clear_reality_x4", rim=4), folder / "clear_reality_x4.onnx")
    return import_folder(folder, folder / "cache")


@pytest.fixture(scope="module")
def runner(models: ModelSet, models_dir: Path) -> LocalRunner:
    return LocalRunner(models_dir, models=models)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_a_graph_that_repeats_pixels_gives_exactly_the_enlarged_picture(runner, name, size):
    upscaler = Upscaler(runner, runner.models.card(name))
    rgb = textured(size)
    np.testing.assert_array_equal(upscaler.enlarge(rgb), repeated(rgb, upscaler.factor))


def test_what_a_net_gets_wrong_at_the_rim_of_a_tile_is_not_used(runner):
    upscaler = Upscaler(runner, runner.models.card("clear_reality_x4"))
    assert OVERLAP * 128 / 4 >= 4  # as much as a quarter of the overlap
    rgb = np.full((300, 420, 3), 200, np.uint8)
    large = upscaler.enlarge(rgb)
    assert (large[16:-16, 16:-16] == 200).all()
    assert (large[:16] == 0).all()  # the picture's own rim has no other tile


def test_tiles_that_differ_fade_into_each_other(runner):
    """A step at the seam would be as large as they differ."""

    class Uneven:
        def __init__(self) -> None:
            self.count = 0

        def submit(self, model: str, inputs: Mapping[str, Any]) -> Any:
            self.count += 1
            run = runner.submit(model, inputs)
            shift = 51 * (self.count % 2)
            answer = {"output": run.result()["output"] + np.uint8(shift)}
            return type("Run", (), {"result": lambda _: answer})()

    large = Upscaler(Uneven(), runner.models.card("span_kendata_x4")).enlarge(np.full((128, 400, 3), 100, np.uint8))
    steps = np.abs(np.diff(large.astype(int), axis=1)).max()
    assert large.max() - large.min() == 51
    assert steps <= 3


def test_many_tiles_are_with_the_engine_at_a_time(runner):
    class Counting:
        def __init__(self) -> None:
            self.open = self.most = 0

        def submit(self, model: str, inputs: Mapping[str, Any]) -> Any:
            self.open += 1
            self.most = max(self.most, self.open)
            run = runner.submit(model, inputs)

            def result(_: Any) -> Any:
                self.open -= 1
                return run.result()

            return type("Run", (), {"result": result})()

    counting = Counting()
    Upscaler(counting, runner.models.card("real_web_photo_x4")).enlarge(textured((500, 400)))
    assert counting.most >= 32
    assert counting.open == 0


def test_a_frame_of_planes_is_enlarged_in_its_own_colours(runner):
    upscaler = Upscaler(runner, runner.models.card("real_esrgan_x2"))
    planes, out = Planes((320, 180)), Planes((640, 360))
    planes.buffer[:] = 128
    planes.y[:, :160], planes.u[:, :80], planes.v[:, :80] = 90, 100, 150
    enlarge_planes(upscaler, planes, out)
    for plane, small in ((out.y, planes.y), (out.u, planes.u), (out.v, planes.v)):
        np.testing.assert_allclose(plane[100, 40], small[40, 30], atol=1)
        np.testing.assert_allclose(plane[100, -40], small[40, -30], atol=1)


def test_the_factor_is_that_of_the_name_in_every_entry():
    for name in model_choice.UPSCALERS[1:]:
        known = registry.operator_models()[name]
        assert name.removesuffix("_fp16").endswith(f"_x{model_choice.enlargement(name)}")
        assert Upscaler(None, known.card).factor == model_choice.enlargement(name)  # type: ignore[arg-type]
        assert known.card.contract.image.colours == "RGB"
        assert known.card.contract.image.output_range == (0.0, 1.0)
    assert model_choice.enlargement("") == 1


def test_a_model_that_fails_gives_no_picture(runner):
    class Failing:
        def submit(self, model: str, inputs: Mapping[str, Any]) -> Any:
            from worker.inference.types import ModelError

            raise ModelError("engine_failed", "it ended")

    with pytest.raises(Exception, match="it ended"):
        Upscaler(Failing(), runner.models.card("real_esrgan_x2")).enlarge(textured((64, 64)))
