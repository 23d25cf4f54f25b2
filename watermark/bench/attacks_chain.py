"""Group E: what happens to a picture on its way through phones and platforms."""

from __future__ import annotations

import numpy as np

from watermark.bench.attack_kit import RGB, Attack, attacks_of, cropped, in_turn, jpeg, long_side, plain, scaled, webp
from watermark.bench.attacks_geometric import turned_either_way
from watermark.bench.attacks_occlusion import meme, screenshot
from watermark.bench.attacks_value import brightness, contrast, grey, saturation, vignette, white_balance


def repost(rgb: RGB, generator: np.random.Generator) -> RGB:
    """One re-upload: size by 0.8 to 1.1, 92 to 100 % of the area kept, JPEG quality 60 to 75."""
    rgb = scaled(rgb, float(generator.uniform(0.8, 1.1)))
    rgb = cropped(rgb, float(generator.uniform(0.92, 1.0)), generator)
    return jpeg(rgb, int(generator.integers(60, 76)))


def _photo_filter(rgb: RGB, generator: np.random.Generator) -> RGB:
    return vignette(white_balance(saturation(contrast(rgb, 1.2), 1.3), generator))


def _turned_part(rgb: RGB, generator: np.random.Generator) -> RGB:
    turned = turned_either_way(rgb, generator, 4, corners=False)
    return jpeg(scaled(cropped(turned, 0.7, generator), 0.8), 60)


CHAIN: list[Attack] = attacks_of(
    "chain",
    [
        ("social_1080_q75", plain(lambda rgb: jpeg(long_side(rgb, 1080), 75)), "long side 1080, JPEG 75"),
        ("social_720_q60", plain(lambda rgb: jpeg(long_side(rgb, 720), 60)), "long side 720, JPEG 60"),
        (
            "messenger",
            plain(lambda rgb: jpeg(long_side(jpeg(long_side(rgb, 1600), 70), 1280), 60)),
            "long side 1600, JPEG 70; then 1280, JPEG 60",
        ),
        ("repost_x3", in_turn(repost, repost, repost), "three times: size .8 to 1.1, slight crop, JPEG 60 to 75"),
        (
            "screenshot_crop_q60",
            in_turn(screenshot, lambda rgb, generator: jpeg(cropped(rgb, 0.6, generator), 60)),
            "in a window on a screen, 60 % of that cut out, JPEG 60",
        ),
        (
            "rot_crop_scale_q60",
            _turned_part,
            "turned by 4 degrees, 70 % of it, size .8, JPEG 60",
        ),
        (
            "crop_0.5_q40_dark",
            lambda rgb, generator: brightness(jpeg(cropped(rgb, 0.5, generator), 40), 0.7),
            "half the area, JPEG 40, brightness .7",
        ),
        ("thumb_480_q70", plain(lambda rgb: jpeg(long_side(rgb, 480), 70)), "long side 480, JPEG 70"),
        (
            "filter_resize_webp60",
            in_turn(_photo_filter, plain(lambda rgb: webp(scaled(rgb, 0.7), 60))),
            "contrast, colours, vignette; size .7; WebP 60",
        ),
        ("meme_q50", in_turn(meme, plain(lambda rgb: jpeg(rgb, 50))), "text bars, JPEG 50"),
        ("grey_q40", plain(lambda rgb: jpeg(grey(rgb), 40)), "greyscale, JPEG 40"),
    ],
)
