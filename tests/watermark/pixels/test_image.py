"""The mark in pictures: unseen, read back after what happens to pictures, and never read where it is not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from watermark import image
from watermark.keys import MarkKey
from watermark.mark_errors import MarkError

ID = b"\x01\xf7id\x00\xff42"


@pytest.fixture(scope="module")
def marked(large, key):
    return image.embed(large, ID, key)


@pytest.mark.parametrize(("mode", "least", "most"), [("default", 44.0, 46.5), ("durable", 42.0, 43.5)])
def test_the_mark_keeps_the_promised_fidelity(astronaut, grace, large, key, psnr, mode, least, most):
    for picture in (astronaut, grace, large):
        assert least <= psnr(picture, image.embed(picture, ID, key, mode)) <= most


def test_embedding_leaves_the_given_picture_alone(astronaut, key):
    before = astronaut.copy()
    marked = image.embed(astronaut, ID, key)
    assert np.array_equal(astronaut, before)
    assert marked.shape == astronaut.shape
    assert marked.dtype == np.uint8


def test_smooth_regions_change_less_than_busy_ones(astronaut, key):
    change = np.abs(image.embed(astronaut, ID, key).astype(int) - astronaut).mean(axis=2)
    hair, backdrop = change[40:100, 190:260], change[20:120, 100:160]
    assert hair.mean() > 1.5 * backdrop.mean()
    assert np.percentile(backdrop, 99) <= 5


def test_an_untouched_marked_picture_is_read_by_the_fast_way(marked, key):
    reading = image.read(marked, [key], "fast")
    assert reading is not None
    assert reading.mark_id == ID
    assert reading.key == key.name
    assert reading.effort == "fast"
    assert reading.score > 12
    # One attempt, at which the four most likely words are checked.
    assert reading.false_alarm_log10 == pytest.approx(np.log10(4) - 36 * np.log10(2))
    assert reading.geometry.whole
    assert reading.geometry.scale == pytest.approx(512 / 1200, rel=1e-3)


@pytest.mark.parametrize(("suffix", "quality"), [(".jpg", 90), (".jpg", 75), (".jpg", 50), (".jpg", 30), (".webp", 60)])
def test_the_mark_survives_codecs(marked, key, recode, suffix, quality):
    assert image.read(recode(marked, suffix, quality), [key], "fast").mark_id == ID


@pytest.mark.parametrize("name", ["astronaut", "grace"])
def test_a_small_picture_survives_jpeg_75(request, key, recode, name):
    small = image.embed(request.getfixturevalue(name), ID, key)
    assert image.read(recode(small, ".jpg", 75), [key], "fast").mark_id == ID


def crop(rgb, share, x=0.4, y=0.6):
    height, width = rgb.shape[:2]
    h, w = round(height * share**0.5), round(width * share**0.5)
    top, left = round((height - h) * y), round((width - w) * x)
    return rgb[top : top + h, left : left + w].copy()


def turn(rgb, degrees):
    height, width = rgb.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return cv2.warpAffine(rgb, matrix, (width, height), flags=cv2.INTER_CUBIC)


def scaled(rgb, x, y):
    return cv2.resize(rgb, None, fx=x, fy=y, interpolation=cv2.INTER_AREA)


FILTERS = {
    "half the size": lambda p: scaled(p, 0.5, 0.5),
    "a quarter of the size": lambda p: scaled(p, 0.25, 0.25),
    "grey": lambda p: cv2.cvtColor(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
    "half as bright": lambda p: (p * 0.5).astype(np.uint8),
    "negative": lambda p: 255 - p,
    "blurred": lambda p: cv2.GaussianBlur(p, (0, 0), 2),
    "upside down": lambda p: np.ascontiguousarray(p[::-1, ::-1]),
}
EDITS = {
    "cropped to 80 %": lambda p: crop(p, 0.8),
    "cropped to 25 %": lambda p: crop(p, 0.25),
    "cropped to 10 %": lambda p: crop(p, 0.1),
    "mirrored": lambda p: np.ascontiguousarray(p[:, ::-1]),
    "turned by 90 degrees": lambda p: np.ascontiguousarray(np.rot90(p)),
    "turned by 7 degrees": lambda p: turn(p, 7),
    "squeezed": lambda p: scaled(p, 0.8, 1.0),
}


@pytest.mark.parametrize("name", FILTERS)
def test_the_mark_survives_filters_without_a_search(marked, key, name):
    reading = image.read(FILTERS[name](marked), [key], "fast")
    assert reading is not None
    assert reading.mark_id == ID
    assert reading.geometry.inverted == (name == "negative")


@pytest.mark.parametrize("name", EDITS)
def test_the_mark_is_found_after_edits(marked, key, name):
    edited = EDITS[name](marked)
    reading = image.read(edited, [key], "full")
    assert reading is not None
    assert reading.mark_id == ID
    assert not reading.geometry.whole
    assert reading.geometry.mirrored == (name == "mirrored")
    assert reading.false_alarm_log10 < -9


def test_a_crop_recompressed_as_a_social_network_would_is_read(marked, key, recode):
    assert image.read(recode(scaled(crop(marked, 0.6), 0.8, 0.8), ".jpg", 75), [key]).mark_id == ID


def test_the_geometry_maps_a_crop_back_to_its_place(marked, key):
    top, left = 301, 217
    part = marked[top : top + 800, left : left + 700].copy()
    where = image.read(part, [key]).geometry
    scale = 512 / 1200
    assert where.scale == pytest.approx(scale, rel=5e-3)
    assert where.rotation == pytest.approx(0, abs=0.3)
    centre = where.matrix @ [350, 400] + [where.tx, where.ty]
    expected = np.array([left + 350 + 0.5, top + 400 + 0.5]) * scale - 0.5
    miss = (centre - expected + 64) % 128 - 64
    assert np.abs(miss).max() < 2


def test_the_turn_of_a_turned_picture_is_told(marked, key):
    """OpenCV turns counter-clockwise for positive angles."""
    assert image.read(turn(marked, 7), [key]).geometry.rotation == pytest.approx(7, abs=0.3)
    assert image.read(turn(marked, -31), [key]).geometry.rotation == pytest.approx(-31, abs=0.3)


def test_plain_pictures_read_as_nothing(astronaut, grace, large, key, other_key):
    for picture in (astronaut, grace, large, 255 - astronaut, crop(grace, 0.4), np.zeros((200, 300, 3), np.uint8)):
        assert image.read(picture, [key, other_key]) is None


def test_noise_reads_as_nothing(key):
    generator = np.random.Generator(np.random.PCG64(3))
    for _ in range(3):
        noise = generator.integers(0, 256, (300, 400, 3)).astype(np.uint8)
        assert image.read(noise, [key]) is None


def test_the_wrong_key_reads_nothing(marked, other_key):
    assert image.read(marked, [other_key]) is None


def test_no_keys_read_nothing(marked):
    assert image.read(marked, []) is None


def test_the_right_key_is_found_among_several(marked, key, other_key):
    keys = [other_key, MarkKey("third", bytes(32)), key]
    assert image.read(marked, keys).key == key.name
    assert image.read(crop(marked, 0.5), keys).key == key.name


def test_two_marks_of_two_keys_both_read(marked, key, other_key):
    both = image.embed(marked, b"second!!", other_key)
    assert image.read(both, [key], "fast").mark_id == ID
    assert image.read(both, [other_key], "fast").mark_id == b"second!!"


def test_deep_effort_reads_a_picture_pasted_into_a_busy_collage(marked, key):
    part = scaled(marked, 0.6, 0.6)
    generator = np.random.Generator(np.random.PCG64(5))
    noise = generator.integers(0, 256, (90, 140, 3)).astype(np.uint8)
    collage = cv2.resize(noise, (1400, 900), interpolation=cv2.INTER_CUBIC)
    collage[30 : 30 + len(part), 40 : 40 + part.shape[1]] = part[: len(collage) - 30]
    assert image.read(collage, [key], "deep").mark_id == ID


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mark_id=st.binary(min_size=8, max_size=8),
    width=st.integers(60, 400),
    height=st.integers(60, 400),
    seed=st.integers(0, 1000),
)
def test_what_is_embedded_is_read_or_refused_by_type(key, mark_id, width, height, seed):
    generator = np.random.Generator(np.random.PCG64(seed))
    rough = generator.integers(40, 216, (9, 9, 3)).astype(np.uint8)
    picture = cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)
    reason = image.markable(picture)
    if reason is not None:
        assert reason == "too_small"
        assert min(width, height) < 96
        with pytest.raises(MarkError) as caught:
            image.embed(picture, mark_id, key)
        assert caught.value.code == "too_small"
        return
    reading = image.read(image.embed(picture, mark_id, key), [key], "fast")
    assert reading is not None
    assert reading.mark_id == mark_id


@pytest.mark.parametrize("level", [0, 255])
def test_pure_black_and_white_are_not_markable(level):
    assert image.markable(np.full((300, 400, 3), level, np.uint8)) == "too_flat"
    assert "too_flat" in image.UNMARKABLE


def test_a_flat_grey_picture_is_markable_and_keeps_its_quality(key, psnr, recode):
    grey = np.full((700, 900, 3), 128, np.uint8)
    assert image.markable(grey) is None
    marked = image.embed(grey, ID, key)
    assert psnr(grey, marked) > 46.5
    assert image.read(recode(marked, ".jpg", 90), [key], "fast").mark_id == ID


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((200, 200), np.uint8),
        np.zeros((200, 200, 4), np.uint8),
        np.zeros((200, 200, 3), np.float32),
        np.zeros((0, 9, 3), np.uint8),
    ],
)
def test_arrays_of_another_form_are_refused(bad, key):
    for call in (lambda: image.embed(bad, ID, key), lambda: image.read(bad, [key]), lambda: image.markable(bad)):
        with pytest.raises(MarkError) as caught:
            call()
        assert caught.value.code == "picture_format"


def test_an_unknown_mode_is_refused(astronaut, key):
    with pytest.raises(MarkError) as caught:
        image.embed(astronaut, ID, key, "invisible")
    assert caught.value.code == "mode"


@pytest.mark.parametrize("size", [(96, 1800), (1800, 96), (97, 131)])
def test_odd_and_extreme_shapes_are_marked_and_read(key, size):
    generator = np.random.Generator(np.random.PCG64(4))
    rough = generator.integers(40, 216, (30, 30, 3)).astype(np.uint8)
    picture = cv2.resize(rough, size, interpolation=cv2.INTER_CUBIC)
    assert image.read(image.embed(picture, ID, key), [key]).mark_id == ID


def test_an_endless_strip_is_refused_by_type(key):
    strip = np.full((96, 3000, 3), 128, np.uint8)
    assert image.markable(strip) == "too_long"
    with pytest.raises(MarkError) as caught:
        image.embed(strip, ID, key)
    assert caught.value.code == "too_long"
    assert image.read(strip, [key]) is None


def test_a_fresh_process_reads_without_a_writable_cache(marked, key, tmp_path):
    """The first read compiles; it must neither need a writable folder nor take long."""
    picture = tmp_path / "marked.png"
    cv2.imwrite(str(picture), marked[..., ::-1])
    room = tmp_path / "house"
    shutil.copytree(Path(image.__file__).parent, room / "watermark", ignore=shutil.ignore_patterns("__pycache__"))
    program = (
        "import cv2, numba.core.caching as caching\n"
        "for name in dir(caching):\n"
        "    if name.endswith('CacheLocator'):\n"
        "        setattr(getattr(caching, name), 'from_function', classmethod(lambda *_: None))\n"
        "from watermark import image; from watermark.keys import MarkKey\n"
        f"rgb = cv2.imread({str(picture)!r})[:700, :900, ::-1].copy()\n"
        f"print(image.read(rgb, [MarkKey('k', bytes.fromhex({key.key.hex()!r}))]).mark_id.hex())\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", program], cwd=room, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == ID.hex(), done.stderr
    assert not list(room.rglob("*.nbi"))


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (47, 47), (2, 5000)])
def test_pictures_no_mark_fits_into_read_as_nothing(key, size):
    assert image.read(np.full((size[1], size[0], 3), 77, np.uint8), [key], "deep") is None


def test_writing_marks_needs_no_compiler():
    """The limited media child embeds and fingerprints; numba's import alone would cost it a second."""
    program = (
        "import sys, watermark.image, watermark.video, watermark.fingerprint, watermark.pattern\n"
        "sys.exit('numba' in sys.modules)"
    )
    root = Path(image.__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", program], cwd=root, timeout=60, check=False).returncode == 0
