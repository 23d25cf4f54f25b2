from __future__ import annotations

import cv2
import numpy as np
import pytest

from worker.faces.analyse import analyse_image
from worker.faces.detect import FaceDetector, overlap, suppress, tile_levels
from worker.faces.embed import distance
from worker.faces.landmarks import FaceMesh, pose_of
from worker.faces.topology import TOPOLOGY
from worker.faces.types import Detection
from worker.limits import IDENTITY_PASS, IDENTITY_REVIEW


def resized(rgb, factor):
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=interpolation)


def test_each_portrait_shows_one_face_with_landmarks_on_its_features(
    astronaut_face, grace_face, astronaut, grace, runner
):
    for face, rgb in ((astronaut_face, astronaut), (grace_face, grace)):
        assert len(analyse_image(rgb, runner)) == 1
        points = face.landmarks
        assert points.shape == (478, 3)
        assert points.dtype == np.float32
        # The person's right eye is left in the image; irises lie inside their eyes, the mouth below the nose.
        assert points[33, 0] < points[133, 0] < points[362, 0] < points[263, 0]
        for iris, eye in ((TOPOLOGY.right_iris, TOPOLOGY.right_eye), (TOPOLOGY.left_iris, TOPOLOGY.left_eye)):
            low, high = points[eye, :2].min(axis=0) - 1, points[eye, :2].max(axis=0) + 1
            assert ((points[iris[0], :2] > low) & (points[iris[0], :2] < high)).all()
        assert points[1, 1] < points[13, 1] < points[14, 1] + 1 < points[152, 1]
        assert abs(face.pose.yaw) < 6
        assert face.descriptor is not None


def test_pupils_are_darker_than_the_whites_beside_them(astronaut, astronaut_face):
    luma = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY).astype(float)
    for iris, corner in ((468, 133), (473, 362)):
        x, y = np.round(astronaut_face.landmarks[iris, :2]).astype(int)
        white = (astronaut_face.landmarks[iris, :2] + astronaut_face.landmarks[corner, :2]) / 2
        u, v = np.round(white).astype(int)
        assert luma[y - 1 : y + 2, x - 1 : x + 2].mean() < luma[v - 1 : v + 2, u - 1 : u + 2].mean() - 15


def test_the_descriptor_knows_a_person_again_and_tells_two_apart(astronaut, astronaut_face, grace_face, runner):
    assert distance(astronaut_face.descriptor, grace_face.descriptor) > IDENTITY_REVIEW
    worse = resized(cv2.GaussianBlur(astronaut, (0, 0), 0.8), 0.85)
    again = analyse_image(worse, runner)[0]
    assert 0.001 < distance(astronaut_face.descriptor, again.descriptor) < IDENTITY_PASS


def test_a_rolled_head_is_located_and_its_roll_is_measured(grace, runner):
    matrix = cv2.getRotationMatrix2D((256, 240), -25, 0.8)  # negative: clockwise in the image
    rolled = cv2.warpAffine(grace, matrix, (512, 600), borderMode=cv2.BORDER_REPLICATE)
    face = analyse_image(rolled, runner)[0]
    assert face.pose.roll == pytest.approx(25 - 2, abs=4)


def test_the_mesh_measures_yaw_with_the_right_sign(turned_grace, runner):
    measured = []
    for degrees in (-25, 0, 25):
        picture, face = turned_grace(degrees)
        landmarks, score = FaceMesh(runner).locate(picture, face.landmarks)
        assert score > 0.9
        measured.append(pose_of(landmarks).yaw)
    assert measured[0] < -10 < measured[1] < 10 < measured[2]


def test_a_64_pixel_face_in_a_4k_frame_is_found(grace, runner):
    rng = np.random.default_rng(5)
    frame = cv2.resize(rng.integers(60, 120, (27, 48, 3), dtype=np.uint8), (3840, 2160), interpolation=cv2.INTER_CUBIC)
    small = resized(grace, 68 / 203)
    places = [(150, 200), (2500, 1500), (3600, 60)]
    for x, y in places:
        frame[y : y + small.shape[0], x : x + small.shape[1]] = small
    faces = analyse_image(frame, runner)
    assert len(faces) == 3
    for x, y in places:
        assert any((face.box[0] > x) and (face.box[0] < x + 171) and (y < face.box[1] < y + 200) for face in faces)


def test_faces_come_largest_first(grace, astronaut, runner):
    both = np.zeros((600, 1024, 3), np.uint8)
    both[:512, :512] = astronaut
    both[:, 512:] = grace
    faces = analyse_image(both, runner)
    assert len(faces) == 2
    assert faces[0].box[0] > 512 > faces[1].box[0]


def test_a_large_face_is_found_in_a_narrow_strip_and_a_tiny_picture_is_no_error(grace, runner):
    assert FaceDetector(runner).detect(grace[100:380])
    assert FaceDetector(runner).detect(np.zeros((1, 1, 3), np.uint8)) == []


def test_tiles_cover_every_pixel_and_share_enough_for_a_face_on_the_seam():
    for width, height in ((3840, 2160), (1920, 1080), (1080, 1920), (2000, 700)):
        for level in tile_levels(width, height, 64):
            seen = np.zeros((height, width), bool)
            for window in level:
                assert window.x >= 0
                assert window.x + window.width <= width
                assert window.y + window.height <= height
                seen[window.y : window.y + window.height, window.x : window.x + window.width] = True
            assert seen.all()
            for x in range(0, width - 64, 37):
                assert any(window.x <= x and x + 64 <= window.x + window.width for window in level)
    assert list(tile_levels(512, 512, 64)) == []


def test_suppression_keeps_the_surest_of_overlapping_boxes():
    def found(x, score, size=100.0):
        return Detection(np.array([x, 0, size, size], np.float32), score, np.zeros((6, 2), np.float32))

    kept = suppress([found(0, 0.6), found(20, 0.9), found(300, 0.7), found(40, 0.8, 30)])
    assert [(float(one.box[0]), one.score) for one in kept] == [(20.0, 0.9), (300.0, 0.7)]
    assert overlap(np.array([0, 0, 2, 2], np.float32), np.array([1, 0, 2, 2], np.float32)) == pytest.approx(1 / 3)
