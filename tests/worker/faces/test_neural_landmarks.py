"""Landmarks of every model land where the face is, whatever their markup and however it is turned; embeddings too."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from tests.worker import neural_graphs as graphs
from tests.worker import tensors
from worker.faces import align
from worker.faces.analyse import analyse_image
from worker.faces.embed import Descriptor
from worker.faces.landmarks import pose_of
from worker.faces.neural.detectors import detector_of
from worker.faces.neural.embeddings import ArcFace, BuiltinDescriptor, apart, describer_of
from worker.faces.neural.landmarks import (
    Fan2d,
    FanFromFive,
    Insight106,
    LandmarkFinder,
    Mesh478,
    PeppaWutz,
    landmark_finder,
)
from worker.faces.neural.photo import PhotoLooker
from worker.faces.neural.points import (
    INSIGHT106_TO_68,
    MESH_TO_68,
    Landmarks68,
    NeuralDetection,
    five_of,
    quarter_of,
    yaw_of,
)
from worker.faces.neural.track import NeuralModels, NeuralTracker
from worker.faces.topology import TOPOLOGY
from worker.inference import registry
from worker.inference.importing import import_folder
from worker.inference.registry import ModelSet
from worker.inference.sessions import LocalRunner
from worker.media.planes import Planes
from worker.model_choice import BUILTIN_DETECTOR

LOOKING = {"2dfan4": Fan2d, "peppa_wutz": PeppaWutz, "2d106det": Insight106}
KINDS = {**LOOKING, "fan_68_5": FanFromFive}
BOX = np.array([780, 315, 360, 450], np.float32)
FIVE = np.array([[895, 486], [1025, 486], [960, 567], [906, 648], [1014, 648]], np.float32)
FOUND = NeuralDetection(BOX, 0.8, FIVE)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelSet:
    folder = tmp_path_factory.mktemp("landmarks")
    for name in (*KINDS, "auraface_v1", "arcface_w600k_r50"):
        onnx.save(graphs.graph_of(name), folder / f"{name}.onnx")
    return import_folder(folder, folder / "cache")


@pytest.fixture(scope="module")
def runner(models: ModelSet, models_dir: Path) -> LocalRunner:
    return LocalRunner(models_dir, models=models)


def picture(size: tuple[int, int] = (1920, 1080)) -> NDArray[np.uint8]:
    noise = np.random.default_rng(4).integers(0, 256, (27, 48, 3), np.uint8)
    return np.asarray(cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def located(
    runner: LocalRunner, name: str, rgb: NDArray[np.uint8], found: NeuralDetection
) -> tuple[LandmarkFinder, Landmarks68]:
    finder = landmark_finder(runner.models.card(name))
    inputs, placed = finder.prepare(rgb, found)
    return finder, finder.decode(runner.run(name, inputs), placed)


# -- stand-ins with the exact tensors --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_every_model_tells_68_points_in_pixels_of_the_frame(runner, name):
    finder, seen = located(runner, name, picture(), FOUND)
    assert type(finder) is KINDS[name]
    assert seen.points.shape == (68, 2)
    if name == "fan_68_5":  # the template's face moved by the mean of the five points, seen in the template's square
        matrix = align.similarity(FIVE, np.array(align.TEMPLATES["ffhq_512"]))
        wanted = graphs.template_68() + align.apply(matrix, FIVE).mean(axis=0)
        wanted = align.apply(align.invert(matrix), wanted)
    else:
        wanted = BOX[:2] + graphs.template_68() * BOX[2:]
    np.testing.assert_allclose(seen.points, wanted, atol=0.1)
    score = {"2dfan4": 0.75 / 0.9, "peppa_wutz": 0.75 / 0.95}.get(name, FOUND.score)
    assert seen.score == pytest.approx(score, abs=1e-3)
    assert finder.follows == (name in ("2dfan4", "peppa_wutz"))


@pytest.mark.parametrize("name", LOOKING)
@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_the_square_holds_the_box_and_stands_upright_whichever_way_the_face_lies(runner, name, quarters):
    rgb = picture()
    upright, _ = landmark_finder(runner.models.card(name)).prepare(rgb, FOUND)
    (wanted,) = ({key: array.copy() for key, array in upright.items()}.values(),)
    turned = np.ascontiguousarray(np.rot90(rgb, -quarters))  # clockwise
    height, width = rgb.shape[:2]
    back = {
        0: lambda p: p,
        1: lambda p: np.stack([height - p[:, 1], p[:, 0]], 1),
        2: lambda p: np.stack([width - p[:, 0], height - p[:, 1]], 1),
        3: lambda p: np.stack([p[:, 1], width - p[:, 0]], 1),
    }[quarters]
    corners = back(np.stack([BOX[:2], BOX[:2] + BOX[2:]]))
    low, high = corners.min(axis=0), corners.max(axis=0)
    found = NeuralDetection(np.concatenate([low, high - low]).astype(np.float32), 0.8, back(FIVE).astype(np.float32))
    assert quarter_of(found) == quarters
    finder, seen = located(runner, name, turned, found)
    inputs, _ = finder.prepare(turned, found)
    for array, other in zip(inputs.values(), wanted, strict=True):
        assert np.abs(array.astype(int) - other).mean() < 0.02 * 255
    np.testing.assert_allclose(seen.points, back(BOX[:2] + graphs.template_68() * BOX[2:]), atol=0.1)


def test_without_a_detectors_points_five_say_nothing_and_the_others_look_at_the_box(runner):
    unseen = NeuralDetection(BOX, 1.0, np.zeros((5, 2), np.float32))
    assert not unseen.has_points
    assert quarter_of(unseen) == 0
    assert located(runner, "fan_68_5", picture(), unseen)[1].score == 0
    for name in LOOKING:
        np.testing.assert_array_equal(
            located(runner, name, picture(), unseen)[1].points, located(runner, name, picture(), FOUND)[1].points
        )


# -- markups ---------------------------------------------------------------------------------------------------------


def test_the_mesh_and_the_68_points_name_the_same_places():
    points = TOPOLOGY.canonical[list(MESH_TO_68)]
    assert len(set(MESH_TO_68)) == 68
    twins = [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, *range(35, 30, -1)]
    twins += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    twins += [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
    assert [int(TOPOLOGY.mirror[one]) for one in MESH_TO_68] == [MESH_TO_68[one] for one in twins]
    eyes = {int(one) for one in (*TOPOLOGY.right_eye, *TOPOLOGY.left_eye)}
    assert set(MESH_TO_68[36:48]) < eyes
    assert set(MESH_TO_68[48:60]) < {int(one) for one in TOPOLOGY.lips_outer}
    assert set(MESH_TO_68[60:]) < {int(one) for one in TOPOLOGY.lips_inner}
    assert set(MESH_TO_68[:17]) < {int(one) for one in TOPOLOGY.oval}
    # Every part runs in the direction of the drawn plain face.
    drawn = graphs.template_68()
    for part in (range(17), range(17, 22), range(22, 27), range(27, 31), range(31, 36), range(36, 42), range(48, 60)):
        steps, wanted = (np.diff(each[list(part)][:, :2], axis=0) for each in (points, drawn))
        assert (steps * wanted).sum() > 0.8 * np.linalg.norm(steps) * np.linalg.norm(wanted)
    five = five_of(points)
    np.testing.assert_allclose(five, align.five_points(TOPOLOGY.canonical), atol=0.05)


def test_the_106_points_keep_their_five():
    assert len(set(INSIGHT106_TO_68)) == 68
    assert max(INSIGHT106_TO_68) < 106
    assert (INSIGHT106_TO_68[30], INSIGHT106_TO_68[48], INSIGHT106_TO_68[54]) == (86, 52, 61)


# -- the built-in mesh and descriptor --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["astronaut", "grace"])
@pytest.mark.parametrize("turn", [0, 37, 90, 180])
def test_the_built_in_mesh_gives_68_points_of_a_real_face_in_one_look(request, runner, name, turn):
    rgb = request.getfixturevalue(name)
    (face,) = analyse_image(rgb, runner)
    height, width = rgb.shape[:2]
    turning = cv2.getRotationMatrix2D((width / 2, height / 2), -turn, 1.0)
    turned = cv2.warpAffine(rgb, turning, (width, height), borderMode=cv2.BORDER_REPLICATE)
    there = align.apply(turning, face.landmarks[:, :2])
    low, high = there.min(axis=0), there.max(axis=0)
    rough = align.five_points(np.concatenate([there, np.zeros((478, 1), np.float32)], axis=1)) + 3
    found = NeuralDetection(np.concatenate([low, high - low]), 0.9, rough.astype(np.float32))
    finder, seen = located(runner, "face_mesh", turned, found)
    assert isinstance(finder, Mesh478)
    assert seen.score > 0.9
    eyes = float(np.linalg.norm(rough[1] - rough[0]))
    off = np.linalg.norm(seen.points - there[list(MESH_TO_68)], axis=1)
    assert off.mean() < 0.05 * eyes
    if turn == 0:
        assert yaw_of(seen.points) == pytest.approx(pose_of(face.landmarks).yaw, abs=12)
        unseen = NeuralDetection(found.box, 1.0, np.zeros((5, 2), np.float32))
        again = located(runner, "face_mesh", turned, unseen)[1]
        assert np.linalg.norm(again.points - seen.points, axis=1).mean() < 0.08 * eyes
        nothing = NeuralDetection(np.array([5, 5, 60, 60], np.float32), 0.9, np.zeros((5, 2), np.float32))
        assert located(runner, "face_mesh", turned, nothing)[1].score < 0.5


def test_no_model_of_an_operator_is_needed_to_look_at_a_photo(runner, astronaut):
    looker = PhotoLooker(runner, registry.BUILTIN, NeuralModels((BUILTIN_DETECTOR,), "face_mesh", "face_descriptor"))
    (found,) = looker.faces(astronaut)
    (face,) = analyse_image(astronaut, runner)
    eyes = float(np.linalg.norm(found.five[1] - found.five[0]))
    assert np.linalg.norm(found.five - align.five_points(face.landmarks), axis=1).max() < 0.08 * eyes
    assert looker.descriptor_size == 128
    again = looker.face_at(astronaut, face.box)
    assert apart(again.descriptor, found.descriptor) < 0.01


def test_a_set_without_landmarks_of_an_operator_follows_a_face_through_a_clip(runner, astronaut):
    tracker = NeuralTracker(
        runner, runner.models, names=NeuralModels((BUILTIN_DETECTOR,), "face_mesh", "auraface_v1"), detect_every=3
    )
    numbers, middles = [], []
    for index in range(7):
        planes = Planes((640, 512))
        rgb = np.full((512, 640, 3), 90, np.uint8)
        rgb[:, 10 * index : 10 * index + 512] = astronaut
        planes.paste(planes.whole, rgb)
        pending = tracker.begin(index, index / 25, planes)
        assert (pending.detection is not None) == (index % 3 == 0)
        tracker.locate(pending, planes)
        (face,) = tracker.finish(pending, planes)
        numbers.append(face.track)
        middles.append(float(face.landmarks.mean(axis=0)[0]))
    assert numbers == [0] * 7
    np.testing.assert_allclose(np.diff(middles), 10, atol=2.5)


def test_landmarks_that_cannot_tell_a_face_make_the_detector_look_at_every_frame(runner, astronaut):
    names = NeuralModels((BUILTIN_DETECTOR,), "2d106det", "auraface_v1")
    tracker = NeuralTracker(runner, runner.models, names=names, detect_every=4, min_size=40)
    planes, empty = Planes((512, 512)), Planes((512, 512))
    planes.paste(planes.whole, astronaut)
    empty.buffer[:] = 128
    empty.y[:] = planes.y.mean()
    seen = []
    for index, frame in enumerate([planes, planes, empty, planes]):
        pending = tracker.begin(index, index / 25, frame)
        assert pending.detection is not None
        tracker.locate(pending, frame)
        seen.append(len(tracker.finish(pending, frame)))
    assert seen == [1, 1, 0, 1]  # and nothing is followed where the detector sees nobody


# -- embeddings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["arcface_w600k_r50", "auraface_v1"])
def test_an_arcface_is_given_the_aligned_face(runner, name):
    describer = describer_of(runner.models.card(name))
    assert type(describer) is ArcFace
    assert describer.size == 512
    rgb = picture()
    five = np.array(align.TEMPLATES["arcface_112_v2"], np.float32) * 112 + (400, 300)
    tensor = describer.prepare(rgb, five)["input"]
    wanted = rgb[300:412, 400:512].astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1
    np.testing.assert_allclose(tensors.seen(describer.image, tensor), wanted, atol=2e-2)
    outputs = runner.run(name, {"input": tensor})
    np.testing.assert_allclose(describer.decode(outputs), outputs["output"][0] / np.linalg.norm(outputs["output"]))


def test_the_built_in_descriptor_says_the_same_through_five_points(runner, astronaut, grace):
    describer = describer_of(registry.card("face_descriptor"))
    assert type(describer) is BuiltinDescriptor
    vectors = {}
    for name, rgb in (("astronaut", astronaut), ("grace", grace), ("again", cv2.convertScaleAbs(astronaut, alpha=0.8))):
        (face,) = analyse_image(astronaut if name == "again" else rgb, runner)
        inputs = describer.prepare(rgb, align.five_points(face.landmarks))
        vectors[name] = describer.decode(runner.run("face_descriptor", inputs))
        full = Descriptor(runner).describe(rgb, face.landmarks)
        assert apart(vectors[name], full / np.linalg.norm(full)) < 0.01
    assert apart(vectors["astronaut"], vectors["again"]) < describer.same_apart
    assert apart(vectors["astronaut"], vectors["grace"]) > 1.5 * describer.same_apart


def test_detection_landmarks_and_embedding_come_together_in_planes_too(runner, astronaut):
    planes = Planes((512, 512))
    planes.paste(planes.whole, astronaut)
    (found,) = detector_of(runner, registry.BUILTIN, [BUILTIN_DETECTOR]).submit(planes, 45).result()
    seen = located(runner, "face_mesh", planes, found)[1]
    (face,) = analyse_image(astronaut, runner)
    eyes = float(np.linalg.norm(found.points[1] - found.points[0]))
    assert np.linalg.norm(five_of(seen.points) - align.five_points(face.landmarks), axis=1).max() < 0.1 * eyes
