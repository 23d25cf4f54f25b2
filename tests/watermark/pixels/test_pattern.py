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
from watermark.payload import encode

KEY = MarkKey("tests", bytes(range(32)))
GOLDEN = "a25ac5e179ccc62959fb17a85f02493d6dda15ef91eca6fd0d09b1806ee14a66"


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


def test_what_an_id_says_and_where_is_fixed_for_all_time():
    lattice, where = lattice_of(KEY), sync_set_of(b"12345678", KEY)
    parts = [np.array([where.side, where.orientation]), encode(b"12345678", KEY), lattice.sync]
    phases = [lattice.sync_phases]
    for band in (lattice.luma, lattice.chroma):
        parts += [band.lines, band.bit_of, band.flip]
        phases.append(band.phases)
    # Coarse: the last bits of an angle may differ between machines.
    parts += [np.floor(each * 16) for each in phases]
    said = b"".join(np.ascontiguousarray(part).astype("<i4").tobytes() for part in parts)
    assert hashlib.sha256(said).hexdigest() == GOLDEN


def test_a_mark_laid_with_another_tilt_is_read(astronaut, monkeypatch, recode):
    # As an earlier release laid it. How strong a line is says nothing; only where it lies and which phase it has does.
    monkeypatch.setattr(pattern, "TILT_LUMA", 0.5)
    marked = image.embed(astronaut, b"12345678", KEY)
    reading = image.read(recode(marked, ".jpg", 50), [KEY])
    assert reading is not None
    assert reading.mark_id == b"12345678"


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
