"""The mark as two tiles: what crosses into processes without keys."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watermark import image, pattern
from watermark.keys import MarkKey
from watermark.lattice import lattice_of
from watermark.mark_errors import MarkError
from watermark.pattern import MarkPattern

KEY = MarkKey("tests", bytes(range(32)))
GOLDEN = "3496107c675b5e183627cda64c8cfe65104e419a5fc1cd9329364c93ab027599"


def test_a_pattern_written_and_read_marks_the_same(astronaut):
    made = pattern.derive(b"12345678", KEY)
    again = MarkPattern.from_bytes(made.to_bytes())
    first, second = image.embed_pattern(astronaut, made), image.embed_pattern(astronaut, again)
    # float16 rounds a tile by at most 1/1024: now and then a pixel falls on the other side of a half.
    assert float((first != second).mean()) < 0.01
    assert int(np.abs(first.astype(int) - second).max()) <= 1


def test_a_pattern_holds_neither_key_nor_id():
    data = pattern.derive(b"12345678", KEY).to_bytes()
    assert KEY.key not in data
    assert b"12345678" not in data
    assert len(data) == 8 + 2 * 128 * 128 * 2


def test_both_tiles_have_unit_power_and_no_mean():
    made = pattern.derive(b"12345678", KEY)
    for tile in (made.luma, made.chroma):
        assert tile.shape == (128, 128)
        assert tile.dtype == np.float32
        assert abs(float(tile.mean())) < 1e-5
        assert float(tile.std()) == pytest.approx(1.0, abs=1e-4)


def test_the_pattern_of_an_id_is_fixed_for_all_time():
    made = pattern.derive(b"12345678", KEY)
    # Coarse rounding: the last bits of a Fourier transform may differ between machines.
    coarse = np.rint(made.luma[::8, ::8] * 8).astype(np.int8).tobytes()
    assert hashlib.sha256(coarse).hexdigest() == GOLDEN


def test_other_ids_and_keys_give_unrelated_tiles():
    base = pattern.derive(b"12345678", KEY).luma.ravel()
    for other in (
        pattern.derive(b"12345678", MarkKey("o", bytes(32))),
        pattern.derive(b"87654321", MarkKey("o", bytes(32))),
    ):
        assert abs(float(np.corrcoef(base, other.luma.ravel())[0, 1])) < 0.1


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
