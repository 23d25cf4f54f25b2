"""The mark as two tiles: what crosses into processes without keys."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watermark import image, pattern
from watermark.keys import MarkKey
from watermark.lattice import SYNC_SETS, lattice_of, sync_set_of
from watermark.mark_errors import MarkError
from watermark.pattern import MarkPattern

KEY = MarkKey("tests", bytes(range(32)))
GOLDEN = "7ff40d45adae0a9796857de2b2f3113ae15ddf6a3b07876b5466d881cf27f3ef"


def test_a_pattern_written_and_read_marks_the_same(astronaut):
    made = pattern.derive(b"12345678", KEY)
    again = MarkPattern.from_bytes(made.to_bytes())
    first, second = image.embed_pattern(astronaut, made), image.embed_pattern(astronaut, again)
    # float16 rounds a tile by at most 1/1024: now and then a pixel falls on the other side of a half.
    assert float((first != second).mean()) < 0.01
    assert int(np.abs(first.astype(int) - second).max()) <= 1


def test_a_pattern_holds_neither_key_nor_id():
    made = pattern.derive(b"12345678", KEY)
    data = made.to_bytes()
    assert KEY.key not in data
    assert b"12345678" not in data
    assert len(data) == 8 + 2 * made.luma.size * 2


def test_both_tiles_have_unit_power_and_no_mean():
    made = pattern.derive(b"12345678", KEY)
    for tile in (made.luma, made.chroma):
        assert tile.shape == (sync_set_of(b"12345678", KEY).side,) * 2
        assert tile.dtype == np.float32
        assert abs(float(tile.mean())) < 1e-5
        assert float(tile.std()) == pytest.approx(1.0, abs=1e-4)


def test_the_pattern_of_an_id_is_fixed_for_all_time():
    made = pattern.derive(b"12345678", KEY)
    # Coarse rounding: the last bits of a Fourier transform may differ between machines.
    coarse = np.rint(made.luma[::8, ::8] * 8).astype(np.int8).tobytes()
    assert hashlib.sha256(coarse).hexdigest() == GOLDEN


def test_other_ids_and_keys_give_unrelated_tiles():
    base = np.tile(pattern.derive(b"12345678", KEY).luma, (5, 5))[:512, :512].ravel()
    for other in (
        pattern.derive(b"12345678", MarkKey("o", bytes(32))),
        pattern.derive(b"87654321", KEY),
    ):
        assert abs(float(np.corrcoef(base, np.tile(other.luma, (5, 5))[:512, :512].ravel())[0, 1])) < 0.1


def test_ids_spread_over_all_sync_sets():
    drawn = np.random.Generator(np.random.PCG64(5))
    sets = Counter(sync_set_of(drawn.bytes(8), KEY) for _ in range(2000))
    assert set(sets) == set(SYNC_SETS)
    # Twice the mean of 29 would be five standard deviations off.
    assert max(sets.values()) < 60


def test_the_tile_of_every_orientation_is_the_upright_one_seen_through_its_map():
    for where in SYNC_SETS[::7]:
        spectrum = np.zeros((where.side, where.side), np.complex128)
        spectrum[3, 10], spectrum[-3, -10] = 1, 1
        tile = pattern.tile_of(spectrum, where)
        down, across = np.indices(tile.shape)
        u, v = where.to_lattice @ np.stack([across.ravel(), down.ravel()])
        wave = np.cos(2 * np.pi * (10 * u + 3 * v) / 128).reshape(tile.shape)
        assert float(np.corrcoef(tile.ravel(), wave.ravel())[0, 1]) > 0.999


@settings(max_examples=10, deadline=None)
@given(secret=st.binary(min_size=32, max_size=32))
def test_every_key_gives_all_sync_lines_well_apart(secret):
    lattice = lattice_of(MarkKey("any", secret))
    assert len(lattice.sync) == 32
    apart = np.hypot(*(lattice.sync[:, None] - lattice.sync[None]).transpose(2, 0, 1))
    assert float(apart[~np.eye(32, dtype=bool)].min()) > 2.4
    for band in (lattice.luma, lattice.chroma):
        chips = np.bincount(band.bit_of, minlength=600)
        assert chips.max() - chips.min() <= 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: b"",
        lambda d: d[:-1],
        lambda d: b"XXXX" + d[4:],
        lambda d: d[:4] + b"\x09" + d[5:],
        lambda d: d[:8] + b"\xff" * (len(d) - 8),
    ],
)
def test_damaged_pattern_bytes_are_refused(damage):
    with pytest.raises(MarkError) as caught:
        MarkPattern.from_bytes(damage(pattern.derive(b"12345678", KEY).to_bytes()))
    assert caught.value.code == "pattern"
