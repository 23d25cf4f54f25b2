"""Faces that meet, part and change: a track's number never goes over to somebody else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.worker.crossing import CROSSING, FPS, dissolve, film, head_of
from worker.faces.embed import distance
from worker.faces.persons import UNSURE, group
from worker.faces.track import VideoTracker
from worker.limits import IDENTITY_PASS, IDENTITY_REVIEW


@pytest.fixture(scope="module")
def heads(grace, grace_face, astronaut, astronaut_face):
    return head_of(grace, grace_face.box), head_of(astronaut, astronaut_face.box)


def follow(runner, pictures):
    """(faces of each frame as [(number, middle)], corrected, and who each number is)."""
    tracker = VideoTracker(runner, FPS)
    frames: list[list[tuple[int, np.ndarray]]] = []
    for index, picture in enumerate(pictures):
        faces = tracker.push(index, index / FPS, picture)
        for correction in tracker.corrections():
            for frame in frames[correction.since :]:
                frame[:] = [(correction.new if number == correction.old else number, at) for number, at in frame]
        frames.append([(face.track, face.box[:2] + face.box[2:] / 2) for face in faces])
    persons = group(tracker.stretches(), distance, same=IDENTITY_PASS, margin=0.1, other=IDENTITY_REVIEW)
    return [[(persons[number], at) for number, at in frame] for frame in frames]


def test_two_people_keep_their_numbers_through_a_crossing_and_a_cut(runner, heads):
    shown = list(film(*heads))
    frames = follow(runner, [one.picture for one in shown])
    by_name = {"left": 0, "right": 1}
    seen = {"left": 0, "right": 0}
    for one, faces in zip(shown, frames, strict=True):
        known = [number for number, _ in faces if number != UNSURE]
        assert len(set(known)) == len(known)
        for number, at in faces:
            name = min(one.places, key=lambda name: float(np.hypot(*(at - one.places[name]))))
            if number != UNSURE:
                assert number == by_name[name]
                seen[name] += 1
    assert seen["right"] >= len(shown) - 6  # the cut is not seen as one here, so a few frames before it are unsure
    free = sum(one.free["left"] for one in shown)
    assert seen["left"] >= 0.85 * free
    assert all({number for number, _ in faces} == {0, 1} for faces in frames[CROSSING + 1 :])


def test_who_turns_into_somebody_else_is_another_track_from_the_frames_on_in_which_it_happens(runner, heads):
    change = range(20, 26)
    frames = follow(runner, dissolve(*heads, 60, change))
    numbers = [number for faces in frames for number, _ in faces]
    assert len(numbers) == 60
    assert set(numbers[: change.start - 15]) == {0}
    late = set(numbers[change.stop + 15 :])
    assert len(late) == 1
    assert late != {0}
    known = [number for number in numbers if number != UNSURE]
    assert known == sorted(known)  # one change only, and not back
    assert max(index for index, number in enumerate(numbers) if number == 0) < change.stop
    assert numbers.index(late.pop()) <= change.stop + 5


def test_who_turns_away_and_back_is_the_same_person_beside_another(runner, heads, turned_grace):
    frames = 60
    other = cv2.resize(heads[1], (240, 240), interpolation=cv2.INTER_AREA)

    def film_of_a_turn():
        for index in range(frames):
            yaw = 88 * np.sin(np.pi * index / (frames - 1)) ** 2
            head = cv2.resize(turned_grace(float(yaw))[0], (240, 240), interpolation=cv2.INTER_AREA)
            picture = np.full((360, 640, 3), (140, 135, 130), np.uint8)
            picture[60:300, 40:280] = head
            picture[60:300, 360:600] = other
            yield picture

    found = follow(runner, film_of_a_turn())
    at = {
        name: [number for faces in found for number, place in faces if (place[0] < 320) == left]
        for name, left in (("turning", True), ("still", False))
    }
    (still,) = set(at["still"])
    assert len(at["still"]) == frames
    (turning,) = set(at["turning"]) - {UNSURE}
    assert turning != still
    seen = [any(number == turning for number, _ in faces) for faces in found]
    assert all(seen[:15])
    assert all(seen[-10:])
