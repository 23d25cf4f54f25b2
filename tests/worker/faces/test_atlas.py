from __future__ import annotations

import numpy as np

from worker.faces import atlas, raster
from worker.faces.topology import TOPOLOGY


def test_every_triangle_of_the_layout_faces_up_so_that_no_eye_is_culled(grace_face, astronaut_face):
    assert len(TOPOLOGY.triangles) == 852 + 16 + 16 + 18
    assert (raster.signed_areas(atlas.LAYOUT, TOPOLOGY.triangles) > 0).all()
    for face in (grace_face, astronaut_face):
        holes = raster.signed_areas(face.landmarks, TOPOLOGY.triangles)[TOPOLOGY.skin_triangles :][:32]
        assert (holes > 0).all()


def test_the_closed_mesh_has_no_hole_and_no_overlap():
    index = raster.cover(atlas.positions(400), TOPOLOGY.triangles, 400, 400)
    outline = atlas.positions(400)[TOPOLOGY.oval]
    following = np.roll(outline, -1, axis=0)
    enclosed = abs(float((outline[:, 0] * following[:, 1] - outline[:, 1] * following[:, 0]).sum())) / 2
    triangles = float(raster.signed_areas(atlas.positions(400), TOPOLOGY.triangles).sum()) / 2
    assert abs(triangles / enclosed - 1) < 1e-4
    assert abs((index >= 0).sum() / enclosed - 1) < 0.02


def test_the_layout_is_its_own_mirror_image():
    mirror = TOPOLOGY.mirror
    assert (mirror[mirror] == np.arange(478)).all()
    flipped = atlas.LAYOUT * [-1, 1] + [1, 0]
    np.testing.assert_allclose(flipped[mirror], atlas.LAYOUT, atol=1e-5)
    for left, right in ((263, 33), (362, 133), (473, 468), (454, 234), (291, 61)):
        assert mirror[left] == right


def test_affine_maps_send_corners_to_corners():
    rng = np.random.default_rng(4)
    picture, texture = rng.uniform(0, 99, (9, 2)).astype(np.float32), rng.uniform(0, 99, (9, 2)).astype(np.float32)
    triangles = np.arange(9, dtype=np.int32).reshape(3, 3)
    affine = raster.affines(picture, texture, triangles)
    for t, corners in enumerate(triangles):
        for corner in corners:
            x, y = picture[corner]
            u, v = (
                affine[t, 0] * x + affine[t, 1] * y + affine[t, 2],
                affine[t, 3] * x + affine[t, 4] * y + affine[t, 5],
            )
            np.testing.assert_allclose([u, v], texture[corner], atol=0.02)


def test_near_triangles_hide_far_ones_and_backs_are_left_out():
    points = np.array([[0, 0, 5], [20, 0, 5], [0, 20, 5], [0, 0, 1], [10, 0, 1], [0, 10, 1]], np.float32)
    both = np.array([[3, 4, 5], [0, 1, 2]], np.int32)
    index = raster.cover(points, both, 24, 24)
    assert index[2, 2] == 0
    assert index[2, 14] == 1
    assert index[20, 20] == -1
    assert (raster.cover(points, both[:, ::-1].copy(), 24, 24) == -1).all()


def test_a_face_far_outside_the_picture_covers_nothing(grace_face):
    away = grace_face.landmarks + np.array([5000, -4000, 0], np.float32)
    assert (raster.cover(away, TOPOLOGY.triangles, 64, 48) == -1).all()


def test_unwrapping_keeps_features_in_their_fixed_places(astronaut, astronaut_face):
    flat = atlas.unwrap(astronaut, astronaut_face.landmarks, 256)
    points = atlas.positions(256)
    luma = flat.mean(axis=2)
    for iris in (468, 473):
        x, y = np.round(points[iris]).astype(int)
        assert luma[y - 2 : y + 3, x - 2 : x + 3].mean() < 100
    x, y = np.round(points[50]).astype(int)
    assert luma[y - 2 : y + 3, x - 2 : x + 3].mean() > 140
    assert (flat[0, 0] == 0).all()
