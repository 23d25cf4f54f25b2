"""Every detector tells the same face, several tell it once, and neither a large frame nor a turned one hides any."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from tests.worker import neural_graphs as graphs
from tests.worker import tensors
from tests.worker.inference.test_graft import SHARED
from worker.faces.align import five_points
from worker.faces.analyse import analyse_image
from worker.faces.neural.detectors import (
    BuiltinDetector,
    EngineDetector,
    PointDetector,
    detect_turned,
    detector_of,
    one_each,
)
from worker.faces.neural.photo import PhotoLooker
from worker.faces.neural.points import NeuralDetection, quarter_of
from worker.faces.neural.track import NeuralModels
from worker.faces.synthetic import draw_face
from worker.inference import registry
from worker.inference.importing import import_folder, import_model
from worker.inference.registry import ModelSet
from worker.inference.sessions import LocalRunner
from worker.inference.types import Done, ModelError
from worker.media.planes import Planes
from worker.model_choice import BUILTIN_DETECTOR

YUNET = SHARED / "models" / "yunet_n_640_640.onnx"
PORTRAITS = sorted(SHARED.glob("media/portraits/*.jpg"))
needs_yunet = pytest.mark.skipif(not YUNET.exists(), reason="the real YuNet file is not here")
KINDS = ("yoloface_8n", "yunet", "scrfd_2.5g", "retinaface_10g")
BUILTIN = NeuralModels((BUILTIN_DETECTOR,), "face_mesh", "face_descriptor")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelSet:
    """Stand-ins of all detectors: each sees its one face whatever it is shown."""
    folder = tmp_path_factory.mktemp("detectors")
    for name in KINDS:
        onnx.save(graphs.graph_of(name), folder / f"{name}.onnx")
    return import_folder(folder, folder / "cache")


@pytest.fixture(scope="module")
def runner(models: ModelSet, models_dir: Path) -> LocalRunner:
    return LocalRunner(models_dir, models=models)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> LocalRunner:
    """YuNet itself and the built-in models."""
    folder = tmp_path_factory.mktemp("yunet")
    shutil.copy(YUNET, folder / "yunet.onnx")
    return LocalRunner(models_dir, models=import_folder(folder, folder / "cache"))


def picture(size: tuple[int, int] = (1920, 1080)) -> NDArray[np.uint8]:
    noise = np.random.default_rng(2).integers(0, 256, (27, 48, 3), np.uint8)
    return np.asarray(cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC), np.uint8)


# -- one model -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_the_face_in_one_cell_is_told_in_pixels_of_the_frame(runner, name):
    detector = PointDetector(runner.models.card(name))
    rgb = picture()
    inputs, scale = detector.prepare(rgb)
    small = cv2.resize(rgb, (640, 360)).astype(np.float32)
    mean, std = {"yoloface_8n": (0, 255), "yunet": (0, 1)}.get(name, (127.5, 128))
    (seen,) = tensors.seen(detector.card.contract.image, inputs["input"])
    np.testing.assert_allclose(seen[2, :360], (small[..., 0] - mean) / std, atol=2e-2 * 255 / std)
    np.testing.assert_allclose(seen[0, :360], (small[..., 2] - mean) / std, atol=2e-2 * 255 / std)
    np.testing.assert_allclose(seen[:, 360:], -mean / std, atol=1e-5)  # black below the picture
    (face,) = detector.decode(runner.run(name, inputs), scale)
    x, y, width, height = graphs.FACE
    np.testing.assert_allclose(face.box, np.array([x - width / 2, y - height / 2, width, height]) * 3, rtol=1e-4)
    np.testing.assert_allclose(face.points, np.array(graphs.POINTS) * 3, rtol=1e-4)
    assert face.score == pytest.approx({"yoloface_8n": 0.9, "yunet": 0.95**2}.get(name, 0.85), abs=1e-4)


@pytest.mark.parametrize(("batched", "sized"), [(False, False), (True, True), (True, False)])
def test_exports_of_scrfd_with_and_without_a_batch_or_sizes_are_one_model(tmp_path, runner, batched, sized):
    onnx.save(graphs.scrfd(batched=batched, sized=sized), tmp_path / "scrfd.onnx")
    known = registry.operator_models()["scrfd_2.5g"]
    card, path = import_model(known, tmp_path / "scrfd.onnx", tmp_path / "cache")
    inputs, _ = PointDetector(card).prepare(picture())
    found = LocalRunner(tmp_path, models=ModelSet({card.name: card}, {card.name: path})).run(card.name, inputs)
    assert card.batches == batched
    assert not runner.models.card("scrfd_2.5g").batches  # as it is published
    for name, values in runner.run("scrfd_2.5g", inputs).items():
        np.testing.assert_allclose(found[name], values, atol=1e-3)


def test_outputs_of_scrfd_in_another_order_are_refused(tmp_path):
    model = graphs.scrfd()
    outputs = list(reversed(model.graph.output))
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    onnx.save(model, tmp_path / "scrfd.onnx")
    with pytest.raises(ModelError) as refused:
        import_model(registry.operator_models()["scrfd_2.5g"], tmp_path / "scrfd.onnx", tmp_path / "cache")
    assert refused.value.code == "model_unfit"


# -- union -----------------------------------------------------------------------------------------------------------


def found(x: float, score: float, size: float = 100.0) -> NeuralDetection:
    box = np.array([x, 50, size, size], np.float32)
    return NeuralDetection(box, score, np.full((5, 2), score, np.float32))


def test_a_face_of_several_looks_is_told_once_as_the_surest_sees_it():
    here, there, far = found(0, 0.7), found(12, 0.9), found(300, 0.6)
    kept = one_each([[here, far], [there]])
    assert [(one.box[0], one.score, one.points[0, 0]) for one in kept] == [
        (12, pytest.approx(0.9), pytest.approx(0.9)),
        (300, pytest.approx(0.6), pytest.approx(0.6)),
    ]
    assert one_each([[here, there]]) == [there, here]  # one look tells them apart, so they are two
    assert one_each([[here], [far]], known=[there]) == [far]
    assert one_each([]) == []


def test_detectors_in_union_tell_one_face_once_and_the_built_in_adds_what_they_miss(runner, astronaut):
    single = {name: detector_of(runner, runner.models, [name]).submit(astronaut, 40).result() for name in KINDS}
    assert all(len(faces) == 1 for faces in single.values())
    (union,) = detector_of(runner, runner.models, KINDS).submit(astronaut, 40).result()
    np.testing.assert_array_equal(union.points, single["yunet"][0].points)  # 0.95 * 0.95 is the surest
    with_builtin = detector_of(runner, runner.models, [BUILTIN_DETECTOR, *KINDS])
    assert not with_builtin.exact
    (same,) = with_builtin.submit(astronaut, 40).result()  # there really is a face where the stand-ins tell one
    np.testing.assert_array_equal(same.points, union.points)
    beside = np.concatenate([np.full_like(astronaut, 90), astronaut], axis=1)
    faces = with_builtin.submit(beside, 40).result()
    (seen,) = BuiltinDetector(runner).submit(beside, 40).result()
    assert len(faces) == 2
    assert any(np.array_equal(one.box, seen.box) for one in faces)
    assert [one.score for one in faces] == sorted((one.score for one in faces), reverse=True)


def test_the_built_in_detector_guesses_the_corners_of_the_mouth_well_enough_to_start_from(runner, astronaut):
    (seen,) = BuiltinDetector(runner).submit(astronaut, 40).result()
    five = five_points(analyse_image(astronaut, runner)[0].landmarks)
    apart = np.linalg.norm(seen.points - five, axis=1) / np.linalg.norm(five[1] - five[0])
    assert apart.max() < 0.35
    planes = Planes((512, 512))
    planes.paste(planes.whole, astronaut)
    (again,) = BuiltinDetector(runner).submit(planes, 40).result()
    np.testing.assert_allclose(again.box, seen.box, atol=4)


def test_a_detector_that_is_not_installed_is_an_error(runner):
    with pytest.raises(ModelError) as caught:
        detector_of(runner, registry.BUILTIN, ["yunet"])
    assert caught.value.code == "model_missing"


@needs_yunet
@pytest.mark.skipif(not PORTRAITS, reason="the portraits are not here")
def test_every_face_of_the_portraits_is_found_once(real):
    looker = PhotoLooker(real, real.models, NeuralModels(("yunet", BUILTIN_DETECTOR), "face_mesh", "face_descriptor"))
    assert len(PORTRAITS) == 48
    counts = {}
    for path in PORTRAITS:
        rgb = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        counts[path.stem] = len(looker.faces(rgb, min_size=32))
    assert counts == dict.fromkeys(counts, 1)


# -- large frames ----------------------------------------------------------------------------------------------------


class Blobs:
    """A detector that sees bright squares as faces, whole or cut, and those under 8 pixels of its input not at all."""

    def __init__(self) -> None:
        self.runs = 0

    def submit(self, model, inputs):
        return Done(self.run(model, inputs))

    def run(self, model, inputs):
        self.runs += 1
        boxes, scores = np.zeros((1, 128, 4), np.float32), np.zeros((1, 128), np.float32)
        bright = (inputs["input"][0].max(axis=0) > 0.6 * 255).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(bright)
        seen = [stats[k, :4] for k in range(1, count) if stats[k, 2:4].max() >= 8]
        boxes[0, : len(seen)], scores[0, : len(seen)] = np.reshape(seen, (-1, 4)), 0.9
        return {"boxes": boxes, "scores": scores, "points": np.zeros((1, 128, 5, 2), np.float32)}


@pytest.mark.parametrize("planar", [False, True])
def test_small_faces_of_a_large_frame_are_told_once_wherever_parts_of_it_meet(planar):
    card = registry.operator_models()["yoloface_8n"].card
    rgb = np.full((1700, 3000, 3), 20, np.uint8)
    places = [(x, y) for y in (0, 366, 730, 1010, 1670) for x in range(0, 2980, 74)]
    for x, y in places:
        rgb[y : y + 30, x : x + 30] = 250
    frame = rgb
    if planar:
        frame = Planes((3000, 1700))
        frame.paste(frame.whole, rgb)
    whole, runner = PointDetector(card), Blobs()
    inputs, scale = whole.prepare(frame)
    assert not whole.decode(runner.run(card.name, inputs), scale)  # too small for one look
    runner.runs = 0
    faces = EngineDetector(runner, card).submit(frame, 24).result()
    assert 8 <= runner.runs <= 40
    assert len(faces) == len(places)
    there = np.array([one.box[:2] for one in faces])
    apart = np.abs(there[:, None] - np.array(places)).max(axis=2)
    assert apart.min(axis=0).max() < 6  # pixels, for squares of 30
    runner.runs = 0
    assert EngineDetector(runner, card).submit(frame, 80).result() == []
    assert runner.runs == 1  # faces that large show in the whole frame


def crowd(heads: int = 40, side: int = 72) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Drawn heads of nobody all over a picture: uint8 [1080, 1920, 3], and the corners of their squares [heads, 2]."""
    generator = np.random.default_rng(0)
    rgb = cv2.resize(generator.integers(60, 200, (9, 16, 3), np.uint8), (1920, 1080), interpolation=cv2.INTER_CUBIC)
    corners = []
    for number in range(heads):
        row, column = divmod(number, 8)
        x = column * 240 + int(generator.integers(5, 235 - side))
        y = row * 216 + int(generator.integers(5, 211 - side))
        head = draw_face(generator, 160)
        rgb[y : y + side, x : x + side] = cv2.resize(head, (side, side), interpolation=cv2.INTER_AREA)
        corners.append((x, y))
    return rgb, np.array(corners, np.float64)


