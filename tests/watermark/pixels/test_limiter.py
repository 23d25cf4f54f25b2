"""Local frequencies are limited one by one: what is strong in one place goes down, what is faint everywhere stays."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from watermark import image
from watermark.lattice import lattice_of, sync_set_of
from watermark.limiter import limited
from watermark.lock import lock, whiten
from watermark.payload import encode
from watermark.planes import fold_whole, split
from watermark.weights import soft_bits

ID = b"hard one"


def in_band(rng, shape, deviation=1.0):
    """Noise of the mark's own band."""
    noise = rng.normal(0, 1, shape).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 2.5) - cv2.GaussianBlur(noise, (0, 0), 6)
    return deviation * noise / noise.std()


def wave(shape, period):
    return np.broadcast_to(np.sin(2 * np.pi * np.arange(shape[1]) / period), shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(96, 96), (97, 131), (16, 9), (5, 300), (1, 1)])
def test_what_is_far_below_the_limit_passes_unchanged_at_every_size(shape):
    plane = in_band(np.random.Generator(np.random.PCG64(1)), (400, 400))[: shape[0], : shape[1]]
    if min(shape) > 32:
        inner = np.s_[8:-8, 8:-8]
        assert np.abs(limited(plane, 1e6) - plane)[inner].max() < 0.15
    assert limited(plane, 1e6).shape == shape
    assert np.isfinite(limited(plane, 1e6)).all()


def test_a_strong_wave_goes_down_where_it_is_and_the_faint_rest_stays():
    rng = np.random.Generator(np.random.PCG64(2))
    faint = in_band(rng, (256, 256))
    strong = 60 * wave((256, 256), 8.0)
    strong[:, 128:] = 0
    after = limited(faint + strong, 6.0)
    left, right = np.s_[16:-16, 16:112], np.s_[16:-16, 144:-16]

    def share(part, sought, kept):
        return float((part * sought).sum() / (kept * sought).sum())

    assert share(after[left], wave((256, 256), 8.0)[left], strong[left]) < 0.01
    assert np.corrcoef(after[right].ravel(), faint[right].ravel())[0, 1] > 0.93
    # The mark crosses the wave's direction too, and there it is still to be seen.
    quiet = np.fft.fft2(after[left])[1:, 0], np.fft.fft2(faint[left])[1:, 0]
    assert abs(np.vdot(*quiet)) > 0.7 * np.linalg.norm(quiet[0]) * np.linalg.norm(quiet[1])


def test_order_of_strength_is_kept_and_nothing_is_turned_round():
    shape = (64, 64)
    levels = [float(np.abs(limited(level * wave(shape, 8.0), 6.0)[24:40, 24:40]).max()) for level in (0.1, 0.5, 2.0)]
    assert levels[0] < levels[1] < levels[2]
    assert float((limited(wave(shape, 8.0), 6.0) * wave(shape, 8.0))[16:48, 16:48].sum()) > 0


@pytest.mark.parametrize("quality", [20, 30])
def test_after_strong_compression_the_soft_bits_are_surer(key, astronaut, grace, recode, quality):
    """Signal over noise of the 600 soft bits: higher for each picture, by two decibels on average."""
    sure = []
    for picture in (astronaut, grace):
        hurt = recode(image.embed(picture, ID, key), ".jpg", quality)
        where, sent = sync_set_of(ID, key), 1.0 - 2.0 * encode(ID, key)
        gains = []
        for planes in (split(hurt), split(hurt).carefully):
            white = whiten(fold_whole(planes, where))
            agreed = soft_bits(white, lattice_of(key), lock(white, lattice_of(key))) * sent
            gains.append(agreed.mean() / agreed.std())
        sure.append(20 * np.log10(gains[1] / gains[0]))
    assert min(sure) > 0
    assert np.mean(sure) > 2.1
