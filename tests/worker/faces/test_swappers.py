"""Every family of swappers gets target and donor as its publishers say, and what it gives back is put where it was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from tests.worker import neural_graphs as graphs
from tests.worker import tensors
from worker.faces import align
from worker.faces.neural.crops import merge_tiles, split_tiles
from worker.faces.neural.donors import DonorPhoto, Identity, identity_of
from worker.faces.neural.embeddings import unit
from worker.faces.neural.paste import Paster
from worker.faces.neural.swappers import Swapper
from worker.inference import registry
from worker.inference.importing import import_folder
from worker.inference.registry import ModelSet
from worker.inference.sessions import LocalRunner
from worker.inference.types import Done
from worker.media.planes import Planes

RAW, LENGTH_ONE = "converted", "converted to length 1"
_HALF, _SHARES = ((-1.0,) * 3, (1.0,) * 3), ((0.0,) * 3, (1.0,) * 3)
_IMAGENET = ((-2.1179, -2.0357, -1.8044), (2.2489, 2.4286, 2.6400))
_UNIT = "embedding of length 1"
CONTRACTS: dict[str, tuple[int, str, Any, tuple[float, float], Any]] = {
    "inswapper_128": (128, "arcface_128", _SHARES, (0, 1), _UNIT),
    "inswapper_128_fp16": (128, "arcface_128", _SHARES, (0, 1), _UNIT),
    "hyperswap_1a_256": (256, "arcface_128", _HALF, (-1, 1), _UNIT),
    "hyperswap_1b_256": (256, "arcface_128", _HALF, (-1, 1), _UNIT),
    "hyperswap_1c_256": (256, "arcface_128", _HALF, (-1, 1), _UNIT),
    "ghost_1_256": (256, "arcface_112_v1", _HALF, (-1, 1), RAW),
    "ghost_2_256": (256, "arcface_112_v1", _HALF, (-1, 1), RAW),
    "ghost_3_256": (256, "arcface_112_v1", _HALF, (-1, 1), RAW),
    "simswap_256": (256, "arcface_112_v1", _IMAGENET, (0, 1), LENGTH_ONE),
    "simswap_unofficial_512": (512, "arcface_112_v1", _SHARES, (0, 1), LENGTH_ONE),
    "hififace_unofficial_256": (256, "mtcnn_512", _HALF, (-1, 1), LENGTH_ONE),
    "uniface_256": (256, "ffhq_512", _HALF, (-1, 1), (256, "ffhq_512")),
    "blendswap_256": (256, "ffhq_512", _SHARES, (0, 1), (112, "arcface_112_v2")),
}
"""As published: side, template, (black, white) by colour of the target, black and white of the output, the source."""
CONVERTERS = {"ghost": "crossface_ghost", "simswap": "crossface_simswap", "hififace": "crossface_hififace"}
_TEMPLATES = {
    "arcface_112_v1": ((0.3547, 0.4566), (0.6453, 0.4566), (0.5000, 0.6115), (0.3791, 0.7769), (0.6209, 0.7769)),
    "arcface_112_v2": ((0.3419, 0.4616), (0.6565, 0.4598), (0.5002, 0.6405), (0.3710, 0.8247), (0.6315, 0.8233)),
    "arcface_128": ((0.3617, 0.4039), (0.6370, 0.4024), (0.5002, 0.5604), (0.3871, 0.7216), (0.6151, 0.7203)),
    "ffhq_512": ((0.3769, 0.4686), (0.6229, 0.4691), (0.5012, 0.6133), (0.3931, 0.7254), (0.6115, 0.7249)),
    "mtcnn_512": ((0.3656, 0.4673), (0.6331, 0.4659), (0.5002, 0.6194), (0.3903, 0.7760), (0.6118, 0.7748)),
}
POINTS = {name: np.array(points, np.float32) for name, points in _TEMPLATES.items()}
"""The published templates: eyes, nose tip, corners of the mouth in units of the side."""
SPOTS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (255, 0, 255))
KNOWN = {name: known for name, known in registry.operator_models().items() if known.card.role == "face_swapper"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelSet:
    """A stand-in for every swapper and converter there is; each gives its target back."""
    folder = tmp_path_factory.mktemp("operator")
    for name in (*CONTRACTS, *CONVERTERS.values()):
        onnx.save(graphs.graph_of(name, half=name.endswith("fp16")), folder / f"{name}.onnx")
    return import_folder(folder, folder / "cache")


@pytest.fixture(scope="module")
def runner(models: ModelSet, models_dir: Path) -> LocalRunner:
    return LocalRunner(models_dir, models=models)


def spotted(template: str, size: int = 400) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A black picture [480, 640, 3] with a spot of another colour at each point of a face by `template`; the points."""
    five = POINTS[template] * size + (120, 40)
    picture = np.zeros((480, 640, 3), np.uint8)
    for (x, y), colour in zip(five, SPOTS, strict=True):
        picture[round(y) - 8 : round(y) + 9, round(x) - 8 : round(x) + 9] = colour
    return picture, five


