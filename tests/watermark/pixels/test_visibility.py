"""What the mark costs the eye: fidelity promised and kept, flats and skin left clean, nothing wasted on clipping."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from watermark import embedding, image, mask, pattern, video
from watermark.bench.quality import ssim

ID = b"seen not"
SIZES = [(96, 96), (131, 97), (335, 410), (512, 512), (900, 300), (1280, 720), (1921, 1081)]


@pytest.fixture(scope="module")
def tiles(key):
    return pattern.derive(ID, key)


def grown(rgb, size):
    return cv2.resize(rgb, size, interpolation=cv2.INTER_CUBIC if size[0] > rgb.shape[1] else cv2.INTER_AREA)


def grainy(rgb, size, deviation=2.0):
    noise = np.random.Generator(np.random.PCG64(11)).normal(0, deviation, (size[1], size[0], 3))
    return np.clip(grown(rgb, size) + noise, 0, 255).astype(np.uint8)


def change(before, after):
    return after.astype(np.float64) - before


@pytest.mark.parametrize("size", SIZES)
def test_default_marks_keep_44_db_and_structure_at_every_size(astronaut, grace, tiles, psnr, size):
    for picture in (astronaut, grace):
        before = grainy(picture, size)
        after = image.embed_pattern(before, tiles)
        assert psnr(before, after) >= 44.0
        assert ssim(before, after) >= 0.989


@pytest.mark.parametrize("size", SIZES)
def test_durable_marks_keep_42_db_and_use_nearly_all_they_may(astronaut, tiles, psnr, size):
    before = grainy(astronaut, size, 6.0)
    assert 42.0 <= psnr(before, image.embed_pattern(before, tiles, "durable")) <= 42.15


def test_the_promise_holds_where_half_of_a_large_picture_is_smooth(astronaut, tiles, psnr):
    before = grainy(astronaut, (1620, 1080), 6.0)
    before[:540] = cv2.GaussianBlur(before[:540], (0, 0), 8)
    assert 42.0 <= psnr(before, image.embed_pattern(before, tiles, "durable")) <= 42.15


def test_a_small_busy_picture_gets_all_the_strength_it_may_and_a_large_one_a_little_less(astronaut, tiles, psnr):
    small, large = (grainy(astronaut, (side, side), 12.0) for side in (660, 1600))
    assert psnr(small, image.embed_pattern(small, tiles)) == pytest.approx(44.6, abs=0.15)
    assert 44.8 < psnr(large, image.embed_pattern(large, tiles)) < 46.6


@pytest.mark.parametrize("level", [2, 40, 128, 220, 253])
def test_synthetic_flats_are_changed_by_a_few_grey_levels_at_most(tiles, psnr, level):
    flat = np.full((480, 640, 3), level, np.uint8)
    after = image.embed_pattern(flat, tiles)
    assert psnr(flat, after) >= 48.0
    assert np.abs(change(flat, after)).max() <= 6


def test_the_region_beside_an_edge_is_as_quiet_as_the_flat_it_belongs_to(tiles):
    picture = np.full((512, 1024, 3), 96, np.uint8)
    picture[:, 512:] = 176
    size = np.abs(change(picture, image.embed_pattern(picture, tiles))).mean(axis=(0, 2))
    beside, far = size[[*range(492, 506), *range(518, 532)]].mean(), size[100:400].mean()
    assert beside < 1.4 * far


def test_smooth_skin_gets_less_blue_than_other_flats():
    def blue(rgb):
        flat = np.full((256, 256, 3), rgb, np.uint8)
        return int(mask.strengths(cv2.cvtColor(flat, cv2.COLOR_RGB2YCrCb))[1][128, 128])

    grey = blue((150, 150, 150))
    for skin in ((224, 172, 140), (198, 134, 100), (141, 85, 60), (90, 56, 40)):
        assert blue(skin) < 0.8 * grey


def test_strength_grows_with_activity_and_is_spared_near_black():
    noise = np.random.Generator(np.random.PCG64(12)).normal(0, 1, (256, 256, 1))

    def luma(level, deviation):
        rgb = np.clip(level + deviation * noise, 0, 255).astype(np.uint8).repeat(3, axis=2)
        return float(mask.strengths(cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb))[0].mean())

    assert luma(128, 0) < luma(128, 4) < luma(128, 8) < luma(128, 12)
    assert luma(0, 0) < 0.6 * luma(30, 0)


def test_a_saturated_colour_is_not_marked_where_its_change_is_cut_off(tiles):
    """Blue of a red that has none: half of a Cb change is lost there and the other half shows."""
    red, grey = (np.full((384, 384, 3), colour, np.uint8) for colour in ((250, 60, 0), (128, 128, 128)))
    power = [float((change(flat, image.embed_pattern(flat, tiles))[..., 2] ** 2).mean()) for flat in (red, grey)]
    assert power[0] < 0.5 * power[1]


def test_the_change_follows_the_tile_and_not_its_own_rounding(astronaut, tiles):
    before = grainy(astronaut, (512, 512))
    wanted = embedding.lay(tiles.luma, 512)
    repeated = np.tile(wanted, (512 // len(wanted) + 1, 1))[:512]
    weights = (0.299, 0.587, 0.114)
    luma = change(before, image.embed_pattern(before, tiles)) @ weights
    assert np.corrcoef(luma.ravel(), repeated.ravel())[0, 1] > 0.8


def test_a_gradient_marked_in_limited_range_video_shows_no_bands(tiles):
    """Steps of a mark in 8 bit must look like grain: no long runs of equal change that the tile does not have."""
    ramp = np.linspace(60, 90, 1280).astype(np.uint8)
    y = np.tile(ramp, (720, 1)).copy()
    u, v = (np.full((360, 640), 128, np.uint8) for _ in range(2))
    before = y.copy()
    video.Embedder.from_pattern(tiles, (1280, 720)).embed_yuv420(y, u, v)
    moved = change(before, y)
    assert np.abs(moved).max() <= 5
    assert abs(float(moved.mean())) < 0.05
    assert np.abs(moved.mean(axis=0)).max() < 0.5


def test_a_frame_is_marked_equally_as_rgb_and_in_planes_and_no_less_than_a_still_picture(astronaut, tiles, psnr):
    before = grainy(astronaut, (960, 720), 6.0)
    still = image.embed_pattern(before, tiles)
    embedder = video.Embedder.from_pattern(tiles, (960, 720))
    frame = embedder.embed(before)
    assert psnr(before, still) - 1.5 < psnr(before, frame) <= psnr(before, still)
    packed = cv2.cvtColor(before, cv2.COLOR_RGB2YUV_I420)
    decoded = cv2.cvtColor(packed, cv2.COLOR_YUV2RGB_I420)
    y, u, v = packed[:720], packed[720:900].reshape(360, 480), packed[900:].reshape(360, 480)
    embedder.embed_yuv420(y, u, v)
    planar = cv2.cvtColor(packed, cv2.COLOR_YUV2RGB_I420)
    assert psnr(decoded, planar) == pytest.approx(psnr(before, frame), abs=0.5)


def test_a_scene_that_stays_keeps_its_gain_and_a_cut_gets_its_own(astronaut, tiles, psnr):
    size = (640, 480)
    flat, busy = np.full((480, 640), 120, np.uint8), grainy(astronaut, size, 12.0)[..., 1].copy()
    embedder, powers = video.Embedder.from_pattern(tiles, size), []
    for frame in (flat, busy, flat, busy):
        y, u, v = frame.copy(), *(np.full((240, 320), 128, np.uint8) for _ in range(2))
        embedder.embed_yuv420(y, u, v)
        powers.append(float((change(frame, y) ** 2).mean()))
    assert powers[0] == powers[2]
    assert powers[1] == powers[3]
    assert powers[0] < 0.6 * powers[1]


@pytest.mark.parametrize("size", [(335, 410), (800, 600), (1600, 1200)])
def test_a_smooth_picture_changes_or_loses_as_much_structure_as_it_may(grace, tiles, size, psnr):
    """Steps of the gain are fine enough even where the mark is no more than a grey level."""
    smooth = grainy(cv2.GaussianBlur(grace, (0, 0), 3), size, 0.7)
    marked = image.embed_pattern(smooth, tiles)
    loss, decibels, may = 1 - ssim(smooth, marked), psnr(smooth, marked), embedding.allowance("default", *size)
    allowed = may.loss_at(65025 / 10 ** (decibels / 10))
    assert loss < 1.2 * allowed
    assert loss > 0.8 * allowed or decibels < may.target + 0.1
    assert embedding.allowance("default", 335, 410).loss > embedding.allowance("default", 1600, 1200).loss
    assert embedding.allowance("default", 1600, 1200).loss <= 0.007
