"""The geometric search: what it looks at, and which maps it finds."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from watermark.image import embed
from watermark.lattice import ORIENTATIONS, SYNC_LINES, SYNC_SETS, TILE, lattice_of, sync_set_of
from watermark.loggrid import log_grids, strongest_maps, widened
from watermark.planes import fold_under, fold_whole, split
from watermark.search import add_spectra, rank_sets, search, spectra_of

MARK = b"searched"


@pytest.fixture(scope="module")
def marked(large, key):
    return embed(large, MARK, key)


def turned(rgb, degrees, scale):
    """`rgb` turned about its centre and scaled, cut to what lies inside; and the map pixel to pixel, [2, 2]."""
    height, width = rgb.shape[:2]
    affine = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, scale)
    out = int(0.62 * scale * min(width, height))
    affine[:, 2] += out / 2 - np.array([width / 2, height / 2])
    return cv2.warpAffine(rgb, affine, (out, out), flags=cv2.INTER_AREA), affine[:, :2]


def error_of(found, true):
    """Largest difference of two maps, up to half a turn, relative to their scale."""
    return min(np.abs(found - true).max(), np.abs(found + true).max()) / np.sqrt(abs(np.linalg.det(true)))


@pytest.mark.parametrize(("degrees", "scale"), [(0, 1.0), (0, 0.7), (10, 1.0), (-37, 0.8), (90, 1.0), (158, 0.9)])
def test_the_search_finds_how_a_picture_was_turned_and_scaled(marked, key, degrees, scale):
    picture, forth = turned(marked, degrees, scale)
    spectra = spectra_of(split(picture))
    score, found = search(spectra, key)[0]
    canonical = 512 / min(marked.shape[:2])
    true = sync_set_of(MARK, key).to_lattice @ np.linalg.inv(forth) * canonical @ np.diag(1 / spectra.scale)
    assert score > 9
    assert error_of(found, true) < 0.012


def test_the_search_finds_a_mirrored_and_stretched_picture(marked, key):
    picture = np.ascontiguousarray(cv2.resize(marked, None, fx=1.25, fy=1.0)[80:900, 200:1200][:, ::-1])
    spectra = spectra_of(split(picture))
    score, found = search(spectra, key)[0]
    canonical = 512 / min(marked.shape[:2])
    true = sync_set_of(MARK, key).to_lattice @ np.diag([-canonical / 1.25, canonical] / spectra.scale)
    assert score > 9
    assert error_of(found, true) < 0.012


def test_an_unmarked_picture_and_another_key_score_low(large, marked, other_key):
    assert search(spectra_of(split(large)), other_key)[0][0] < 9
    picture, _ = turned(marked, 10, 1.0)
    assert search(spectra_of(split(picture)), other_key)[0][0] < 9


def test_candidates_come_best_first_and_the_same_every_time(marked, key):
    picture, _ = turned(marked, 10, 1.0)
    spectra = spectra_of(split(picture))
    first, second = search(spectra, key), search(spectra, key)
    assert [score for score, _ in first] == sorted((score for score, _ in first), reverse=True)
    assert all((a[1] == b[1]).all() for a, b in zip(first, second, strict=True))


def test_the_sync_set_of_an_uncropped_picture_ranks_first(marked, key):
    ranked = rank_sets(spectra_of(split(marked)), key)
    assert ranked[0][1] == sync_set_of(MARK, key)
    assert len(ranked) == len(SYNC_SETS)
    assert ranked[0][0] > 2 * ranked[10][0]


def test_spectra_of_equal_frames_keep_their_lines(marked, key):
    frames = [spectra_of(split(marked))] * 3
    total = add_spectra(frames)
    assert add_spectra(frames[:1]) is frames[0]
    assert rank_sets(total, key)[0][1] == sync_set_of(MARK, key)


def test_a_grey_picture_has_no_chroma_spectrum_and_is_still_found(marked, key):
    grey = np.repeat(cv2.cvtColor(marked, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    spectra = spectra_of(split(grey))
    assert spectra.chroma is None
    assert rank_sets(spectra, key)[0][1] == sync_set_of(MARK, key)


def test_whitened_spectra_are_those_of_the_tapered_picture(marked):
    planes = split(marked)
    spectra = spectra_of(planes)
    height, width = planes.normal.luma.shape

    def taper(length):
        place = np.arange(length) + 0.5
        return np.minimum(1, np.minimum(place, length - place) / (0.1 * length))

    padded = np.zeros(spectra.size[::-1])
    padded[:height, :width] = planes.normal.luma * taper(height)[:, None] * taper(width)
    expected = np.fft.rfft2(np.roll(padded, (-(height // 2), -(width // 2)), (0, 1)))
    phase = np.angle(spectra.luma * np.conj(expected))
    strong = np.abs(expected) > np.median(np.abs(expected))
    assert np.abs(phase[strong]).max() < 1e-2
    assert 0.8 < np.mean(np.abs(spectra.luma) ** 2) < 1.1


def test_the_logarithmic_grids_rank_maps_as_direct_look_up_does(key):
    generator = np.random.Generator(np.random.PCG64(11))
    power = cv2.GaussianBlur(generator.exponential(1, (1024, 513)).astype(np.float32), (0, 0), 5)
    maps = strongest_maps(log_grids(widened(power)), key, 400, 20)
    lines = lattice_of(key).sync / TILE

    def direct(one):
        u, v = lines @ one[:, [0]] + 0, lines @ one[:, [1]] + 0
        back = u < 0
        u, v = np.where(back, -u, u)[:, 0], np.where(back, -v, v)[:, 0]
        inside = (u < 0.49) & (np.abs(v) < 0.49)
        values = power[np.rint(v[inside] * 1024).astype(int) % 1024, np.rint(u[inside] * 1024).astype(int)]
        return (values - power.mean()).sum() / power.std() / np.sqrt(inside.sum()), inside.sum()

    scores, counts = np.array([direct(one.reshape(2, 2)) for one in maps]).T
    angles = generator.uniform(-np.pi, np.pi, 400)
    sizes = np.exp(generator.uniform(np.log(0.3), np.log(2), 400))
    plain = [
        direct(s * np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]))[0]
        for s, t in zip(sizes, angles, strict=True)
    ]
    assert len(maps) >= 400
    assert counts.min() >= 19
    assert counts.max() == SYNC_LINES
    assert np.median(scores) > np.quantile(plain, 0.99)


@pytest.mark.parametrize("orientation", range(len(ORIENTATIONS)))
def test_folding_without_and_with_interpolation_agree(marked, orientation):
    planes = split(marked)
    where = next(one for one in SYNC_SETS if one.side == TILE and one.orientation == orientation)
    whole = fold_whole(planes, where)
    under = fold_under(planes, whole.matrix)
    assert under is not None
    # The shift between both offsets turns the phase of every bin.
    place = np.fft.fftfreq(2 * TILE)
    shift = under.offset - whole.offset
    turn = np.exp(-2j * np.pi * (place[None] * shift[0] + place[:, None] * shift[1]))
    first, second = whole.luma * turn, under.luma
    band = np.hypot(*np.meshgrid(place, place)) < 0.25
    band &= np.hypot(*np.meshgrid(place, place)) > 0.05
    agreement = np.vdot(first[band], second[band]) / np.linalg.norm(first[band]) / np.linalg.norm(second[band])
    assert agreement.real > 0.9


def test_maps_too_large_or_too_small_are_not_folded(marked):
    planes = split(marked)
    assert fold_under(planes, np.eye(2) * 0.005) is None
    assert fold_under(planes, np.eye(2) * 20) is None