def at_spots(tensor: NDArray[np.float32], template: str) -> NDArray[np.float32]:
    """The values [5, 3] of a tensor [3, s, s] where the template has its points."""
    places = np.rint(POINTS[template] * tensor.shape[1]).astype(int)
    return np.stack([tensor[:, y, x] for x, y in places])


def family(name: str) -> str:
    return CONVERTERS[name.split("_", maxsplit=1)[0]]


def donor(seed: int, template: str = "ffhq_512", length: float = 20.0, blur: float = 0.0) -> DonorPhoto:
    picture, five = spotted(template)
    if blur:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), blur), np.uint8)
    raw = unit(np.random.default_rng(seed).standard_normal(512).astype(np.float32)) * length
    return DonorPhoto(picture, five, raw)


def test_the_table_names_every_swapper_and_each_names_the_converter_of_its_family(models):
    assert set(CONTRACTS) == set(KNOWN)
    assert all(card.batches for card in models.extra.values())
    for name, (*_, source) in CONTRACTS.items():
        assert KNOWN[name].card.contract.converter == (family(name) if source in (RAW, LENGTH_ONE) else "")


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_target_goes_in_as_published(name):
    side, template, (black, white), _, _ = CONTRACTS[name]
    picture, five = spotted(template)
    swapper = Swapper(KNOWN[name].card)
    (tile,), matrix = swapper.tiles(picture, five)
    np.testing.assert_allclose(align.apply(matrix, five), POINTS[template] * side, atol=0.02)
    source = np.zeros(KNOWN[name].card.contract.inputs["source"], np.float32)
    inputs = swapper.prepare(tile, source)
    assert set(inputs) == {"source", "target"}
    assert inputs["target"].shape == (1, 3, side, side)
    wanted = np.where(np.array(SPOTS) == 255, white, black)
    (seen,) = tensors.seen(swapper.image, inputs["target"])
    np.testing.assert_allclose(at_spots(seen, template), wanted, atol=1e-3)
    np.testing.assert_allclose(seen[:, 0, 0], black, atol=1e-3)


@pytest.mark.parametrize("name", CONTRACTS)
def test_what_comes_out_is_read_as_published(name):
    side, _, _, (low, high), _ = CONTRACTS[name]
    swapper = Swapper(KNOWN[name].card)
    output = np.full((1, 3, side, side), low, np.float32)
    output[0, 0, :, 0] = output[0, 2, 0] = high  # red down the left edge, blue along the upper one
    output[0, :, 5, 5] = (low + high) / 2
    answer = {"output": tensors.shown(swapper.image, output)}
    square = swapper.decode([answer])
    assert square[3, 0].tolist() == [255, 0, 0]
    assert square[0, 3].tolist() == [0, 0, 255]
    assert square[3, 3].tolist() == [0, 0, 0]
    assert np.abs(square[5, 5].astype(int) - 127.5).max() < 1


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_donor_goes_in_as_published(name, runner, models):
    *_, source = CONTRACTS[name]
    photo = donor(1)
    found = identity_of([photo], name, runner, models)
    np.testing.assert_allclose(found.embedding, photo.raw / 20, atol=1e-6)
    mapped = photo.raw @ graphs.converter_matrix()
    match source:
        case (side, template):
            photo = donor(1, template)
            found = identity_of([photo], name, runner, models)
            assert found.source.shape == (3, side, side)
            assert models.card(name).contract.source.framing == template
            np.testing.assert_allclose(at_spots(found.source, template), np.array(SPOTS) / 255, atol=0.02)
        case "embedding of length 1":
            np.testing.assert_array_equal(found.source, found.embedding)
        case "converted":
            np.testing.assert_allclose(found.source, mapped, rtol=1e-3, atol=1e-2)
            assert np.linalg.norm(found.source) > 100
        case "converted to length 1":
            np.testing.assert_allclose(found.source, mapped / np.linalg.norm(mapped), atol=1e-4)
    assert found.source.shape == KNOWN[name].card.contract.inputs["source"]


def test_of_several_photos_the_mean_goes_to_a_converter_and_the_sharpest_to_who_looks_at_it(runner, models):
    one, two = donor(1, length=10, blur=3), donor(2, length=30)
    both = identity_of([one, two], "ghost_2_256", runner, models)
    direction = unit(unit(one.raw) + unit(two.raw))
    np.testing.assert_allclose(both.embedding, direction, atol=1e-6)
    np.testing.assert_allclose(both.source, 20 * direction @ graphs.converter_matrix(), rtol=1e-3, atol=1e-2)
    for photos in ([one, two], [two, one]):
        seen = identity_of(photos, "uniface_256", runner, models)
        np.testing.assert_array_equal(seen.source, identity_of([two], "uniface_256", runner, models).source)
        assert seen.sharpness == both.sharpness


