"""Faint marks: what is known beforehand about phases, places and amplitudes is used where power shows nothing."""

from __future__ import annotations

import numpy as np
import pytest

from watermark import image, weights
from watermark.corner import corner_lock, corner_response
from watermark.lattice import SYNC_SETS, TILE, lattice_of, sync_set_of
from watermark.lock import Lock, Whitened
from watermark.payload import decode, encode
from watermark.planes import split
from watermark.search import spectra_of

ID = b"faint id"
AT_CORNER = Lock(6.0, 6.0, (0.0, 0.0), turned=False, inverted=False)


def whitened(key, rng, *, luma=0.0, chroma=0.0):
    """Spectra of unit noise with the mark at these mean amplitudes, as the lock sees them after heavy compression."""
    lattice = lattice_of(key)
    coded = encode(ID, key)
    planes = []
    for amplitude, band, turn, sync in ((luma, lattice.luma, 1, 3.66), (chroma, lattice.chroma, 1j, 2.11)):
        noise = rng.normal(0, np.sqrt(0.5), (2, TILE, TILE))
        spectrum = noise[0] + 1j * noise[1]
        chips = (1.0 - 2.0 * coded[band.bit_of]) * band.flip
        values = np.exp(1j * band.phases) * (chips[0::2] + 1j * chips[1::2])
        fading = np.exp(-0.08 * band.ring)
        spectrum[band.lines[:, 1] % TILE, band.lines[:, 0] % TILE] += amplitude * fading * values
        at = (lattice.sync[:, 1] % TILE, lattice.sync[:, 0] % TILE)
        spectrum[at] += np.sqrt(2) * sync * amplitude * 0.75 * turn * np.exp(1j * lattice.sync_phases)
        planes.append(spectrum.astype(np.complex64))
    return Whitened(*planes)


@pytest.mark.parametrize("seed", range(4))
def test_a_faint_mark_in_luma_is_decoded_though_chroma_is_dead(key, seed):
    white = whitened(key, np.random.Generator(np.random.PCG64(seed)), luma=0.37)
    assert decode(weights.soft_bits(white, lattice_of(key), AT_CORNER), key) == ID


def test_a_mark_in_chroma_alone_is_decoded(key):
    white = whitened(key, np.random.Generator(np.random.PCG64(5)), chroma=0.45)
    assert decode(weights.soft_bits(white, lattice_of(key), AT_CORNER), key) == ID


def test_dead_rings_count_little_and_strong_ones_much(key):
    rng = np.random.Generator(np.random.PCG64(6))
    band = lattice_of(key).luma
    alive = band.ring < 5
    chips = (
        np.where(alive, 1.5, 0.0)
        + rng.normal(0, np.sqrt(0.5), len(alive))
        + 1j * rng.normal(0, np.sqrt(0.5), len(alive))
    )
    sync = np.full(32, 3.0 + 0j)
    weight = weights.ring_weights(chips, band, sync, np.linspace(9, 20, 32), share=0.273, tilt=1.0)
    assert weight[:5].min() > 1.5 * weight[7:].max()


def test_the_sync_set_of_an_uncropped_picture_stands_out_without_a_search(large, key, other_key, recode):
    marked = recode(image.embed(large, ID, key), ".jpg", 40)
    planes = split(marked)
    spectra, shape = spectra_of(planes), planes.normal.luma.shape
    response = corner_response(spectra, shape, key)
    assert response.shape == (len(SYNC_SETS),)
    assert SYNC_SETS[int(response.argmax())] == sync_set_of(ID, key)
    assert response.max() > 8
    assert np.sort(response)[-2] < 5
    assert np.abs(corner_response(spectra, shape, other_key)).max() < 5
    assert np.abs(corner_response(spectra_of(split(large)), shape, key)).max() < 5


def test_a_lock_at_the_corner_is_found_where_noise_elsewhere_is_higher(key):
    lattice = lattice_of(key)
    heights = [
        corner_lock(whitened(key, np.random.Generator(np.random.PCG64(seed)), luma=amplitude), lattice).z
        for amplitude in (0.0, 0.2)
        for seed in range(10)
    ]
    assert max(heights[:10]) < 3
    assert min(heights[10:]) > 2.5
    assert abs(np.mean(heights[:10])) < 1
