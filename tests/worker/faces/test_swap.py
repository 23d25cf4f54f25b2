from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from worker.faces import quality, shape
from worker.faces.embed import Descriptor, distance
from worker.faces.landmarks import FaceMesh, box_of, pose_of
from worker.faces.select import YAW_REFUSE, YAW_WARN, choose
from worker.faces.swap import MeshSwapper, SwapOptions, prepare_source
from worker.faces.topology import TOPOLOGY
from worker.faces.types import Face, FaceError, Pose
from worker.limits import IDENTITY_REVIEW

PHOTO = SwapOptions(smoothing=0.0)


def swapped(rgb, landmarks, sources, options=PHOTO):
    frame = rgb.copy()
    report = MeshSwapper(sources, options).swap(frame, landmarks)
    return frame, report


@pytest.mark.parametrize(("source", "target"), [("astronaut", "grace"), ("grace", "astronaut")])
def test_a_swap_moves_the_identity_to_the_source(request, runner, source, target):
    rgb, face = request.getfixturevalue(target), request.getfixturevalue(f"{target}_face")
    prepared = request.getfixturevalue(f"{source}_source")
    out, report = swapped(rgb, face.landmarks, [prepared])
    judged = quality.judge(
        runner,
        rgb,
        out,
        face.landmarks,
        prepared.descriptor,
        source_sharpness=prepared.sharpness,
        yaw_gap=report.yaw_gap,
    )
    assert judged.target_source_before > IDENTITY_REVIEW
    assert judged.distance_to_source <= IDENTITY_REVIEW
    assert judged.distance_to_source < judged.distance_to_target
    assert judged.distance_to_source < judged.target_source_before - 0.15
    assert not {"face_lost", "identity_weak", "pose_gap_wide"} & set(judged.warnings)


def test_nothing_outside_the_reported_box_changes_and_the_box_is_the_face(grace, grace_face, astronaut_source):
    out, report = swapped(grace, grace_face.landmarks, [astronaut_source])
    changed = (out != grace).any(axis=2)
    x, y, width, height = report.box.astype(int)
    assert changed[y : y + height, x : x + width].mean() > 0.4
    changed[y : y + height, x : x + width] = False
    assert not changed.any()
    assert width < 1.1 * grace_face.box[2] + 4
    assert height < 1.1 * grace_face.box[3] + 4


def test_no_pixel_outside_the_outline_changes(grace, grace_face, astronaut_source):
    out, _ = swapped(grace, grace_face.landmarks, [astronaut_source])
    outline = np.zeros(grace.shape[:2], np.uint8)
    cv2.fillPoly(outline, [np.round(grace_face.landmarks[TOPOLOGY.oval, :2]).astype(np.int32)], 1)
    # Profile points can stand a little proud of the outline ring.
    outline = cv2.dilate(outline, np.ones((5, 5), np.uint8))
    assert not (out != grace).any(axis=2)[outline == 0].any()


def test_a_self_swap_keeps_the_picture(grace, grace_face, grace_source, runner):
    out, _ = swapped(grace, grace_face.landmarks, [grace_source])
    x, y, width, height = grace_face.box.astype(int)
    difference = np.abs(out.astype(int) - grace)[y : y + height, x : x + width]
    assert difference.mean() < 3.0
    descriptor = Descriptor(runner)
    before, after = descriptor.describe(grace, grace_face.landmarks), descriptor.describe(out, grace_face.landmarks)
    assert distance(before, after) < 0.2


def test_the_outline_shows_no_seam(grace, grace_face, astronaut_source):
    out, _ = swapped(grace, grace_face.landmarks, [astronaut_source])
    ring = np.zeros(grace.shape[:2], np.uint8)
    cv2.polylines(ring, [np.round(grace_face.landmarks[TOPOLOGY.oval, :2]).astype(np.int32)], True, 1, 5)
    step = np.abs(out.astype(int) - grace).max(axis=2)[ring == 1]
    assert np.percentile(step, 95) <= 6