# -- pixels ----------------------------------------------------------------------------------------------------------


def smooth(planar: bool, size: tuple[int, int] = (960, 540)) -> Any:
    """A picture that changes slowly everywhere, so that resampling has nothing to lose."""
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]]
    share = (rows / size[1] + columns / size[0]) / 2
    rgb = np.stack([60 + 140 * share, 200 - 120 * share, 90 + 60 * share], -1)
    picture = np.asarray(np.rint(rgb), np.uint8)
    if not planar:
        return picture
    planes = Planes(size)
    planes.paste(planes.whole, picture)
    return planes


def bytes_of(frame: Any) -> NDArray[np.int16]:
    return np.array(frame.buffer if isinstance(frame, Planes) else frame, np.int16)


def swapped(swapper: Swapper, runner: Any, frame: Any, five: Any) -> None:
    """The face at `five` through the model and back into the frame."""
    tiles, matrix = swapper.tiles(frame, five)
    source = np.zeros(swapper.card.contract.inputs["source"], np.float32)
    outputs = [runner.run(swapper.card.name, swapper.prepare(tile, source)) for tile in tiles]
    square = swapper.decode(outputs)
    assert Paster(swapper.side).paste(frame, matrix, square) is not None


def face(template: str, size: float) -> NDArray[np.float32]:
    """Five points of a face that is turned a little."""
    turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    return ((POINTS[template] - 0.5) @ turn.T * size + (480, 270)).astype(np.float32)


@pytest.mark.parametrize("planar", [False, True], ids=["photo", "video"])
@pytest.mark.parametrize("name", CONTRACTS)
def test_a_swapper_that_returns_its_target_leaves_the_picture_untouched(name, planar, runner):
    for size in (150, 420):
        frame = smooth(planar)
        before = bytes_of(frame)
        swapped(Swapper(runner.models.card(name)), runner, frame, face(CONTRACTS[name][1], size))
        assert np.abs(bytes_of(frame) - before).max() <= 1


@pytest.mark.parametrize("planar", [False, True], ids=["photo", "video"])
@pytest.mark.parametrize(("name", "boost"), [("inswapper_128", 4), ("simswap_256", 3), ("hyperswap_1a_256", 2)])
def test_more_pixels_leave_the_picture_untouched_too(name, boost, planar, runner):
    frame = smooth(planar)
    before = bytes_of(frame)
    swapper = Swapper(runner.models.card(name), boost=boost)
    assert swapper.side == CONTRACTS[name][0] * boost
    swapped(swapper, runner, frame, face(CONTRACTS[name][1], 420))
    assert np.abs(bytes_of(frame) - before).max() <= 1


def test_a_square_is_taken_apart_pixel_by_pixel_and_put_together_exactly():
    square = np.arange(6 * 6 * 3, dtype=np.uint8).reshape(6, 6, 3)
    tiles = split_tiles(square, 2)
    assert [tile[0, 0, 0] // 3 for tile in tiles] == [0, 1, 6, 7]  # the first four pixels, row by row
    assert tiles[1][..., 0].tolist() == [[3, 9, 15], [39, 45, 51], [75, 81, 87]]
    for factor in (1, 2, 3):
        parts = split_tiles(square, factor)
        assert len(parts) == factor * factor
        assert {part.shape for part in parts} == {(6 // factor, 6 // factor, 3)}
        np.testing.assert_array_equal(merge_tiles(parts), square)
    for wrong in ([], tiles[:3]):
        with pytest.raises(ValueError, match="no square"):
            merge_tiles(wrong)


def test_more_pixels_keep_more_of_a_large_face():
    noise = np.random.default_rng(4).integers(0, 256, (135, 240, 3), np.uint8)
    picture = np.asarray(cv2.resize(noise, (960, 540), interpolation=cv2.INTER_CUBIC), np.uint8)

    class Mirror:
        def run(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            return {"output": inputs["target"].copy()}

    lost = []
    for boost in (1, 2, 4):
        frame = picture.copy()
        swapped(Swapper(KNOWN["inswapper_128"].card, boost=boost), Mirror(), frame, face("arcface_128", 480))
        lost.append(float(np.abs(bytes_of(frame) - picture).mean()))
    assert lost[0] > 2 * lost[1] > 4 * lost[2]


def test_a_donor_is_read_once_and_not_for_every_frame(runner, models):
    asked: list[str] = []

    class Counting:
        def run(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            asked.append(model)
            return runner.run(model, inputs)

        def submit(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> Done:
            return Done(self.run(model, inputs))

    who = identity_of([donor(1), donor(2)], "simswap_256", Counting(), models)
    assert asked == ["crossface_simswap"]
    assert isinstance(who, Identity)
    for name in ("uniface_256", "hyperswap_1b_256"):
        identity_of([donor(1)], name, Counting(), models)
    assert asked == ["crossface_simswap"]
