from __future__ import annotations

import cv2
import numpy as np
import pytest

from worker.faces.embed import distance
from worker.faces.smooth import OneEuro
from worker.faces.topology import TOPOLOGY
from worker.faces.track import CutDetector, VideoTracker
from worker.limits import IDENTITY_PASS

FPS = 25.0


def moving(rgb, frames, *, start=0, size=(640, 480), seed=1):
    """The picture in a smooth affine motion with sensor noise: (frame, the exact transform) per frame."""
    rng = np.random.default_rng(seed)
    for k in range(start, start + frames):
        angle, scale = 6 * np.sin(k / 9), 0.8 + 0.08 * np.sin(k / 13)
        matrix = cv2.getRotationMatrix2D((262, 234), angle, scale)
        matrix[:, 2] += [size[0] / 2 - 262 + 60 * np.sin(k / 11), size[1] / 2 - 234 + 25 * np.cos(k / 7)]
        frame = cv2.warpAffine(rgb, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        noisy = frame.astype(np.int16) + rng.normal(0, 3, frame.shape).astype(np.int16)
        yield np.clip(noisy, 0, 255).astype(np.uint8), matrix


def test_one_moving_face_stays_one_track_and_follows_the_motion(grace, grace_face, runner):
    tracker = VideoTracker(runner, FPS)
    errors = []
    for k, (frame, matrix) in enumerate(moving(grace, 45)):
        faces = tracker.push(k, k / FPS, frame)
        assert [face.track for face in faces] == [0]
        wanted = grace_face.landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        scale = np.linalg.norm(wanted[33] - wanted[263])
        errors.append(np.linalg.norm(faces[0].landmarks[:468, :2] - wanted[:468], axis=1).mean() / scale)
    assert max(errors) < 0.05
    assert tracker.cuts == []
    assert distance(tracker.descriptors()[0], grace_face.descriptor) < IDENTITY_PASS


def test_a_cut_ends_the_track_even_if_the_same_person_stays(grace, astronaut, runner):
    tracker = VideoTracker(runner, FPS)
    clips = [moving(grace, 10), moving(astronaut, 10), moving(grace, 10, start=20)]
    numbers, k = [], 0
    for clip in clips:
        for frame, _ in clip:
            faces = tracker.push(k, k / FPS, frame)
            numbers.append([face.track for face in faces])
            k += 1
    assert tracker.cuts == [10, 20]
    assert numbers == [[0]] * 10 + [[1]] * 10 + [[2]] * 10
    described = tracker.descriptors()
    assert distance(described[0], described[2]) < IDENTITY_PASS < distance(described[0], described[1])


def test_a_face_that_disappears_briefly_keeps_its_number(grace, runner):
    tracker = VideoTracker(runner, FPS, detect_every=5)
    numbers = []
    for k, (frame, matrix) in enumerate(moving(grace, 40)):
        if 12 <= k < 20:
            x, y = (matrix @ [262, 234, 1]).astype(int)
            cv2.rectangle(frame, (x - 110, y - 120), (x + 110, y + 120), (60, 60, 60), -1)
        numbers.append([face.track for face in tracker.push(k, k / FPS, frame)])
    assert all(one == [0] for one in numbers[:12])
    assert [] in numbers[12:20]
    assert numbers[-1] == [0]
    assert set(map(tuple, numbers)) == {(0,), ()}


def test_two_faces_keep_their_own_tracks(grace, astronaut, runner):
    tracker = VideoTracker(runner, FPS)
    left, right = (
        moving(grace, 20, size=(480, 480)),
        moving(astronaut[40:300, 90:350].repeat(2, 0).repeat(2, 1), 20, size=(480, 480), seed=2),
    )
    seen = []
    for k, ((a, _), (b, _)) in enumerate(zip(left, right, strict=True)):
        faces = tracker.push(k, k / FPS, np.hstack([a, b]))
        seen.append({face.track: float(face.box[0]) for face in faces})
    assert all(set(frame) == {0, 1} for frame in seen)
    for number in (0, 1):
        sides = {frame[number] < 400 for frame in seen}
        assert len(sides) == 1


def test_a_late_face_is_found_at_the_next_detection(grace, runner):
    tracker = VideoTracker(runner, FPS, detect_every=6)
    empty = cv2.GaussianBlur(grace[:, :512], (0, 0), 40)
    first = None
    for k in range(16):
        frame = empty.copy()
        if k >= 3:
            frame[120:360, 140:380] = cv2.addWeighted(grace[120:360, 140:380], 1, empty[120:360, 140:380], 0, 0)
        if tracker.push(k, k / FPS, frame) and first is None:
            first = k
    assert first is not None
    assert 3 <= first <= 12


def test_fast_motion_and_a_flash_are_no_cuts_but_a_new_scene_is(grace, astronaut):
    cuts = CutDetector()
    quick = [cv2.resize(np.roll(grace, 12 * k, axis=1), (640, 360)) for k in range(8)]
    assert not any(cuts.push(frame) for frame in quick)
    assert cuts.push(cv2.resize(astronaut, (640, 360)))
    assert not cuts.push(cv2.resize(astronaut, (640, 360)))


def jitter(points):
    return float(np.sqrt(np.mean(np.diff(np.array(points), 2, axis=0) ** 2)))


def test_smoothing_cuts_jitter_and_follows_motion(grace_face):
    rng = np.random.default_rng(3)
    smooth, raw, filtered, true = OneEuro(), [], [], []
    for k in range(60):
        place = grace_face.landmarks + np.array([2.0 * k, 10 * np.sin(k / 8), 0], np.float32)
        noisy = place + rng.normal(0, 0.6, place.shape).astype(np.float32)
        raw.append(noisy[:, :2])
        filtered.append(smooth(noisy, k / FPS)[:, :2])
        true.append(place[:, :2])
    assert jitter(filtered) < jitter(raw) / 2
    lag = np.abs(np.array(filtered[20:]) - np.array(true[20:])).mean()
    assert lag < 0.06 * np.linalg.norm(grace_face.landmarks[33, :2] - grace_face.landmarks[263, :2])


def test_a_blink_passes_the_filter_quicker_than_a_cheek_would(grace_face):
    smooth = OneEuro()
    step = np.zeros((478, 3), np.float32)
    step[:, 1] = 4
    for k in range(10):
        smooth(grace_face.landmarks, k / FPS)
    after = smooth(grace_face.landmarks + step, 10 / FPS) - grace_face.landmarks
    assert after[TOPOLOGY.left_eye, 1].mean() > 1.4 * after[[50, 280, 152], 1].mean()


def test_smoothing_starts_anew_after_a_gap_and_on_reset(grace_face):
    smooth = OneEuro()
    smooth(grace_face.landmarks, 0.0)
    jumped = grace_face.landmarks + 50
    np.testing.assert_allclose(smooth(jumped, 3.0), jumped)
    smooth.reset()
    np.testing.assert_allclose(smooth(grace_face.landmarks, 3.04), grace_face.landmarks)


def test_tracked_landmarks_tremble_less_after_smoothing(grace, runner):
    tracker, smooth, raw, filtered = VideoTracker(runner, FPS), OneEuro(), [], []
    rng = np.random.default_rng(8)
    for k in range(25):
        frame = np.clip(grace.astype(np.int16) + rng.normal(0, 8, grace.shape).astype(np.int16), 0, 255).astype(
            np.uint8
        )
        (face,) = tracker.push(k, k / FPS, frame)
        raw.append(face.landmarks[:, :2])
        filtered.append(smooth(face.landmarks, k / FPS)[:, :2])
    assert jitter(filtered[3:]) < jitter(raw[3:]) / 2


def test_tracks_are_numbered_from_zero_and_empty_video_has_no_descriptors(runner):
    tracker = VideoTracker(runner, FPS)
    for k in range(4):
        assert tracker.push(k, k / FPS, np.full((240, 320, 3), 90, np.uint8)) == []
    assert tracker.descriptors() == {}


@pytest.mark.parametrize("fps", [0.0, 1000.0])
def test_odd_frame_rates_do_no_harm(grace, runner, fps):
    tracker = VideoTracker(runner, fps)
    assert len(tracker.push(0, 0.0, grace)) == 1
    assert [face.track for face in tracker.push(1, 0.0, grace)] == [0]
