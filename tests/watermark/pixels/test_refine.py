"""Maps that are a little off, or bend: what sharpening makes of them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from watermark import image
from watermark.keys import MarkKey
from watermark.lattice import lattice_of, sync_set_of
from watermark.lock import lock, whiten
from watermark.planes import fold_under, split
from watermark.reading import MOST_ATTEMPTS, Attempts
from watermark.refine import Focus, refinements
from watermark.warp import Warp, monomials, unfold

KEY = MarkKey("tests", bytes(range(32)))
OTHER = MarkKey("other", bytes(32))
ID = b"bent map"


@pytest.fixture(scope="module")
def marked(astronaut):
    large = cv2.resize(astronaut, (900, 900), interpolation=cv2.INTER_CUBIC)
    return image.embed(large, ID, KEY)


def true_map(rgb):
    planes = split(rgb)
    return planes, sync_set_of(ID, KEY).to_lattice @ np.diag(planes.normal.scale)


def in_perspective(rgb, corners, seed):
    height, width = rgb.shape[:2]
    square = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = np.random.Generator(np.random.PCG64(seed)).uniform(-corners, corners, (4, 2)) * [width, height]
    view = cv2.getPerspectiveTransform(square, (square + moved).astype(np.float32))
    return cv2.warpPerspective(rgb, view, (width, height))


def lensed(rgb, strength):
    height, width = rgb.shape[:2]
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    bulge = 1 + strength * (x**2 + y**2)
    across = ((x * bulge + 1) / 2 * (width - 1)).astype(np.float32)
    down = ((y * bulge + 1) / 2 * (height - 1)).astype(np.float32)
    return cv2.remap(rgb, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


@pytest.mark.parametrize("error", [0.007, 0.012])
def test_a_map_a_little_off_is_sharpened_to_the_lock_of_the_true_one(marked, error):
    planes, matrix = true_map(marked)
    lattice = lattice_of(KEY)
    best = lock(whiten(fold_under(planes, matrix)), lattice).z
    wrong = matrix @ (np.eye(2) + error * np.array([[1, -0.5], [0.7, -1]]))
    folded = fold_under(planes, wrong)
    rough = lock(whiten(folded), lattice)
    assert rough.z < 0.9 * best
    *_, last = refinements([planes], folded, rough, lattice)
    assert last.found.z > 0.97 * best
    assert np.allclose(last.folded.matrix, matrix, atol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_a_picture_in_strong_perspective_is_read(marked, seed):
    seen = in_perspective(marked, 0.08, seed)
    reading = image.read(seen, [OTHER, KEY], "deep")
    assert reading.mark_id == ID
    assert reading.key == "tests"


@pytest.mark.parametrize("strength", [-0.05, 0.04, 0.08])
def test_a_picture_through_a_lens_is_read(marked, strength):
    assert image.read(lensed(marked, strength), [KEY], "deep").mark_id == ID


def test_a_lock_on_a_corner_grows_over_a_picture_in_perspective(marked):
    seen = in_perspective(marked, 0.06, 9)
    planes = split(seen)
    lattice = lattice_of(KEY)
    whole = image.read(seen, [KEY], "deep").geometry
    assert whole.matrix.shape == (2, 2)
    matrix = sync_set_of(ID, KEY).to_lattice @ whole.matrix
    part = planes.window(0.3, 0.3, 0.6, 0.6)
    folded = fold_under(part, matrix)
    found = lock(whiten(folded), lattice)
    width, height = planes.size
    corner = np.array([int(0.3 * width), int(0.3 * height)])
    moved = type(folded)(folded.luma, folded.chroma, folded.matrix, folded.offset - folded.matrix @ corner)
    focus = Focus((0.45 * width, 0.45 * height), (0.25, 0.35, 0.5, 0.7, 1.01))
    *_, last = refinements([planes], moved, found, lattice, focus)
    assert last.found.z > 1.5 * found.z


def test_the_sources_of_a_bent_warp_lead_back_to_where_they_came_from(marked):
    planes, matrix = true_map(marked)
    folded = fold_under(planes, matrix)
    warp = Warp.from_lock(folded, lock(whiten(folded), lattice_of(KEY)), planes.size)
    generator = np.random.Generator(np.random.PCG64(3))
    bent = warp.followed(generator.normal(0, 3, (2, 6))).followed(generator.normal(0, 1, (2, 10)))
    across, down = bent.sources()
    sources = np.stack([across, down], -1)[5:-5:37, 5:-5:41].reshape(-1, 2)
    goal = np.stack(
        np.meshgrid(*(np.arange(side)[5:-5:step] for side, step in zip(bent.size, (41, 37), strict=True))), -1
    )
    plain = sources @ bent.matrix.T + bent.offset
    assert float(np.abs(plain + bent.displacement(plain) - goal.reshape(-1, 2)).max()) < 0.1


def test_a_canvas_of_no_sensible_size_is_refused(marked):
    planes, matrix = true_map(marked)
    folded = fold_under(planes, matrix)
    warp = Warp.from_lock(folded, lock(whiten(folded), lattice_of(KEY)), planes.size)
    tiny = Warp(warp.matrix, warp.offset, (10, 10), warp.centre, warp.radius, warp.bend)
    huge = Warp(warp.matrix, warp.offset, (9000, 9000), warp.centre, warp.radius, warp.bend)
    assert unfold(planes, tiny) is None
    assert unfold(planes, huge) is None


def test_monomials_are_counted_and_ordered_by_degree():
    points = np.array([[2.0, 3.0]])
    assert monomials(points, 2).tolist() == [[1, 2, 3, 4, 6, 9]]
    assert monomials(points, 3).shape == (1, 10)


def test_after_so_many_attempts_nothing_more_is_decoded():
    attempts = Attempts()
    noise = np.random.Generator(np.random.PCG64(4)).normal(0, 1, 600)
    for _ in range(MOST_ATTEMPTS + 5):
        assert attempts.decode(noise, KEY) is None
    assert attempts.made == MOST_ATTEMPTS
    assert attempts.false_alarm_log10 < -9
