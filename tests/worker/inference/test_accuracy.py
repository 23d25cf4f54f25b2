"""How drift is measured and judged: known drifts give known numbers, and what was not measured does not pass."""

import math

import numpy as np
import pytest

from worker.inference import accuracy
from worker.inference.accuracy import (
    DescriptorReader,
    DetectorReader,
    FaceListReader,
    ImageReader,
    LandmarkReader,
    Limits,
)


def test_landmarks_that_move_one_pixel_on_a_face_of_two_hundred_drift_half_a_per_cent():
    noise = np.random.default_rng(0)
    points = noise.uniform(0, 200, (4, 50, 3)).astype(np.float32)
    points[:, 0, :2], points[:, 1, :2] = 0, 200
    moved = points + np.array([1, 0, 9], np.float32)
    scores = np.ones((4, 1), np.float32)
    metrics = LandmarkReader("p", 50, "s").compare({"p": points, "s": scores}, {"p": moved, "s": scores})
    assert metrics["drift_p95_pixels"] == pytest.approx(1.0, abs=1e-4)
    assert metrics["drift_p95_percent"] == pytest.approx(0.5, abs=1e-4)
    assert (metrics["faces"], metrics["faces_changed"]) == (4, 0)


def test_landmarks_of_no_face_do_not_count_but_a_face_that_appears_there_does():
    points = np.zeros((2, 5, 3), np.float32)
    points[:, 1] = 100
    wild = points.copy()
    wild[1] += 50
    full = {"p": points, "s": np.array([[0.9], [0.1]], np.float32)}
    lower = {"p": wild, "s": np.array([[0.9], [0.6]], np.float32)}
    metrics = LandmarkReader("p", 5, "s").compare(full, lower)
    assert metrics["drift_worst_percent"] == 0
    assert metrics["faces_changed"] == 1
    assert metrics["score_drift_worst"] == pytest.approx(0.5)


def test_boxes_that_move_by_half_their_width_overlap_by_a_third():
    boxes = np.tile(np.array([10, 10, 4, 4, 0], np.float32), (3, 6, 1))
    moved = boxes + np.array([2, 0, 0, 0, 0], np.float32)
    scores = np.full((3, 6, 1), 2, np.float32)
    metrics = DetectorReader("b", "s", logits=True).compare({"b": boxes, "s": scores}, {"b": moved, "s": scores})
    assert metrics["boxes"] == 18
    assert metrics["box_overlap_worst"] == pytest.approx(1 / 3)


def test_a_detector_that_finds_nothing_has_no_overlap_and_so_does_not_pass():
    boxes, scores = np.zeros((3, 6, 4), np.float32), np.full((3, 6, 1), -5, np.float32)
    outputs = {"b": boxes, "s": scores}
    metrics = accuracy.measure(DetectorReader("b", "s", logits=True), outputs, outputs)
    assert not accuracy.passes(metrics, Limits({}, {"box_overlap_p05": 0.9}))


def test_a_lost_face_is_counted():
    boxes = np.ones((2, 3, 4), np.float32)
    sure = np.array([[0.9, 0, 0], [0.6, 0, 0]], np.float32)
    unsure = np.array([[0.9, 0, 0], [0.4, 0, 0]], np.float32)
    metrics = DetectorReader("b", "s").compare({"b": boxes, "s": sure}, {"b": boxes, "s": unsure})
    assert metrics["faces_changed"] == 1


def test_landmarks_without_a_score_are_all_of_faces():
    points = np.zeros((2, 5, 3), np.float32)
    points[:, 1] = 100
    metrics = LandmarkReader("p", 5).compare({"p": points}, {"p": points + 1})
    assert metrics["faces"] == 2
    assert metrics["drift_p95_percent"] == pytest.approx(100 * math.hypot(1, 1) / 100)


def face_list(*rows):
    """Rows of x, y, width, height, score as the outputs of one picture, filled up to four."""
    table = np.zeros((1, 4, 5), np.float32)
    table[0, : len(rows)] = rows
    return {"b": table[..., :4], "s": table[..., 4]}