def test_the_targets_open_mouth_stays_the_targets(astronaut, astronaut_face, grace_source):
    out, _ = swapped(astronaut, astronaut_face.landmarks, [grace_source])
    inner = np.zeros(astronaut.shape[:2], np.uint8)
    cv2.fillPoly(inner, [np.round(astronaut_face.landmarks[TOPOLOGY.lips_inner, :2]).astype(np.int32)], 1)
    inner = cv2.erode(inner, np.ones((3, 3), np.uint8))
    assert inner.sum() > 40
    assert np.abs(out.astype(int) - astronaut)[inner == 1].mean() < 12


def test_eyes_land_on_the_targets_eyes(grace, grace_face, astronaut_source, runner):
    out, _ = swapped(grace, grace_face.landmarks, [astronaut_source])
    located, score = FaceMesh(runner).locate(out, grace_face.landmarks)
    assert score > 0.9
    scale = np.linalg.norm(grace_face.landmarks[33, :2] - grace_face.landmarks[263, :2])
    for iris in (468, 473):
        # The features move half-way to the source's proportions, no further.
        assert np.linalg.norm(located[iris, :2] - grace_face.landmarks[iris, :2]) < 0.08 * scale


def test_the_skin_takes_on_the_targets_colour(grace, grace_face, astronaut, astronaut_face, astronaut_source):
    def cheeks(rgb, landmarks):
        mask = np.zeros(rgb.shape[:2], np.uint8)
        for ring in ((117, 118, 101, 36, 205, 187, 123), (346, 347, 330, 266, 425, 411, 352)):
            cv2.fillPoly(mask, [np.round(landmarks[list(ring), :2]).astype(np.int32)], 1)
        return np.median(cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[mask == 1].astype(float), axis=0)

    out, _ = swapped(grace, grace_face.landmarks, [astronaut_source])
    before = np.linalg.norm(cheeks(astronaut, astronaut_face.landmarks) - cheeks(grace, grace_face.landmarks))
    after = np.linalg.norm(cheeks(out, grace_face.landmarks) - cheeks(grace, grace_face.landmarks))
    assert before > 15
    assert after < 0.4 * before


@pytest.mark.parametrize("shift", [(-170, -130), (250, 0), (0, 370), (-400, 0), (4000, 4000)])
def test_faces_cut_by_the_border_or_beyond_it_are_safe(grace, grace_face, astronaut_source, shift):
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float64)
    moved = cv2.warpAffine(grace, matrix, (grace.shape[1], grace.shape[0]), borderMode=cv2.BORDER_REPLICATE)
    landmarks = grace_face.landmarks + np.array([*shift, 0], np.float32)
    out, report = swapped(moved, landmarks, [astronaut_source])
    x, y, width, height = report.box.astype(int)
    assert 0 <= x <= x + width <= grace.shape[1]
    assert 0 <= y <= y + height <= grace.shape[0]
    changed = (out != moved).any(axis=2)
    assert changed.any() == (width * height > 400)


def test_a_strided_view_of_a_larger_picture_is_changed_in_place(grace, grace_face, astronaut_source):
    plain, _ = swapped(grace, grace_face.landmarks, [astronaut_source])
    wide = np.zeros((grace.shape[0], grace.shape[1] + 64, 3), np.uint8)
    view = wide[:, 32:-32]
    view[:] = grace
    MeshSwapper([astronaut_source], PHOTO).swap(view, grace_face.landmarks)
    np.testing.assert_array_equal(view, plain)
    assert not wide[:, :32].any()
    assert not wide[:, -32:].any()


def test_a_wide_yaw_gap_is_refused_and_leaves_the_frame_alone(turned_grace, astronaut_source):
    picture, face = turned_grace(38)
    before = picture.copy()
    with pytest.raises(FaceError) as refused:
        MeshSwapper([astronaut_source], PHOTO).swap(picture, face.landmarks)
    assert refused.value.code == "pose_gap"
    np.testing.assert_array_equal(picture, before)
    report = MeshSwapper([astronaut_source], PHOTO).swap(*[turned_grace(22)[0], turned_grace(22)[1].landmarks])
    assert YAW_WARN < report.yaw_gap < YAW_REFUSE


def test_the_photo_nearest_in_pose_is_used(turned_grace, astronaut, astronaut_face):
    sources = [
        prepare_source(picture, face) for picture, face in (turned_grace(-30), turned_grace(0), turned_grace(30))
    ]
    for degrees, expected in ((-26, 0), (2, 1), (24, 2)):
        picture, face = turned_grace(degrees)
        assert MeshSwapper(sources, PHOTO).swap(picture, face.landmarks).source_index == expected
    _, report = swapped(astronaut, astronaut_face.landmarks, sources)
    assert report.source_index == 1


