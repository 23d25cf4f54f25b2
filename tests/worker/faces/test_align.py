from __future__ import annotations

import cv2
import numpy as np
import pytest

from worker.faces import align
from worker.media.planes import Planes


def test_a_similarity_is_recovered_exactly_and_inverted():
    rng = np.random.default_rng(2)
    points = rng.normal(size=(8, 2)) * 50
    true = align.square(np.array([10.0, -4.0]), 300.0, 0.4, 150)
    mapped = points @ true[:, :2].T + true[:, 2]
    found = align.similarity(points, mapped)
    np.testing.assert_allclose(found, true, atol=1e-9)
    back = align.apply(align.invert(found), mapped.astype(np.float32))
    np.testing.assert_allclose(back, points, atol=1e-3)
    assert align.scale_of(found) == pytest.approx(0.5)


def test_a_noisy_fit_is_the_least_squares_one():
    rng = np.random.default_rng(3)
    points, target = rng.normal(size=(6, 2)), rng.normal(size=(6, 2))
    # The same problem as a linear system in a, b, tx, ty.
    rows = np.concatenate(
        [
            np.stack([points[:, 0], -points[:, 1], np.ones(6), np.zeros(6)], axis=1),
            np.stack([points[:, 1], points[:, 0], np.zeros(6), np.ones(6)], axis=1),
        ]
    )
    a, b, tx, ty = np.linalg.lstsq(rows, np.concatenate([target[:, 0], target[:, 1]]), rcond=None)[0]
    np.testing.assert_allclose(align.similarity(points, target), [[a, -b, tx], [b, a, ty]], atol=1e-9)


@pytest.mark.parametrize("scale", [0.11, 0.35, 0.9, 2.5])
def test_a_crop_puts_each_pixel_where_its_transform_says(scale):
    y, x = np.mgrid[0:900, 0:1100]
    ramp = np.stack([x * 0.2, y * 0.25, np.full_like(x, 7)], axis=2).astype(np.uint8)
    matrix = align.square(np.array([560.0, 430.0]), 96 / scale, 0.3, 96)
    crop = align.warp(ramp, matrix, 96, border=cv2.BORDER_REPLICATE)
    v, u = np.mgrid[8:88, 8:88]
    back = align.apply(align.invert(matrix), np.stack([u.ravel(), v.ravel()], axis=1).astype(np.float32))
    inside = (back[:, 0] > 2) & (back[:, 0] < 1097) & (back[:, 1] > 2) & (back[:, 1] < 897)
    wanted = np.stack([back[:, 0] * 0.2, back[:, 1] * 0.25], axis=1)
    got = crop[8:88, 8:88].reshape(-1, 3)[:, :2].astype(float)
    assert np.abs(got - wanted)[inside].max() < 1.6


def test_crops_over_the_border_and_outside_the_picture_are_safe():
    picture = np.full((40, 50, 3), 200, np.uint8)
    for centre in ((0.0, 0.0), (49.0, 39.0), (-500.0, 20.0), (1e4, 1e4)):
        for side in (10.0, 400.0):
            crop = align.warp(picture, align.square(np.array(centre), side, 0.2, 64), 64)
            assert crop.shape == (64, 64, 3)


@pytest.mark.parametrize("side", [48.0, 180.0, 400.0, 700.0])
@pytest.mark.parametrize("centre", [(320.0, 180.0), (20.0, 10.0), (639.0, 359.0)])
def test_a_crop_of_a_film_frame_is_that_of_its_picture_and_black_beyond(centre, side):
    planes = Planes((640, 360))
    rng = np.random.default_rng(5)
    planes.paste(planes.whole, cv2.GaussianBlur(rng.integers(0, 255, (360, 640, 3), dtype=np.uint8), (0, 0), 6))
    matrix = align.square(np.array(centre), side, 0.3, 192)
    found, wanted = (align.warp(frame, matrix, 192).astype(int) for frame in (planes, planes.to_rgb()))
    beyond = (wanted == 0).all(axis=2)
    inner = cv2.erode((~beyond).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    assert np.abs(found - wanted)[inner].mean() < 2.0
    outer = cv2.erode(beyond.astype(np.uint8), np.ones((9, 9), np.uint8), borderValue=0) > 0
    assert (found[outer] <= 1).all()


def test_templates_put_the_eyes_level_and_in_order(grace_face):
    for name in align.TEMPLATES:
        points = align.apply(
            align.to_template(grace_face.landmarks, name, 128), align.five_points(grace_face.landmarks)
        )
        wanted = np.array(align.TEMPLATES[name]) * 128
        assert np.abs(points - wanted).max() < 12, name
        assert points[0, 0] < points[2, 0] < points[1, 0]
    with pytest.raises(KeyError):
        align.to_template(grace_face.landmarks, "unknown", 128)
