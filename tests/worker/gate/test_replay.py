"""A picture that was photographed from a screen or a print shows it; portraits, their copies and pans do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.worker.gate import recapture
from tests.worker.gate.test_content_policy import upload
from webapp.console import evidence, evidence_rows
from worker.gate import policy, profiles
from worker.gate.looks import replay
from worker.gate.upload import Upload
from worker.media import client
from worker.media.sample_clip import make_clip

Rgb = recapture.Rgb
SHARED = next((one / "shared" for one in Path(__file__).parents if (one / "shared" / "media").is_dir()), Path("shared"))
PORTRAITS = sorted((SHARED / "media" / "portraits").glob("*.jpg"))


def opened(path: Path) -> Rgb:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.fixture(scope="module")
def faces(samples: Path) -> list[Rgb]:
    """Two sample portraits in the size of a small screen."""
    whole = [opened(samples / f"{name}.jpg") for name in ("astronaut", "grace_hopper")]
    return [np.asarray(cv2.resize(one, (480, 600), interpolation=cv2.INTER_AREA), np.uint8) for one in whole]


COPIES: dict[str, Callable[[Rgb], Rgb]] = {
    "itself": lambda rgb: rgb,
    "JPEG 60": lambda rgb: recapture.jpeg(rgb, 60),
    "JPEG 30": lambda rgb: recapture.jpeg(rgb, 30),
    "half size": lambda rgb: recapture.scaled(rgb, 0.5),
    "JPEG 30 at 0.7": lambda rgb: recapture.scaled(recapture.jpeg(rgb, 30), 0.7),  # the grid of 8 pixels moved
    "JPEG 30 at 1.3": lambda rgb: recapture.scaled(recapture.jpeg(rgb, 30), 1.3),
}


@pytest.mark.parametrize("copy", COPIES)
def test_portraits_and_their_copies_show_nothing(samples: Path, copy: str) -> None:
    for path in [*sorted(samples.glob("*.jpg")), *PORTRAITS]:
        found = replay.measured([replay.look(COPIES[copy](opened(path)))])
        assert not found.value["suspected"], (path.name, found.value)


@pytest.mark.parametrize(
    ("zoom", "more"),
    [
        (1.2, {}),
        (1.5, {}),
        (1.5, {"degrees": 0.0, "tilt": 0.02}),
        (1.5, {"degrees": 15.0}),
        (1.5, {"blur": 0.8}),
        (1.5, {"quality": 30}),
        (2.4, {}),
    ],
)
def test_a_photographed_screen_is_told(faces: list[Rgb], zoom: float, more: dict[str, float]) -> None:
    for face in faces:
        found = replay.look(recapture.on_screen(face, zoom=zoom, **more))
        assert found.patterned, found
        assert found.moire > replay.look(face).moire + 2.5


def test_a_photographed_print_is_told_and_so_is_a_copy_of_half_its_size(faces: list[Rgb]) -> None:
    for face in faces:
        assert replay.look(recapture.on_print(face, zoom=1.0)).patterned
        assert replay.look(recapture.scaled(recapture.on_screen(face, zoom=2.4), 0.5)).patterned


def test_what_the_camera_cannot_resolve_is_not_claimed(faces: list[Rgb]) -> None:
    """The limits that the module names, so that nobody takes silence for a finding."""
    for face in faces:
        assert not replay.look(recapture.on_screen(face, zoom=0.6)).patterned  # less than a pixel for each
        assert not replay.look(recapture.on_screen(face, zoom=1.5, blur=2.0)).patterned  # out of focus


def test_a_patterned_cloth_in_a_part_of_the_picture_is_no_screen(faces: list[Rgb]) -> None:
    for face in faces:
        height, width = face.shape[:2]
        down, across = np.mgrid[:height, :width]
        stripes = 40 * np.sin(2 * np.pi * (0.19 * across + 0.07 * down))[..., None]
        dressed = np.where(down[..., None] > 0.65 * height, np.clip(face + stripes, 0, 255), face).astype(np.uint8)
        found = replay.look(dressed)
        assert 0 < found.share < replay.SHARE  # seen, and not enough


def test_flat_and_tiny_pictures_are_not_measured() -> None:
    for rgb in (np.full((600, 600, 3), 128, np.uint8), np.full((100, 900, 3), 60, np.uint8)):
        found = replay.measured([replay.look(rgb)])
        assert (found.status, found.value["suspected"]) == ("not_applicable", False)


def test_hot_spots_are_counted() -> None:
    rgb = np.full((400, 400, 3), 90, np.uint8)
    rgb[:100, :100] = 255
    rgb[300:350, 300:350] = 255
    found = replay.look(rgb)
    assert (found.hot, found.largest_hot) == pytest.approx((12500 / 160000, 10000 / 160000), abs=1e-4)


def test_bands_that_wander_are_told_and_motion_noise_and_exposure_are_not(faces: list[Rgb]) -> None:
    noise = np.random.default_rng(1)
    for face in faces:
        for depth in (0.03, 0.1):
            assert replay.beat(recapture.banded(face, depth=depth)) >= replay.BEAT
        films = {
            "still": [face] * 6,
            "pan down": [face[4 * number : 500 + 4 * number] for number in range(6)],
            "pan right": [face[:, 4 * number : 400 + 4 * number] for number in range(6)],
            "exposure": [np.clip(face * (1 + 0.1 * np.sin(number)), 0, 255).astype(np.uint8) for number in range(6)],
            "noise": [np.clip(face + noise.normal(0, 12, face.shape), 0, 255).astype(np.uint8) for _ in range(6)],
        }
        assert {name: replay.beat(film) < replay.BEAT / 2 for name, film in films.items()} == dict.fromkeys(films, True)
    assert replay.beat([faces[0]]) == 0.0


def test_files_are_measured_and_a_broken_one_is_an_error_of_the_signal(
    samples: Path, tmp_path: Path, faces: list[Rgb]
) -> None:
    clip, shown = tmp_path / "clip.mp4", tmp_path / "shown.jpg"
    make_clip(samples / "astronaut.jpg", clip, seconds=2, size=(640, 480))
    info = client.probe(clip)
    film = replay.measure(Upload.of(clip, info))
    assert (film.status, film.value["suspected"], len(film.value["looks"])) == ("measured", False, 3)
    assert film.value["beat"] < replay.BEAT
    Image.fromarray(recapture.on_screen(faces[0], zoom=1.5)).save(shown, quality=95)
    photo = replay.measure(Upload.of(shown, client.probe(shown)))
    assert (photo.value["suspected"], photo.value["beat"]) == (True, None)
    json.dumps(photo.to_dict(), allow_nan=False)
    clip.write_bytes(clip.read_bytes()[:300])
    assert replay.measure(Upload.of(clip, info)).status == "error"


@pytest.mark.parametrize("profile", ["evaluation", "standard", "strict"])
def test_it_is_told_to_the_reviewer_and_decides_nothing(faces: list[Rgb], profile: str) -> None:
    shown = replay.measured([replay.look(recapture.on_screen(faces[0], zoom=1.5))], [2.5])
    for signal in (shown, replay.measured([replay.look(faces[0])]), replay.signals.failed("replay", "child_died")):
        decision = policy.decide_asset([*upload(), signal], profiles.named(profile), "target")
        assert (decision.decision, decision.reasons) == ("accept", ())
    (row,) = evidence_rows.rows([shown.to_dict()])
    assert row.value.startswith("signs of it: a fine pattern in 100% of its parts, bands of 2.5 % between frames")
    assert row.threshold == "signs from 60% of the parts or bands of 1 %; for information only"
    (sentence,) = evidence.sentences([shown.to_dict()], shown=False)
    assert "decides nothing" in sentence
    assert evidence.sentences([replay.measured([replay.look(faces[0])]).to_dict()], shown=False) == []