def test_the_photo_in_use_is_held_near_the_middle_of_two_poses():
    poses = [Pose(0, 0, 0), Pose(20, 0, 0)]
    assert choose(poses, Pose(11, 0, 0)).index == 1
    assert choose(poses, Pose(11, 0, 0), held=0).index == 0
    assert choose(poses, Pose(18, 0, 0), held=0).index == 1
    with pytest.raises(FaceError):
        choose(poses, Pose(-31, 0, 0))
    assert choose(poses, Pose(-31, 0, 0), most_yaw_gap=90).index == 0


@pytest.mark.parametrize("degrees", [-28, 28])
def test_the_hidden_side_of_a_turned_source_is_filled_from_the_other(
    turned_grace, grace_source, degrees, runner, astronaut, astronaut_face
):
    picture, face = turned_grace(degrees)
    source = prepare_source(picture, face)
    hidden = slice(8, 30) if degrees < 0 else slice(98, 120)
    rows = slice(40, 90)
    shown = source.validity[rows, hidden]
    assert shown.mean() > 0.5
    out, _ = swapped(astronaut, astronaut_face.landmarks, [source])
    described = Descriptor(runner).describe(out, astronaut_face.landmarks)
    assert distance(described, grace_source.descriptor) < IDENTITY_REVIEW


def test_a_mirrored_source_swaps_as_well_as_the_original(grace, grace_face, astronaut, astronaut_face, runner):
    flipped = np.ascontiguousarray(grace[:, ::-1])
    landmarks = grace_face.landmarks[TOPOLOGY.mirror].copy()
    landmarks[:, 0] = grace.shape[1] - 1 - landmarks[:, 0]
    descriptor = Descriptor(runner).describe(flipped, landmarks)
    source = prepare_source(flipped, Face(box_of(landmarks), 1.0, landmarks, pose_of(landmarks), descriptor))
    out, _ = swapped(astronaut, astronaut_face.landmarks, [source])
    assert distance(Descriptor(runner).describe(out, astronaut_face.landmarks), descriptor) < IDENTITY_REVIEW


