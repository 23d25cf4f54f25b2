"""Frames cut as generators learn them are seen, ordinary pictures are not, and a hit only asks a person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.worker.gate import pictures
from tests.worker.gate.conftest import Locate
from tests.worker.gate.pictures import Rgb
from worker.gate import rules_origin
from worker.gate.looks import alignment
from worker.gate.profiles import PROFILES
from worker.gate.signals import Signal


def measured(folder: Path, rgb: Rgb, locate: Locate) -> Signal:
    height, width = rgb.shape[:2]
    return alignment.measure(pictures.analysis(folder, (width, height), [(0.0, locate(rgb))]))


def test_an_aligned_frame_goes_to_a_person_and_nothing_is_refused(
    tmp_path: Path, astronaut: Rgb, grace: Rgb, locate: Locate
) -> None:
    for picture in (astronaut, grace):
        for side in (256, 512, 1024):
            signal = measured(tmp_path, pictures.ffhq_frame(picture, locate(picture)[0], side), locate)
            assert signal.value["aligned"], (side, signal.value)
            for profile in PROFILES.values():
                found = rules_origin.alignment(signal, profile)
                assert [(each.verdict, each.code) for each in found] == [("review", "ffhq_alignment")]


def test_an_ordinary_square_picture_a_crop_and_one_that_is_not_square_are_not(
    tmp_path: Path, astronaut: Rgb, grace: Rgb, locate: Locate
) -> None:
    frame = pictures.ffhq_frame(astronaut, locate(astronaut)[0])
    ordinary = (astronaut, grace, frame[60:452, 60:452], frame[:-12], np.ascontiguousarray(frame[:, ::-1])[:, 20:])
    for picture in ordinary:
        signal = measured(tmp_path, np.ascontiguousarray(picture), locate)
        assert not signal.value["aligned"], (picture.shape, signal.value)
        assert rules_origin.alignment(signal, PROFILES["strict"]) == []


def test_of_a_film_half_of_the_frames_with_a_face_must_lie_so(tmp_path: Path, grace: Rgb, locate: Locate) -> None:
    points = locate(pictures.ffhq_frame(grace, locate(grace)[0]))
    aside = points[0] + np.array([60, 0, 0], np.float32)
    for aligned, expected in ((5, True), (4, False)):
        frames = [(0.1 * number, points if number < aligned else [aside]) for number in range(10)]
        frames += [(1.0 + 0.1 * number, []) for number in range(20)]
        film = pictures.analysis(tmp_path, (512, 512), frames, kind="video")
        assert alignment.measure(film).value["aligned"] is expected


def test_a_picture_without_a_face_is_measured_too(tmp_path: Path) -> None:
    signal = alignment.measure(pictures.analysis(tmp_path, (512, 512), [(0.0, [])]))
    assert (signal.status, signal.value["aligned"], signal.value["offset"]) == ("measured", False, None)


def test_of_the_portraits_none_lies_so_and_each_does_once_it_is_cut_so(
    tmp_path: Path, portraits: list[Path], locate: Locate
) -> None:
    seen = 0
    for number, path in enumerate(portraits):
        picture = pictures.load(path)
        faces = locate(picture)
        height, width = picture.shape[:2]
        assert not alignment.measure(pictures.analysis(tmp_path, (width, height), [(0.0, faces)])).value["aligned"]
        if faces and not number % 4:
            seen += 1
            assert measured(tmp_path, pictures.ffhq_frame(picture, faces[0]), locate).value["aligned"], path.name
    assert seen >= 10


@pytest.mark.parametrize(("dx", "dy", "near"), [(0.0, 0.0, True), (0.019, -0.019, True), (0.021, 0, False)])
def test_the_reach_is_two_hundredths_of_the_side(dx: float, dy: float, near: bool) -> None:
    eyes = alignment.EYES + np.array([dx, dy])
    five = np.array([*eyes, (0.5, 0.6), (0.4, 0.7), (0.6, 0.7)], np.float32) * 1000
    assert (alignment.offset_of(five, 1000, 1000) <= alignment.REACH) is near
