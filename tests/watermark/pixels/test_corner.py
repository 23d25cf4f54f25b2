"""Strongly compressed whole pictures are read by where the tile must start, not by where it fits best."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from watermark import image
from watermark.corner import corner_lock, side_by_power
from watermark.lattice import lattice_of, sync_set_of
from watermark.lock import whiten
from watermark.planes import fold_whole, split
from watermark.reading import LEAST_Z, MOST_ATTEMPTS, Attempts, try_corner, try_sides, try_whole
from watermark.search import rank_sets, spectra_of

ID = b"cornered"
_MOST_WORDS = 24
"""Three sets, two locks each, four words a lock."""


def seen(rgb):
    planes = split(rgb).carefully
    return planes, spectra_of(planes)


@pytest.fixture(scope="module")
def faint(grace, key, recode):
    """Compressed until the sync lines no longer tell how the tile lies, were its place not known."""
    hurt = recode(image.embed(grace, ID, key), ".webp", 18)
    assert rank_sets(spectra_of(split(hurt).carefully), key)[0][1] != sync_set_of(ID, key)
    return hurt


def test_the_corner_tells_what_a_lock_anywhere_does_not(faint, key, other_key):
    planes, spectra = seen(faint)
    assert try_whole(planes, spectra, [key], Attempts()) is None
    hit = try_corner(planes, spectra, [other_key, key], Attempts())
    assert (hit.mark_id, hit.key) == (ID, key)


def test_what_the_corner_told_is_a_whole_picture_and_its_attempts_are_counted(faint, key):
    reading = image.read(faint, [key], "deep")
    assert (reading.mark_id, reading.effort) == (ID, "deep")
    assert reading.geometry.whole
    assert reading.false_alarm_log10 < -9


def test_a_dropped_column_moves_the_tile_by_less_than_a_lock_follows(grace, key, recode):
    hurt = recode(image.embed(grace, ID, key)[:, :-1], ".webp", 25)
    hit = try_corner(*seen(hurt), [key], Attempts())
    assert hit is not None
    assert hit.mark_id == ID


@pytest.mark.parametrize("picture", ["plain", "noise", "another key's"])
def test_where_no_tile_starts_few_words_are_checked(picture, grace, key, other_key):
    rgb = {
        "plain": grace,
        "noise": np.random.Generator(np.random.PCG64(3)).integers(0, 256, (400, 300, 3)).astype(np.uint8),
        "another key's": image.embed(grace, ID, other_key),
    }[picture]
    attempts = Attempts()
    assert try_corner(*seen(rgb), [key], attempts) is None
    assert attempts.made <= _MOST_WORDS


def test_no_more_words_are_checked_than_may_be(faint, key):
    spent = Attempts(made=MOST_ATTEMPTS)
    assert try_corner(*seen(faint), [key], spent) is None
    assert spent.made == MOST_ATTEMPTS


def test_a_crop_is_left_to_the_search(grace, key):
    cropped = image.embed(cv2.resize(grace, None, fx=2, fy=2), ID, key)[151:900, 97:800]
    assert try_corner(*seen(np.ascontiguousarray(cropped)), [key], Attempts()) is None


@pytest.fixture(scope="module")
def smoothed(grace, key):
    """A small picture after a median filter that leaves none of its sync lines."""
    small = cv2.resize(grace, (400, 400 * len(grace) // grace.shape[1]), interpolation=cv2.INTER_AREA)
    return cv2.medianBlur(image.embed(small, ID, key), 7)


def test_without_sync_lines_the_power_of_the_lowest_lines_tells_the_tile(smoothed, grace, key, other_key):
    planes, _ = seen(smoothed)
    where = sync_set_of(ID, key)
    assert corner_lock(whiten(fold_whole(planes, where)), lattice_of(key)).z < LEAST_Z
    side, power = side_by_power(planes)
    assert side == where.side
    assert power > 2 * side_by_power(seen(grace)[0])[1]
    attempts = Attempts()
    hit = try_sides(planes, [other_key, key], attempts)
    assert (hit.mark_id, hit.key) == (ID, key)
    assert attempts.made <= 8


def test_a_picture_without_a_tile_costs_no_word(grace, key):
    attempts = Attempts()
    assert try_sides(seen(grace)[0], [key], attempts) is None
    assert attempts.made == 0