def test_small_faces_are_refused_as_source_and_as_target(grace, grace_face, astronaut_source):
    factor = 55 / grace_face.size
    small = cv2.resize(grace, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    landmarks = (grace_face.landmarks * factor).astype(np.float32)
    face = Face(box_of(landmarks), 1.0, landmarks, pose_of(landmarks), None)
    with pytest.raises(FaceError) as source:
        prepare_source(small, face)
    with pytest.raises(FaceError) as target:
        MeshSwapper([astronaut_source]).swap(small.copy(), landmarks)
    assert source.value.code == target.value.code == "face_too_small"


def test_the_shape_moves_inner_features_and_pins_the_outline(grace_face, astronaut_face):
    moved = shape.morph(astronaut_face.landmarks, grace_face.landmarks, 0.5, 0.0)
    away = np.linalg.norm((moved - grace_face.landmarks)[:, :2], axis=1)
    assert away[TOPOLOGY.oval].max() < 0.5
    assert away.max() > 2
    for points in ((159, 145, 33, 133), (386, 374, 362, 263), (13, 14, 78, 308)):
        assert shape.opening(moved, points) == pytest.approx(shape.opening(grace_face.landmarks, points), abs=0.01)
    np.testing.assert_array_equal(
        shape.morph(astronaut_face.landmarks, grace_face.landmarks, 0.0, 0.0), grace_face.landmarks
    )


def test_colour_and_light_do_not_flicker_when_the_target_does(grace, grace_face, astronaut_source):
    rng = np.random.default_rng(9)
    frames = [
        np.clip(grace.astype(int) + rng.normal(0, 4, 3).round().astype(int), 0, 255).astype(np.uint8) for _ in range(12)
    ]
    x, y, width, height = (grace_face.box + [60, 70, -120, -140]).astype(int)

    def flicker(smoothing):
        swapper = MeshSwapper([astronaut_source], SwapOptions(smoothing=smoothing))
        means = []
        for frame in frames:
            out = frame.copy()
            swapper.swap(out, grace_face.landmarks)
            means.append(out[y : y + height, x : x + width].mean())
        return np.abs(np.diff(means[3:])).mean()

    assert flicker(0.75) < 0.6 * flicker(0.0)


def test_a_cut_makes_the_swapper_forget(grace, grace_face, astronaut, astronaut_face, astronaut_source):
    fresh, _ = swapped(grace, grace_face.landmarks, [astronaut_source], SwapOptions())
    swapper = MeshSwapper([astronaut_source])
    dark = (astronaut * 0.4).astype(np.uint8)
    away = astronaut_face.landmarks + np.array([2000, 0, 0], np.float32)
    swapper.swap(np.pad(dark, ((0, 0), (2000, 0), (0, 0))), away)
    after = grace.copy()
    swapper.swap(after, grace_face.landmarks)
    np.testing.assert_array_equal(after, fresh)


def test_quality_warns_of_what_is_weak(grace, grace_face, astronaut_face, runner):
    blurred = cv2.GaussianBlur(grace, (0, 0), 6)
    judged = quality.judge(
        runner, grace, grace, grace_face.landmarks, astronaut_face.descriptor, source_sharpness=2.0, yaw_gap=18.0
    )
    assert set(judged.warnings) == {"identity_weak", "pose_gap_wide", "source_blurred"}
    assert judged.distance_to_target < 0.15
    assert quality.sharpness(blurred, grace_face.landmarks) < 0.3 * quality.sharpness(grace, grace_face.landmarks)


def test_a_process_that_may_write_no_file_swaps_all_the_same(tmp_path):
    code = "from worker.pipeline.warm import compile_loops\ncompile_loops()\nprint('swapped')\n"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        env=environment,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "swapped"
    assert not [path for path in tmp_path.rglob("*.nbc") if path.stat().st_size]


@pytest.mark.parametrize("level", [0.3, 0.55])
def test_a_dark_source_takes_on_a_bright_targets_skin(grace, grace_face, astronaut, astronaut_face, level):
    dark = (astronaut * level).astype(np.uint8)
    out, _ = swapped(grace, grace_face.landmarks, [prepare_source(dark, astronaut_face)])
    x, y = np.round(grace_face.landmarks[[50, 280], :2].mean(axis=0)).astype(int)
    area = (slice(y - 20, y + 20), slice(x - 40, x + 40))
    before, after = grace[area].astype(float).mean(), out[area].astype(float).mean()
    assert abs(after - before) < 0.12 * before


def test_a_grey_target_stays_grey(grace, grace_face, astronaut_source):
    grey = np.repeat(cv2.cvtColor(grace, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    out, _ = swapped(grey, grace_face.landmarks, [astronaut_source])
    spread = out.max(axis=2).astype(int) - out.min(axis=2)
    assert np.percentile(spread, 99.5) < 25


def test_wild_meshes_in_odd_frames_never_write_outside_the_box(grace_face, astronaut_source, grace_source):
    rng = np.random.default_rng(12)
    centred = grace_face.landmarks - grace_face.landmarks[:468].mean(axis=0)
    swapper = MeshSwapper([astronaut_source, grace_source], SwapOptions(most_yaw_gap=180))
    swaps = 0
    for _ in range(80):
        height, width = rng.integers(2, 500, 2)
        frame = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        points = centred @ (turn if rng.random() < 0.5 else np.eye(3)).T * np.exp(rng.uniform(-1.2, 1.5))
        points += rng.normal(0, rng.choice([0, 1, 15]), points.shape)
        points += [rng.uniform(-60, width + 60), rng.uniform(-60, height + 60), 0]
        out = frame.copy()
        try:
            report = swapper.swap(out, points.astype(np.float32))
        except FaceError:
            np.testing.assert_array_equal(out, frame)
            continue
        swaps += 1
        x, y, box_width, box_height = report.box.astype(int)
        changed = (out != frame).any(axis=2)
        changed[y : y + box_height, x : x + box_width] = False
        assert not changed.any()
    assert swaps > 50
    with pytest.raises(FaceError):
        swapper.swap(np.zeros((99, 99, 3), np.uint8), np.full((478, 3), np.nan, np.float32))
