"""A swapped face shows where every mask lets it: in the square of the swap, in the frame's own place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.worker import neural_graphs as graphs
from tests.worker import tensors
from worker.faces import align
from worker.faces.neural import masks
from worker.faces.neural.crops import framing
from worker.faces.neural.masks import Occluder, Parser
from worker.faces.neural.paste import feathered
from worker.inference import registry
from worker.inference.importing import import_folder
from worker.inference.registry import ModelSet
from worker.inference.sessions import LocalRunner
from worker.media.planes import Planes
from worker.spec import MASK_REGIONS

BOX = (700.0, 350.0, 500.0, 500.0)  # of the face: x, y, width, height
LANDMARKS = (graphs.template_68() * BOX[2:] + BOX[:2]).astype(np.float32)
FIVE = np.array([[890, 480], [1030, 484], [958, 570], [903, 648], [1015, 652]], np.float32)
SWAP = registry.operator_models()["hyperswap_1a_256"].card.contract.image


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelSet:
    folder = tmp_path_factory.mktemp("operator")
    for name in ("xseg_1", "bisenet_resnet_34"):
        onnx.save(graphs.graph_of(name), folder / f"{name}.onnx")
    return import_folder(folder, folder / "cache")


@pytest.fixture(scope="module")
def runner(models: ModelSet, models_dir: Path) -> LocalRunner:
    return LocalRunner(models_dir, models=models)


def half_coloured(left: tuple[int, int, int], right: tuple[int, int, int], middle: int = 960) -> np.ndarray:
    rgb = np.empty((1080, 1920, 3), np.uint8)
    rgb[:, :middle], rgb[:, middle:] = left, right
    return rgb


@pytest.mark.parametrize("side", [128, 256, 512])
@pytest.mark.parametrize("planar", [True, False])
def test_an_occluder_sees_the_square_of_the_swap_in_its_own_colours(runner, side, planar):
    rgb = half_coloured((250, 250, 0), (0, 0, 255))  # the stand-in takes blue for the face
    frame = rgb
    if planar:
        frame = Planes((1920, 1080))
        frame.paste(frame.whole, rgb)
    occluder = Occluder(runner.models.card("xseg_1"))
    matrix = align.square(np.array([960.0, 540.0]), 400, 0.0, side)
    inputs = occluder.prepare(frame, matrix, side)
    assert inputs["input"].shape == (1, 256, 256, 3)
    seen = tensors.seen(occluder.card.contract.image, inputs["input"][0])
    np.testing.assert_allclose(seen[128, 240], [1, 0, 0], atol=0.02)
    mask = occluder.decode(runner.run("xseg_1", inputs), side)
    assert (mask.dtype, mask.shape) == (np.uint8, (side, side))
    assert mask[:, : side // 2 - 2].max() == 0  # nothing shows beyond the edge
    assert mask[:, side // 2 + side // 12 :].min() > 250
    assert (np.diff(mask[side // 2].astype(int)) >= 0).all()


def test_a_mask_is_softened_inward_as_published(runner):
    shown = np.zeros((256, 256), np.float32)
    shown[:, 128:] = 1
    mask = masks.softened(shown, 256)
    from math import erf

    # Half of a Gaussian of 5 pixels, stretched: at d pixels inside the edge it is erf(d / (5 * sqrt(2))).
    for inside in (0, 3, 8):
        assert mask[100, 128 + inside] == pytest.approx(255 * erf((inside + 0.5) / 5 / np.sqrt(2)), abs=2)
    assert mask[:, :128].max() == 0
    assert masks.softened(np.ones((512, 512), np.float32), 128).min() == 255


def test_a_parser_shows_the_chosen_regions_and_nothing_else(runner):
    rgb = half_coloured((255, 0, 0), (0, 0, 0))
    card = runner.models.card("bisenet_resnet_34")
    matrix = align.square(np.array([960.0, 540.0]), 400, 0.0, 256)
    outputs = None
    for regions, left in ((MASK_REGIONS, 255), (("skin",), 255), (("nose", "mouth"), 0)):
        parser = Parser(card, regions)
        inputs = parser.prepare(rgb, matrix, 256)
        seen = tensors.seen(card.contract.image, inputs["input"][0])
        np.testing.assert_allclose(seen[:, 100, 20], [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225], rtol=1e-5)
        outputs = runner.run(card.name, inputs)
        mask = parser.decode(outputs, 256)
        assert mask[:, :100].min() == mask[:, :100].max() == left
        assert mask[:, 128:].max() == 0  # hair is none of the regions
    assert outputs is not None
    assert outputs["classes"].shape == (1, 512, 512)
    assert set(np.unique(outputs["classes"])) == {1.0, 17.0}


def test_the_classes_are_those_of_the_published_order():
    assert masks.CLASSES["skin"] == 1
    assert masks.CLASSES["glasses"] == 6
    assert masks.CLASSES["nose"] == 10
    assert [masks.CLASSES[name] for name in ("mouth", "upper_lip", "lower_lip")] == [11, 12, 13]
    assert tuple(masks.CLASSES) == MASK_REGIONS


def test_the_box_without_padding_is_the_feather_of_the_paste():
    np.testing.assert_array_equal(masks.box(256, 0.3, (0, 0, 0, 0)), feathered(256))
    assert masks.box(256, 0.0, (0, 0, 0, 0))[1:-1, 1:-1].min() == 255


def test_padding_leaves_out_its_share_at_each_edge():
    mask = masks.box(200, 0.0, (10, 20, 30, 40))
    shown = np.argwhere(mask == 255)
    assert shown.min(axis=0).tolist() == [21, 81]
    assert shown.max(axis=0).tolist() == [138, 158]
    assert masks.box(200, 0.3, (10, 20, 30, 40))[:21].max() == 0


@pytest.mark.parametrize("turn", [0.0, 0.6, -2.0])
def test_areas_hold_what_the_landmarks_enclose_wherever_the_face_is_turned(turn):
    middle = LANDMARKS.mean(axis=0)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = ((LANDMARKS - middle) @ rotation.T + middle).astype(np.float32)
    matrix = align.square(middle, 800, turn, 256)  # upright again in the square
    upper, lower, mouth, both = (
        masks.areas(points, matrix, 256, chosen)
        for chosen in (("upper_face",), ("lower_face",), ("mouth",), ("upper_face", "lower_face"))
    )
    placed = align.apply(matrix, points)
    nose, lip, chin = (placed[index].astype(int) for index in (33, 57, 8))
    brow = placed[17:27].mean(axis=0).astype(int)
    assert upper[brow[1], brow[0]] == both[brow[1], brow[0]] == 255
    assert lower[brow[1], brow[0]] == upper[lip[1], lip[0]] == 0
    inside = placed[48:60].mean(axis=0).astype(int)
    assert lower[lip[1], lip[0]] > 250
    assert mouth[inside[1], inside[0]] > 200  # it is a few pixels high here, and soft
    assert upper[nose[1] + 2 :].max() == 0
    assert lower[: nose[1] - 2].max() == 0
    assert both[nose[1] - 12 : nose[1] + 12, nose[0]].min() == 255  # no gap where they meet
    assert mouth[chin[1] - 8, chin[0]] == 0
    assert both[chin[1] + 3 :].max() == 0
    assert both[brow[1] - 8, brow[0]] > 250  # the forehead above the brows too


def test_areas_of_the_mesh_lie_where_those_of_68_points_do(astronaut, models_dir):
    from worker.faces.analyse import analyse_image
    from worker.inference.sessions import LocalRunner as Runner

    (face, *_) = analyse_image(astronaut, Runner(models_dir))
    matrix = framing(SWAP, align.five_points(face.landmarks))
    upper = masks.areas(face.landmarks, matrix, 256, ("upper_face",))
    lower = masks.areas(face.landmarks, matrix, 256, ("lower_face",))
    mouth = masks.areas(face.landmarks, matrix, 256, ("mouth",))
    eyes, lips = (np.array(align.TEMPLATES["arcface_128"])[rows].mean(axis=0) * 256 for rows in ([0, 1], [3, 4]))
    assert upper[int(eyes[1]), int(eyes[0])] == 255
    assert lower[int(eyes[1]), int(eyes[0])] == 0
    assert lower[int(lips[1]), int(lips[0])] == 255
    assert mouth[int(lips[1]), int(lips[0])] > 240
    assert upper[int(lips[1]), int(lips[0])] == 0
    assert mouth.astype(float).sum() < lower.astype(float).sum() / 3


def test_an_unknown_markup_encloses_nothing():
    with pytest.raises(ValueError, match="no area"):
        masks.areas(FIVE, np.eye(2, 3), 256, ("mouth",))


def test_the_minimum_of_all_shows():
    one, other = np.full((8, 8), 200, np.uint8), np.full((8, 8), 255, np.uint8)
    other[2] = 7
    found = masks.least([one, other])
    assert (found[2] == 7).all()
    assert (np.delete(found, 2, axis=0) == 200).all()
    np.testing.assert_array_equal(masks.least([one]), one)


def test_a_mask_is_carried_over_to_another_square_of_the_same_face():
    first, second = align.square(np.array([960.0, 540.0]), 400, 0.3, 256), None
    enhancer = registry.operator_models()["gfpgan_1.4"].card.contract.image
    second = framing(enhancer, FIVE)
    mask = np.zeros((256, 256), np.uint8)
    mask[:, 128:] = 255
    found = masks.moved(mask, first, second, 512)
    assert found.shape == (512, 512)
    # A point of the frame is on the same side of the edge in both.
    for point, seen in (((900, 540), 0), ((1020, 560), 255)):
        where = align.apply(second, np.array([point], np.float32))[0].astype(int)
        assert found[where[1], where[0]] == seen
    whole = masks.moved(np.full((256, 256), 255, np.uint8), first, second, 512)
    assert whole.min() == 255  # beyond the first square its edge goes on
