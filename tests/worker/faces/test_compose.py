"""Joining a face to its picture, and the numbers that say how steady a film of it is."""

from __future__ import annotations

from typing import get_args

import cv2
import numpy as np
import pytest

from worker.faces.compose import compose, match_colours, seam_error
from worker.faces.stability import flicker, held_still, jitter, wavering
from worker.faces.swap import MeshSwapper, SwapOptions
from worker.spec import Blend

WAYS = get_args(Blend)
SIDE = 160


def disc(soft: float):
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    return np.clip((50 - np.hypot(x, y)) / soft + 0.5, 0, 1).astype(np.float32)


def texture(seed):
    noise = np.random.default_rng(seed).normal(0, 1, (SIDE, SIDE, 3)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 2)
    return np.clip(120 + 25 * noise / noise.std(), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("way", WAYS)
def test_where_nothing_may_show_nothing_changes_and_a_face_like_the_picture_leaves_it(way):
    before, weight = texture(1), disc(20)
    joined = compose(before, texture(2), weight, way)
    np.testing.assert_array_equal(joined[weight == 0], before[weight == 0])
    assert np.abs(joined.astype(int) - before)[weight > 0.99].mean() > 5
    same = compose(before, before.copy(), weight, way)
    assert np.abs(same.astype(int) - before).max() <= 1


def test_poisson_takes_the_level_from_the_picture_and_the_detail_from_the_face():
    before = texture(3)
    full = np.clip(before.astype(int) + 40, 0, 255).astype(np.uint8)
    weight = disc(8)
    assert np.abs(compose(before, full, weight, "poisson").astype(int) - before)[weight > 0.99].mean() < 4
    assert np.abs(compose(before, full, weight, "feather").astype(int) - before)[weight > 0.99].mean() > 35


def test_multiband_hides_a_step_of_light_better_than_a_feather_of_its_width():
    before = texture(4)
    full = np.clip(before.astype(int) + 30, 0, 255).astype(np.uint8)
    weight = disc(6)
    errors = {way: seam_error(before, full, weight, compose(before, full, weight, way)) for way in WAYS}
    assert errors["multiband"] < 0.9 * errors["feather"]
    assert seam_error(before, before, weight, before) < 1e-6


def test_a_seam_is_what_comes_from_neither_layer():
    before = np.full((SIDE, SIDE, 3), 100, np.uint8)
    full = np.full((SIDE, SIDE, 3), 140, np.uint8)
    wide, narrow = disc(40), disc(4)
    assert seam_error(before, full, wide, compose(before, full, wide)) == pytest.approx(1.0, rel=0.5)
    assert seam_error(before, full, narrow, compose(before, full, narrow)) > 5


def test_tiny_and_empty_masks_are_no_error():
    before, full = texture(5), texture(6)
    for weight in (np.zeros((SIDE, SIDE), np.float32), np.eye(SIDE, dtype=np.float32)):
        for way in WAYS:
            compose(before, full, weight, way)
    whole = np.ones((SIDE, SIDE), np.float32)
    for way in WAYS:  # a face that the frame cuts off on all sides
        assert compose(before, full, whole, way).shape == before.shape


def test_colours_are_those_of_the_picture_afterwards():
    before = np.clip(texture(7).astype(int) + (30, -10, -25), 0, 255).astype(np.uint8)
    full, weight = texture(8), disc(10)
    inside = weight > 0.5
    matched = match_colours(full, before, weight)
    assert np.abs(matched[inside].mean(0) - before[inside].mean(0)).max() < 4
    assert np.abs(full[inside].mean(0) - before[inside].mean(0)).max() > 20
    np.testing.assert_array_equal(match_colours(full, before, np.zeros_like(weight)), full)


@pytest.mark.parametrize("way", WAYS)
def test_a_swap_changes_only_its_box_whichever_way_it_is_joined(way, grace, grace_face, astronaut_source):
    frame = grace.copy()
    report = MeshSwapper([astronaut_source], SwapOptions(smoothing=0.0, blend=way)).swap(frame, grace_face.landmarks)
    x, y, width, height = (int(value) for value in report.box)
    outside = np.ones(frame.shape[:2], bool)
    outside[y : y + height, x : x + width] = False
    np.testing.assert_array_equal(frame[outside], grace[outside])
    assert np.abs(frame.astype(int) - grace).max() > 40


def test_the_layers_of_a_swap_are_what_it_joins(grace, grace_face, astronaut_source):
    swapper = MeshSwapper([astronaut_source], SwapOptions(smoothing=0.0))
    box, full, weight = swapper.layers(grace, grace_face.landmarks)
    swapped = grace.copy()
    swapper.swap(swapped, grace_face.landmarks)
    x, y, width, height = (int(value) for value in box)
    part = slice(y, y + height), slice(x, x + width)
    away = np.abs(compose(grace[part], full, weight).astype(int) - swapped[part])
    assert np.percentile(away, 99) <= 2
    assert weight.max() > 0.95


def test_flicker_and_trembling_are_what_goes_up_and_down_not_what_moves_on():
    ramp = [np.full((8, 8), float(k), np.float32) for k in range(9)]
    assert flicker(ramp) == 0
    assert flicker([frame + 2 * (k % 2) for k, frame in enumerate(ramp)]) == pytest.approx(4)
    points = [np.array([[k, 2 * k, 0.0]], np.float32) for k in range(9)]
    assert jitter(points) == 0
    assert jitter([one + (k % 2) for k, one in enumerate(points)]) == pytest.approx(2)
    steady = [np.zeros(4, np.float32)] * 5
    assert wavering(steady) == 0
    assert wavering([np.array([k % 2, 0, 0, 0], np.float32) for k in range(5)]) == 1


def test_a_face_is_held_still(grace, grace_face):
    moved = np.roll(grace, (4, 7), axis=(0, 1))
    away = held_still(grace, grace_face.landmarks) - held_still(moved, grace_face.landmarks + [7, 4, 0])
    assert np.abs(away).max() <= 1
