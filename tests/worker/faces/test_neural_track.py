"""Faces followed by neural models: one track per person and shot, the same whether answers come early or late."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.worker import tensors
from tests.worker.neural_graphs import template_68
from worker.faces.neural.track import NeuralTracker
from worker.inference import registry
from worker.inference.registry import ModelSet
from worker.inference.types import Done, ModelError
from worker.media.planes import Planes

SIZE = (1280, 720)
MODELS = ModelSet({name: known.card for name, known in registry.operator_models().items()})
# Where the plain face of the answers below has its points, in the face's box.
GRID = template_68()
GRID = (GRID - GRID.min(axis=0)) / np.ptp(GRID, axis=0)


class Seeing:
    """A runner that answers from what is really in the tensors: bright blobs are faces, their colour is who it is.

    `blind` are numbers of detector runs in which it sees nothing.
    """

    def __init__(self, blind: frozenset[int] = frozenset()) -> None:
        self.runs = {"yoloface_8n": 0, "2dfan4": 0, "arcface_w600k_r50": 0}
        self._blind = blind

    def submit(self, model, inputs):
        return Done(self.run(model, inputs))

    def run(self, model, inputs):
        self.runs[model] += 1
        picture = tensors.seen(MODELS.card(model).contract.image, inputs["input"][0]).transpose(1, 2, 0)
        return {"yoloface_8n": self._detect, "2dfan4": self._locate, "arcface_w600k_r50": self._describe}[model](
            picture
        )

    def _detect(self, picture):
        boxes, scores = np.zeros((1, 128, 4), np.float32), np.zeros((1, 128), np.float32)
        if self.runs["yoloface_8n"] not in self._blind:
            for row, box in enumerate(blobs(picture)):
                boxes[0, row], scores[0, row] = box, 0.9
        return {"boxes": boxes, "scores": scores, "points": np.zeros((1, 128, 5, 2), np.float32)}

    def _locate(self, picture):
        found = blobs(picture)
        points = np.ones((1, 68, 3), np.float32)
        box = min(found, key=lambda one: np.abs(one[:2] + one[2:] / 2 - 128).sum()) if found else np.zeros(4)
        points[0, :, :2] = (box[:2] + GRID * box[2:]) / 4
        return {"landmarks_xyscore": points, "peaks": np.full((1, 68), 0.9 if found else 0.1, np.float32)}

    def _describe(self, picture):
        colour = picture[40:72, 40:72].mean(axis=(0, 1))
        vector = np.zeros((1, 512), np.float32)
        vector[0, :3] = ((colour + 1) / 2) ** 2 + 1e-3
        return {"output": vector}


def blobs(picture: np.ndarray) -> list[np.ndarray]:
    bright = (picture.max(axis=2) > 0.75).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(bright)
    return [np.array(stats[k, :4], np.float32) for k in range(1, count) if stats[k, 4] > 40]


def frame(faces: dict[tuple[int, int], tuple[int, int, int]], ground: int = 20, side: int = 160) -> Planes:
    rgb = np.full((SIZE[1], SIZE[0], 3), ground, np.uint8)
    for (x, y), colour in faces.items():
        rgb[y : y + side, x : x + side] = colour
    planes = Planes(SIZE)
    planes.paste(planes.whole, rgb)
    return planes


RED, BLUE = (250, 60, 60), (60, 60, 250)


def follow(frames: list[Planes], *, ahead: int = 0, runner: Seeing | None = None, **options):
    """Run the three steps, the first two `ahead` frames before the last."""
    tracker = NeuralTracker(runner or Seeing(), MODELS, **options)
    waiting, seen = [], []
    for index, planes in enumerate(frames):
        pending = tracker.begin(index, index / 25, planes)
        tracker.locate(pending, planes)
        waiting.append((pending, planes))
        if len(waiting) > ahead:
            seen.append(tracker.finish(*waiting.pop(0)))
    seen += [tracker.finish(*one) for one in waiting]
    return tracker, seen


def numbers(seen) -> list[list[int]]:
    return [[face.track for face in faces] for faces in seen]


def test_two_people_are_two_tracks_with_their_own_descriptors():
    frames = [frame({(100 + 4 * k, 200): RED, (800, 300 - 3 * k): BLUE}) for k in range(20)]
    tracker, seen = follow(frames)
    assert numbers(seen) == [[0, 1]] * 20
    for k, faces in enumerate(seen):
        by_number = {face.track: face for face in faces}
        boxes = {tuple(np.round(one.box[:2] / 20).astype(int)) for one in by_number.values()}
        wanted = {(round((100 + 4 * k) / 20), 10), (40, round((300 - 3 * k) / 20))}
        assert all(min(abs(a - c) + abs(b - d) for c, d in wanted) <= 1 for a, b in boxes)
    descriptors = tracker.descriptors()
    assert tracker.descriptor_size == 512
    assert sorted(float(vector[0]) > 0.7 for vector in descriptors.values()) == [False, True]
    for vector in descriptors.values():
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("every", [1, 3])
def test_what_comes_out_does_not_depend_on_how_many_frames_are_in_flight(every):
    frames = [frame({(100 + 6 * k, 200): RED}) for k in range(24)]
    _, plain = follow(frames, detect_every=every)
    _, ahead = follow(frames, detect_every=every, ahead=5)
    assert numbers(plain) == numbers(ahead) == [[0]] * 24
    for one, other in zip(plain, ahead, strict=True):
        np.testing.assert_array_equal(one[0].landmarks, other[0].landmarks)


def test_a_detector_that_looks_more_rarely_runs_more_rarely_and_the_face_is_followed():
    frames = [frame({(100 + 6 * k, 200): RED}) for k in range(24)]
    runner = Seeing()
    _, seen = follow(frames, detect_every=4, runner=runner)
    assert runner.runs["yoloface_8n"] == 6
    for k, (face,) in enumerate(seen):
        assert abs(float(face.box[0]) - (100 + 6 * k)) < 6


def test_a_face_that_the_detector_misses_for_a_moment_is_not_lost():
    frames = [frame({(300, 200): RED}) for _ in range(20)]
    _, seen = follow(frames, runner=Seeing(blind=frozenset({5, 6, 7, 12})))
    assert numbers(seen) == [[0]] * 20


def test_a_face_that_the_detector_never_sees_again_is_given_up():
    frames = [frame({(300, 200): RED}) for _ in range(40)]
    _, seen = follow(frames, runner=Seeing(blind=frozenset(range(5, 100))))
    assert numbers(seen)[0] == [0]
    assert numbers(seen)[-1] == []
    assert 10 <= sum(map(bool, seen)) <= 22  # 4 frames and 0.6 seconds


def test_the_same_person_comes_back_under_the_same_number_and_another_does_not():
    here = [frame({(300, 200): RED}) for _ in range(10)]
    gone = [frame({}) for _ in range(10)]
    again = [frame({(700, 300): RED}) for _ in range(5)]
    other = [frame({(700, 300): BLUE}) for _ in range(5)]
    assert numbers(follow(here + gone + again)[1])[-1] == [0]
    assert numbers(follow(here + gone + other)[1])[-1] == [1]


def test_no_track_goes_on_over_a_cut():
    first = [frame({(300, 200): RED}) for _ in range(10)]
    second = [frame({(300, 200): RED}, ground=150) for _ in range(10)]
    tracker, seen = follow(first + second, ahead=4)
    assert tracker.cuts == [10]
    assert numbers(seen) == [[0]] * 10 + [[1]] * 10


def test_faces_below_the_least_size_are_left_out():
    assert numbers(follow([frame({(300, 200): RED}, side=40)] * 3)[1]) == [[], [], []]
    assert numbers(follow([frame({(300, 200): RED}, side=40)] * 3, min_size=30)[1]) == [[0]] * 3


def test_a_model_that_is_not_installed_is_an_error_before_the_first_frame():
    with pytest.raises(ModelError) as caught:
        NeuralTracker(Seeing(), registry.BUILTIN)
    assert caught.value.code == "model_missing"