def test_lists_in_another_order_are_the_same_faces():
    full = face_list((0, 0, 10, 10, 0.9), (50, 50, 20, 20, 0.8))
    lower = face_list((50, 50, 20, 20, 0.79), (0, 0, 10, 9, 0.78))
    metrics = FaceListReader("b", "s").compare(full, lower)
    assert (metrics["boxes"], metrics["faces_changed"]) == (2, 0)
    assert metrics["box_overlap_worst"] == pytest.approx(0.9)
    assert metrics["score_drift_worst"] == pytest.approx(0.12)


def test_a_face_of_only_one_list_is_counted_whichever_list_it_is():
    one, two = face_list((0, 0, 10, 10, 0.9)), face_list((0, 0, 10, 10, 0.9), (50, 50, 20, 20, 0.8))
    elsewhere, none = face_list((30, 0, 10, 10, 0.9)), face_list((0, 0, 10, 10, 0.3))
    reader = FaceListReader("b", "s")
    assert reader.compare(one, two)["faces_changed"] == reader.compare(two, one)["faces_changed"] == 1
    assert reader.compare(one, elsewhere)["faces_changed"] == 2
    assert reader.compare(one, none)["faces_changed"] == 1
    assert "box_overlap_p05" not in reader.compare(none, none)


def test_a_pair_that_crosses_a_threshold_is_counted_once_and_others_are_not():
    vectors = np.array([[0.0], [0.449], [2.0]], np.float32)
    moved = np.array([[0.0], [0.452], [2.0]], np.float32)
    metrics = DescriptorReader("v", (0.45, 0.60)).compare({"v": vectors}, {"v": moved})
    assert (metrics["pairs"], metrics["pairs_crossing"]) == (3, 1)
    assert metrics["distance_worst"] == pytest.approx(0.003, abs=1e-6)


def test_descriptors_that_are_compared_by_direction_do_not_drift_by_length():
    vectors = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)
    full, lower = {"v": vectors}, {"v": 3 * vectors}
    assert DescriptorReader("v", (1.0,), normalised=True).compare(full, lower)["distance_worst"] < 1e-6
    assert DescriptorReader("v", (1.0,)).compare(full, lower)["distance_worst"] > 1


def test_the_ratio_of_a_picture_is_that_of_its_worst_sample_and_ignores_what_nobody_sees():
    full = np.full((2, 3, 8, 8), 0.5, np.float32)
    lower = full.copy()
    lower[1] += 0.1
    metrics = ImageReader("i").compare({"i": full}, {"i": lower})
    assert metrics["psnr_worst_db"] == pytest.approx(20, abs=1e-3)
    over = ImageReader("i").compare({"i": np.full((1, 2), 1.2)}, {"i": np.full((1, 2), 1.9)})
    assert over["psnr_worst_db"] == 120


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_fails_and_nothing_else_is_told(value):
    full = {"i": np.zeros((3, 4), np.float32)}
    lower = {"i": np.array([[0, 0, 0, 0], [0, value, 0, 0], [0, 0, 0, 0]], np.float32)}
    metrics = accuracy.measure(ImageReader("i"), full, lower)
    assert metrics == {accuracy.SAMPLES: 3, accuracy.NOT_FINITE: 1}
    assert not accuracy.passes(metrics, Limits({}, {}))


def test_what_was_not_measured_or_is_no_number_does_not_pass():
    limits = Limits({"drift": 1.0}, {})
    assert accuracy.passes({accuracy.NOT_FINITE: 0, "drift": 1.0}, limits)
    assert not accuracy.passes({accuracy.NOT_FINITE: 0}, limits)
    assert not accuracy.passes({"drift": 0.5}, limits)
    assert not accuracy.passes({accuracy.NOT_FINITE: 0, "drift": math.nan}, limits)


def test_the_worse_of_two_trials_counts_on_either_side_of_a_limit():
    limits = Limits({"drift": 1}, {"ratio": 1})
    first, second = {"drift": 1.0, "ratio": 5.0, "lost": 1.0, "told": 9.0}, {"drift": 2.0, "ratio": 7.0, "told": 3.0}
    assert accuracy.worse(first, second, limits) == {"drift": 2.0, "ratio": 5.0, "told": 3.0}
    broken = {accuracy.NOT_FINITE: 1.0}
    assert accuracy.worse({**first, accuracy.NOT_FINITE: 0.0}, broken, limits) == broken
