"""Taking the picture down: by local deviation, and by what a denoiser makes of it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from watermark import image
from watermark.corner import corner_lock
from watermark.lattice import lattice_of, sync_set_of
from watermark.lock import whiten
from watermark.normaliser import joined, normalise, rest_of
from watermark.payload import encode
from watermark.planes import fold_whole, split
from watermark.weights import soft_bits

ID = b"denoised"


def test_the_normaliser_does_what_its_formula_says():
    generator = np.random.Generator(np.random.PCG64(12))
    plane = np.cumsum(generator.normal(0, 3, (90, 130)), axis=1).astype(np.float32)
    detail = plane - cv2.GaussianBlur(plane, (0, 0), 3.5)
    deviation = np.sqrt(cv2.boxFilter(detail * detail, -1, (9, 9))) + 1.5
    expected = np.clip(detail / deviation, -2.5, 2.5) / np.sqrt(deviation)
    found = normalise(plane, "luma")
    assert np.abs(found - expected).max() < 0.02 * expected.std()


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 2), (9, 300)])
def test_the_normaliser_takes_planes_smaller_than_its_window(shape):
    found = normalise(np.full(shape, 77, np.float32), "chroma")
    assert found.shape == shape
    assert np.abs(found).max() < 1e-3


def test_the_rest_is_faint_grain_without_the_edges_and_little_of_a_weave():
    generator = np.random.Generator(np.random.PCG64(4))
    grain = cv2.GaussianBlur(generator.normal(0, 6, (128, 160)).astype(np.float32), (0, 0), 1.2)
    edge = np.full((128, 160), 90, np.float32)
    edge[:, 80:] = 170
    weave = edge.copy()
    weave[::8] += 30
    inside = np.s_[12:-12, 12:-12]
    rest = rest_of(edge + grain)
    assert rest.dtype == np.float32
    assert np.corrcoef(rest[inside].ravel(), grain[inside].ravel())[0, 1] > 0.9
    assert np.abs(rest_of(edge)[inside]).max() == 0
    assert float(rest_of(weave)[inside].std()) < 0.4 * float((weave - cv2.blur(weave, (9, 9)))[inside].std())


@pytest.mark.parametrize("shape", [(8, 8), (9, 300)])
def test_a_flat_plane_leaves_nothing(shape):
    assert np.abs(rest_of(np.full(shape, 77, np.float32))).max() == 0


def test_without_a_rest_nothing_is_joined_and_with_one_as_much_of_it():
    generator = np.random.Generator(np.random.PCG64(5))
    normal = generator.normal(0, 3, (64, 96)).astype(np.float32)
    assert joined(normal, None) is normal
    both = joined(normal, generator.normal(0, 40, (32, 48)).astype(np.float32))
    assert both.shape == normal.shape
    assert float((both - normal).std()) == pytest.approx(float(normal.std()), rel=0.01)


def test_after_strong_compression_the_denoiser_makes_the_soft_bits_surer(key, astronaut, grace, recode):
    sent, where = 1.0 - 2.0 * encode(ID, key), sync_set_of(ID, key)
    gains = []
    for picture in (astronaut, grace):
        marked = image.embed(picture, ID, key)
        for quality in (20, 30):
            planes = split(recode(marked, ".jpg", quality))
            sure = []
            for seen in (planes.carefully, planes.most_carefully):
                white = whiten(fold_whole(seen, where))
                agreed = soft_bits(white, lattice_of(key), corner_lock(white, lattice_of(key))) * sent
                sure.append(float(agreed.mean() / agreed.std()))
            gains.append(20 * np.log10(sure[1] / sure[0]))
    assert min(gains) > 0.3
    assert np.mean(gains) > 0.6