@needs_yunet
def test_small_faces_of_a_crowd_are_found_part_by_part(real):
    rgb, corners = crowd()
    faces = detector_of(real, real.models, ["yunet", BUILTIN_DETECTOR]).submit(rgb, 24).result()
    middles = np.array([one.box[:2] + one.box[2:] / 2 for one in faces])
    inside = ((middles[:, None] > corners) & (middles[:, None] < corners + 72)).all(axis=2)
    assert np.median([one.box[2:].max() for one in faces]) < 36  # pixels
    assert inside.any(axis=0).sum() >= 38  # heads found
    assert (inside.sum(axis=0) <= 1).all()  # and none twice
    assert (~inside.any(axis=1)).sum() <= 1  # false alarms
    model = PointDetector(real.models.card("yunet"))
    inputs, scale = model.prepare(rgb)
    assert len(model.decode(real.run("yunet", inputs), scale)) < 30  # what one look at the whole shows


# -- turned pictures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_face_that_lies_or_hangs_is_found_where_no_other_is(runner, astronaut, quarters):
    looker = PhotoLooker(runner, runner.models, BUILTIN)
    (upright,) = looker.faces(astronaut)
    turned = np.ascontiguousarray(np.rot90(astronaut, -quarters))  # clockwise
    (face,) = looker.faces(turned)
    x, y = upright.five[:, 0], upright.five[:, 1]
    wanted = {1: (512 - y, x), 2: (512 - x, 512 - y), 3: (y, 512 - x)}[quarters]
    eyes = float(np.linalg.norm(upright.five[1] - upright.five[0]))
    assert np.abs(face.five - np.stack(wanted, 1)).max() < 0.06 * eyes  # the person's right eye is still the first
    assert float(1 - face.descriptor @ upright.descriptor) < 0.02


def test_turned_faces_beside_upright_ones_are_looked_for_when_asked(runner, astronaut, grace):
    small = cv2.resize(astronaut, (512, 512))
    both = np.concatenate([small, np.ascontiguousarray(np.rot90(grace[:512], 2))], axis=1)
    looker = PhotoLooker(runner, runner.models, BUILTIN)
    assert len(looker.faces(both)) == 1
    faces = looker.faces(both, turned="always")
    assert sorted(float(one.five[0, 0]) > float(one.five[1, 0]) for one in faces) == [False, True]
    detector = detector_of(runner, runner.models, [BUILTIN_DETECTOR])
    assert {quarter_of(one) for one in detect_turned(detector, both, 45) if one.box[0] > 512} == {2}
