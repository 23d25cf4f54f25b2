"""What neural models are given is the frame as their contracts say, and what they answer lands where it belongs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.worker import neural_graphs as graphs
from tests.worker import tensors
from worker.faces import align
from worker.faces.neural.crops import PictureReader, TensorWriter, cut, framing, letterbox
from worker.faces.neural.detectors import PointDetector
from worker.faces.neural.embeddings import ArcFace, apart, unit
from worker.faces.neural.enhancers import Enhancer
from worker.faces.neural.landmarks import Fan2d
from worker.faces.neural.paste import Paster, feathered
from worker.faces.neural.points import NeuralDetection, five_of, yaw_of, yaw_of_five
from worker.faces.neural.swappers import Swapper
from worker.inference import registry
from worker.inference.contracts import ImageContract
from worker.inference.importing import import_folder
from worker.inference.registry import ModelSet
from worker.inference.sessions import LocalRunner
from worker.media.planes import TO_YUV, Planes

FIVE = np.array([[890, 480], [1030, 484], [958, 570], [903, 648], [1015, 652]], np.float32)
CARDS = {name: known.card for name, known in registry.operator_models().items()}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelSet:
    folder = tmp_path_factory.mktemp("operator")
    return import_folder(graphs.write_all(folder), folder / "cache")


@pytest.fixture(scope="module")
def runner(models: ModelSet, models_dir: Path) -> LocalRunner:
    return LocalRunner(models_dir, models=models)


def gradient(size: tuple[int, int] = (1920, 1080)) -> Planes:
    """A picture that changes slowly everywhere, so that resampling has nothing to lose."""
    planes = Planes(size)
    for plane, low, high in ((planes.y, 60, 200), (planes.u, 110, 140), (planes.v, 120, 150)):
        rows, columns = np.mgrid[0 : plane.shape[0], 0 : plane.shape[1]].astype(np.float64)
        share = 0.5 * rows / plane.shape[0] + 0.5 * columns / plane.shape[1]
        plane[:] = np.rint(low + (high - low) * share)
    return planes


def textured(size: tuple[int, int] = (1920, 1080), seed: int = 0) -> Planes:
    planes = Planes(size)
    noise = np.random.default_rng(seed).integers(20, 235, (size[1] // 12, size[0] // 12, 3), np.uint8)
    rgb = cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
    planes.paste(planes.whole, rgb)
    return planes


def yuv_of(*rgb: int) -> tuple[int, ...]:
    """The levels of one colour in planes."""
    return tuple(int(np.rint(row[:3] @ rgb + row[3])) for row in TO_YUV)


def copy_of(planes: Planes) -> Planes:
    other = Planes(planes.size)
    other.buffer[:] = planes.buffer
    return other


# -- tensors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(9, 16), (16, 7)])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("colours", ["RGB", "BGR"])
def test_a_tensor_holds_the_pixels_as_the_contract_says(layout, colours, size):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    image = ImageContract("x", 16, "letterbox", layout=layout, colours=colours, mean=mean, std=std)
    rgb = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    found = TensorWriter(image).write(rgb)
    padded = np.zeros((16, 16, 3))
    padded[: size[0], : size[1]] = rgb
    wanted = (padded / 255 - mean) / std
    wanted = wanted if colours == "RGB" else wanted[..., ::-1]
    wanted = wanted[None] if layout == "NHWC" else wanted.transpose(2, 0, 1)[None]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    as_bytes = replace(image, as_bytes=True)
    np.testing.assert_allclose(tensors.seen(as_bytes, TensorWriter(as_bytes).write(rgb)), wanted, atol=1e-5)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("colours", ["RGB", "BGR"])
@pytest.mark.parametrize("values", [(0.0, 1.0), (-1.0, 1.0)])
def test_what_was_written_is_read_back_to_the_byte(layout, colours, values):
    half = (0.5, 0.5, 0.5) if values[0] < 0 else (0.0, 0.0, 0.0)
    std = (0.5, 0.5, 0.5) if values[0] < 0 else (1.0, 1.0, 1.0)
    image = ImageContract(
        "x", 32, "ffhq_512", layout, colours, half, std, output="y", output_range=values, as_bytes=True
    )
    rgb = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    tensor = tensors.shown(image, tensors.seen(image, TensorWriter(image).write(rgb)))[0]
    np.testing.assert_array_equal(PictureReader(image).rgb(tensor), rgb)


def test_every_contract_of_the_set_has_the_published_numbers():
    others = ("face_swapper", "face_converter")  # see test_swappers
    others += ("face_occluder", "face_parser", "frame_upscaler", "content_filter")  # see test_masks and its neighbours
    images = {
        name: card.contract.image for name, card in CARDS.items() if card.contract.image and card.role not in others
    }
    assert {name: (image.input, image.side, image.framing, image.colours) for name, image in images.items()} == {
        "yoloface_8n": ("input", 640, "letterbox", "BGR"),
        "yunet": ("input", 640, "letterbox", "BGR"),
        "2dfan4": ("input", 256, "box", "RGB"),
        "arcface_w600k_r50": ("input", 112, "arcface_112_v2", "RGB"),
        "gfpgan_1.4": ("input", 512, "ffhq_512", "RGB"),
        "gfpgan_1.2": ("input", 512, "ffhq_512", "RGB"),
        "gfpgan_1.3": ("input", 512, "ffhq_512", "RGB"),
        "restoreformer_plus_plus": ("input", 512, "ffhq_512", "RGB"),
        "codeformer": ("input", 512, "ffhq_512", "RGB"),
        "gpen_bfr_256": ("input", 256, "arcface_128", "RGB"),
        "gpen_bfr_512": ("input", 512, "ffhq_512", "RGB"),
        "gpen_bfr_1024": ("input", 1024, "ffhq_512", "RGB"),
        "gpen_bfr_2048": ("input", 2048, "ffhq_512", "RGB"),
        "scrfd_2.5g": ("input", 640, "letterbox", "BGR"),
        "retinaface_10g": ("input", 640, "letterbox", "BGR"),
        "fairface": ("input", 224, "arcface_112_v2", "RGB"),
        "peppa_wutz": ("input", 256, "box", "RGB"),
        "2d106det": ("data", 192, "box", "RGB"),
        "auraface_v1": ("input", 112, "arcface_112_v2", "RGB"),
    }
    white = np.full((1, 1, 3), 255, np.uint8)
    extremes = {}
    for name, image in images.items():
        small = replace(image, side=1)
        writer = TensorWriter(small)
        tensor = [tensors.seen(small, one).ravel()[0] for one in (writer.tensor.copy(), writer.write(white))]
        extremes[name] = (round(float(tensor[0]), 3), round(float(tensor[1]), 3))
    shares = ("yoloface_8n", "2dfan4", "peppa_wutz")
    wanted = dict.fromkeys(images, (-1.0, 1.0)) | dict.fromkeys(shares, (0.0, 1.0))
    wanted |= dict.fromkeys(("yunet", "2d106det"), (0.0, 255.0))
    wanted |= dict.fromkeys(("scrfd_2.5g", "retinaface_10g"), (-0.996, 0.996))  # 127.5 / 128
    wanted |= {"fairface": (-2.118, 2.249)}  # ImageNet's mean and deviation of red
    assert extremes == wanted
    assert images["2dfan4"].share == images["peppa_wutz"].share == 195 / 256
    assert images["2d106det"].share == pytest.approx(1 / 1.5)


# -- crops ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["2dfan4", "arcface_w600k_r50", "hyperswap_1a_256", "inswapper_128", "gfpgan_1.4"])
def test_a_crop_from_planes_is_the_crop_of_the_picture(name):
    planes = textured()
    image = CARDS[name].contract.image
    matrix = framing(image, FIVE, np.array([830, 400, 260, 300], np.float32))
    found = cut(planes, matrix, image.side).astype(int)
    wanted = align.warp(planes.to_rgb(), matrix, image.side, border=cv2.BORDER_REPLICATE).astype(int)
    assert np.abs(found - wanted).mean() < 2.5


def test_a_crop_of_a_small_part_shows_a_straight_line_where_it_lies():
    planes = Planes((1920, 1080))
    planes.buffer[:] = 128
    rows, columns = np.mgrid[0:1080, 0:1920]
    planes.y[:] = np.clip(40 + (columns - 700) / 4 + (rows - 300) / 8, 16, 235)
    for side in (48, 112, 256, 512):  # reduced by averaging, plain, enlarged
        matrix = align.square(np.array([960.0, 560.0]), 340, 0.2, side)
        found = cut(planes, matrix, side).astype(np.float64).mean(axis=2)
        grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2).astype(np.float32)
        there = align.apply(align.invert(matrix), grid)
        luma = 40 + (there[:, 0] - 700) / 4 + (there[:, 1] - 300) / 8
        wanted = ((luma - 16) * 255 / 219).reshape(side, side)
        assert np.abs(found - wanted).mean() < 1.0


def test_five_points_come_to_lie_on_the_template():
    for name in ("arcface_w600k_r50", "hyperswap_1a_256", "gfpgan_1.4"):
        image = CARDS[name].contract.image
        template = np.array(align.TEMPLATES[image.framing], np.float32) * 300 + (700, 350)
        np.testing.assert_allclose(
            align.apply(framing(image, template), template),
            np.array(align.TEMPLATES[image.framing]) * image.side,
            atol=1e-2,
        )


def test_the_landmark_square_holds_the_box_at_195_of_256():
    box = np.array([100, 200, 80, 120], np.float32)
    corners = align.apply(framing(CARDS["2dfan4"].contract.image, FIVE, box), np.array([[100, 200], [180, 320]]))
    np.testing.assert_allclose(corners[:, 1], [128 - 97.5, 128 + 97.5], atol=1e-3)
    np.testing.assert_allclose(corners.mean(axis=0), [128, 128], atol=1e-3)


@pytest.mark.parametrize("size", [(1920, 1080), (1080, 1920), (320, 240), (3840, 2160)])
def test_the_detector_sees_the_whole_frame_from_the_top_left_corner_and_black_beside_it(size):
    planes = textured(size)
    rgb, scale = letterbox(planes, 640)
    assert scale == 640 / max(size)
    assert rgb.shape == (round(size[1] * scale), round(size[0] * scale), 3)
    small = cv2.resize(planes.to_rgb(), rgb.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(rgb.astype(int) - small).mean() < 4
    inputs, _ = PointDetector(CARDS["yoloface_8n"]).prepare(planes)
    np.testing.assert_array_equal(inputs["input"][0, 2, : rgb.shape[0], : rgb.shape[1]], rgb[..., 0])
    assert not inputs["input"][0, :, rgb.shape[0] :].any()
    assert not inputs["input"][0, :, :, rgb.shape[1] :].any()


def test_a_detector_that_saw_a_wide_frame_has_black_below_a_narrow_one():
    detector = PointDetector(CARDS["yoloface_8n"])
    detector.prepare(textured((640, 640)))
    inputs, _ = detector.prepare(textured((640, 360)))
    assert not inputs["input"][0, :, 360:].any()


# -- what comes back -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["yoloface_8n", "yunet"])  # the others: test_neural_detectors
def test_a_detected_face_is_told_in_pixels_of_the_frame(runner, name):
    detector = PointDetector(runner.models.card(name))
    inputs, scale = detector.prepare(textured())
    (face,) = detector.decode(runner.run(name, inputs), scale)
    x, y, width, height = graphs.FACE
    np.testing.assert_allclose(face.box, np.array([x - width / 2, y - height / 2, width, height]) * 3, rtol=1e-4)
    np.testing.assert_allclose(face.points, np.array(graphs.POINTS) * 3, rtol=1e-4)
    assert face.score > 0.8


def test_landmarks_are_told_in_pixels_of_the_frame_with_the_mean_peak(runner):
    fan = Fan2d(runner.models.card("2dfan4"))
    box = np.array([780, 315, 360, 450], np.float32)
    inputs, placed = fan.prepare(textured(), NeuralDetection(box, 0.9, FIVE))
    found = fan.decode(runner.run("2dfan4", inputs), placed)
    np.testing.assert_allclose(found.points, box[:2] + graphs.template_68() * box[2:], atol=0.05)
    assert found.score == pytest.approx(0.75 / 0.9, abs=1e-3)


def test_an_embedding_has_length_one_and_is_told_apart(runner):
    describer = ArcFace(runner.models.card("arcface_w600k_r50"))
    one, same, other = (
        describer.decode(runner.run("arcface_w600k_r50", describer.prepare(textured(seed=seed), FIVE)))
        for seed in (0, 0, 1)
    )
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    outputs = runner.run("arcface_w600k_r50", describer.prepare(textured(seed=0), FIVE))
    raw = describer.decode_raw(outputs)
    np.testing.assert_array_equal(raw, outputs["output"][0])
    assert np.linalg.norm(raw) > 2
    np.testing.assert_allclose(raw / np.linalg.norm(raw), one, atol=1e-6)
    assert apart(one, same) == pytest.approx(0, abs=1e-6)
    assert apart(one, other) > 0.1
    with pytest.raises(ValueError, match="direction"):
        unit(np.zeros(512, np.float32))


def test_five_points_are_found_in_every_markup():
    template = graphs.template_68() * 200
    five = five_of(template)
    assert five[0][0] < five[2][0] < five[1][0]
    assert five[2][1] < five[3][1]
    np.testing.assert_array_equal(five_of(five), five)
    assert abs(yaw_of(template)) < 1
    turned = five.copy()
    turned[2, 0] += 15
    assert yaw_of_five(turned) > 5
    with pytest.raises(ValueError, match="markup"):
        five_of(np.zeros((7, 2), np.float32))


# -- pasting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hyperswap_1a_256", "inswapper_128"])
@pytest.mark.parametrize("turn", [0.0, 0.4, -2.5])
@pytest.mark.parametrize("size", [0.35, 1.0, 3.0])
def test_a_swapper_that_returns_its_input_leaves_the_picture_as_it_was(runner, name, turn, size):
    planes = gradient()
    before = copy_of(planes)
    middle = FIVE.mean(axis=0)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    five = ((FIVE - middle) @ rotation.T * size + middle).astype(np.float32)
    swapper = Swapper(runner.models.card(name))
    (tile,), matrix = swapper.tiles(planes, five)
    inputs = swapper.prepare(tile, unit(np.ones(512, np.float32)))
    square = swapper.decode([runner.run(name, inputs)])
    assert Paster(swapper.side).paste(planes, matrix, square) is not None
    assert np.abs(planes.buffer.astype(int) - before.buffer).max() <= 1


def test_an_enhancer_that_returns_its_input_leaves_the_picture_as_it_was(runner):
    planes = gradient()
    before = copy_of(planes)
    enhancer = Enhancer(runner.models.card("gfpgan_1.4"))
    inputs, matrix = enhancer.prepare(planes, FIVE)
    square = enhancer.decode(runner.run("gfpgan_1.4", inputs))
    Paster(512, opacity=0.8).paste(planes, matrix, square)
    assert np.abs(planes.buffer.astype(int) - before.buffer).max() <= 1


@pytest.mark.parametrize("planar", [True, False])
def test_a_paste_changes_the_middle_wholly_and_nothing_outside_its_rectangle(planar):
    planes = textured()
    frame = planes if planar else planes.to_rgb()
    before = planes.buffer.copy() if planar else frame.copy()
    matrix = framing(CARDS["hyperswap_1a_256"].contract.image, FIVE)
    square = np.full((256, 256, 3), (200, 60, 90), np.uint8)
    box = Paster(256).paste(frame, matrix, square)
    first = planes.y if planar else frame[..., 0]
    shown = yuv_of(200, 60, 90) if planar else (200, 60, 90)
    old = before[:1080] if planar else before[..., 0]
    outside = np.ones((1080, 1920), bool)
    outside[box.top : box.bottom, box.left : box.right] = False
    np.testing.assert_array_equal(first[outside], old.reshape(1080, 1920)[outside])
    middle = np.rint(align.apply(align.invert(matrix), np.array([[128, 128]], np.float32))[0]).astype(int)
    assert (first[middle[1] - 20 : middle[1] + 20, middle[0] - 20 : middle[0] + 20] == shown[0]).all()
    if planar:
        chroma = tuple(plane[middle[1] // 2, middle[0] // 2] for plane in (planes.u, planes.v))
        assert chroma == shown[1:]


def test_half_opacity_shows_half_of_both():
    planes = Planes((640, 480))
    planes.buffer[:] = 100
    matrix = align.square(np.array([320.0, 240.0]), 200, 0.0, 256)
    Paster(256, opacity=0.5).paste(planes, matrix, np.full((256, 256, 3), 200, np.uint8))
    assert abs(int(planes.y[240, 320]) - (100 + yuv_of(200, 200, 200)[0]) / 2) <= 1


@pytest.mark.parametrize("weight", range(15, 256, 15))
def test_a_square_is_mixed_to_the_nearest_level_for_every_pair_of_bytes(weight):
    old, new = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    frame = np.dstack([np.pad(old, 40)] * 3)
    # One pixel of the square on each of the frame's, and no feather.
    paster, matrix = Paster(256, feather=0.0, opacity=weight / 255), np.array([[1.0, 0.0, -40.0], [0.0, 1.0, -40.0]])
    assert paster.paste(frame, matrix, np.dstack([new] * 3)) is not None
    wanted = np.rint(((255 - weight) * old.astype(float) + weight * new.astype(float)) / 255)
    np.testing.assert_array_equal(frame[41:295, 41:295, 1], wanted[1:-1, 1:-1])


@pytest.mark.parametrize("planar", [True, False])
@pytest.mark.parametrize("pixels", [200, 90])  # of the face: the square is reduced a little, or by whole blocks
def test_a_mask_lets_only_its_part_of_the_square_show(planar, pixels):
    planes = Planes((640, 480))
    planes.buffer[:] = 100
    frame = planes if planar else np.full((480, 640, 3), 100, np.uint8)
    luma = planes.y if planar else frame[..., 0]
    matrix = align.square(np.array([320.0, 240.0]), pixels, 0.0, 256)
    square = np.full((256, 256, 3), (200, 150, 200), np.uint8)
    new, _, red = yuv_of(200, 150, 200) if planar else (200, 150, 200)
    mask = np.zeros((256, 256), np.uint8)
    mask[:, :128], mask[:128, :128] = 255, 128
    paster = Paster(256)
    paster.paste(frame, matrix, square, mask=mask)
    inside = pixels // 5
    assert (luma[:, 323:] == 100).all()
    assert (luma[250, 320 - inside : 317] == new).all()
    assert np.abs(luma[230, 320 - inside : 317].astype(int) - (100 + new) / 2).max() <= 1
    assert luma[250, 320 - pixels // 2] == 100  # the feather holds as well
    if planar:
        assert (planes.u[:, 163:] == 100).all()
        assert (planes.v[125, 160 - inside // 2 : 157] == red).all()
    paster.paste(frame, matrix, square)  # nothing of the mask is kept
    assert (luma[230:250, 320 - inside : 320 + inside] == new).all()


def test_a_whole_mask_changes_nothing_and_an_empty_one_leaves_the_frame():
    square = np.random.default_rng(2).integers(16, 235, (256, 256, 3), np.uint8)
    matrix = align.square(np.array([320.0, 240.0]), 220, 0.3, 256)
    one, two, three = gradient((640, 480)), gradient((640, 480)), gradient((640, 480))
    Paster(256, opacity=0.8).paste(one, matrix, square)
    Paster(256, opacity=0.8).paste(two, matrix, square, mask=np.full((256, 256), 255, np.uint8))
    np.testing.assert_array_equal(one.buffer, two.buffer)
    Paster(256).paste(three, matrix, square, mask=np.zeros((256, 256), np.uint8))
    np.testing.assert_array_equal(three.buffer, gradient((640, 480)).buffer)
    with pytest.raises(ValueError, match="mask"):
        Paster(256).paste(three, matrix, square, mask=np.zeros((128, 128), np.uint8))


@pytest.mark.parametrize("centre", [(0, 0), (640, 480), (5, 240), (635, 3)])
def test_a_face_that_is_cut_by_the_frame_is_pasted_as_far_as_it_is_there(centre):
    planes = gradient((640, 480))
    before = copy_of(planes)
    image = replace(CARDS["hyperswap_1a_256"].contract.image)
    matrix = align.square(np.array(centre, float), 220, 0.3, 256)
    writer, reader = TensorWriter(image), PictureReader(image)
    square = reader.rgb(writer.write(cut(planes, matrix, 256))[0])
    assert Paster(256).paste(planes, matrix, square) is not None
    assert np.abs(planes.buffer.astype(int) - before.buffer).max() <= 1


def test_a_square_outside_the_frame_changes_nothing():
    planes = gradient((640, 480))
    before = copy_of(planes)
    matrix = align.square(np.array([-400.0, 240.0]), 200, 0.0, 256)
    assert Paster(256).paste(planes, matrix, np.zeros((256, 256, 3), np.uint8)) is None
    np.testing.assert_array_equal(planes.buffer, before.buffer)


def test_the_mask_is_whole_in_the_middle_and_nothing_at_the_edge():
    mask: NDArray[np.uint8] = feathered(256)
    assert mask[0].max() == mask[:, -1].max() == 0
    assert (mask[64:192, 64:192] == 255).all()
    steps = np.diff(mask[128].astype(int))
    assert np.abs(steps).max() <= 12
    assert (steps[:128] >= 0).all()
