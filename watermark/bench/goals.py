"""What each attack has to reach, in per cent of pictures whose full id is read: (default mode, durable mode)."""

from __future__ import annotations

from collections.abc import Iterator

from watermark.embedding import MarkMode

ALL_ATTACKS = (98.5, 99.6)
CHAIN_MEAN = (97.0, 99.5)
LEAST_PSNR = (44.0, 42.0)
MEAN_PSNR = (44.5, 42.0)
MEAN_SSIM = (0.993, 0.0)
_CONTENT, _CONTENT_SMALL = 97.0, 90.0
_SMALL_CROPS = ("crop_0.1", "crop_0.05")

_ALWAYS = (100.0, 100.0)
_NEARLY = (99.5, 100.0)
_ROWS: tuple[tuple[str, tuple[float, float]], ...] = (
    ("none jpeg_90 jpeg_75 jpeg_50 webp_80 webp_50 webp_40 avif_60 avif_40", _ALWAYS),
    ("scale_0.25_kept scale_0.5_kept scale_0.75_kept scale_0.5_back scale_1.5_kept scale_2_kept", _ALWAYS),
    ("aspect_0.8 aspect_1.25 flip_h flip_v rot_90 rot_180 rot_270 crop_0.8", _ALWAYS),
    ("jpeg_40 jpeg_double palette_256 hevc_still_30", _NEARLY),
    ("jpeg_30", (99, 100)),
    ("jpeg_20", (95, 99)),
    ("rot_1_inside rot_3_inside rot_5_inside rot_10_inside rot_30_corners rot_45_corners", _NEARLY),
    ("shear_5 affine_small translation", _NEARLY),
    ("perspective_3 barrel", (99, 100)),
    ("perspective_8", (95, 97)),
    ("crop_0.5", _ALWAYS),
    ("crop_0.25", (99, 100)),
    ("crop_0.1", (95, 99)),
    ("crop_0.05", (85, 92)),
    ("overlay cut_out_40 meme collage_4 screenshot logo_text face_blur", (99, 100)),
    ("social_1080_q75 social_720_q60 messenger repost_x3 screenshot_crop_q60 rot_crop_scale_q60", (90, 97)),
    ("crop_0.5_q40_dark filter_resize_webp60 meme_q50 grey_q40", (90, 97)),
    ("thumb_480_q70", (90, 97)),
    ("nlm_8 bilateral down_noise_up jitter_warp row_col_drop bilateral_q60 total_variation", (99, 100)),
)
_BY_NAME = {name: goal for names, goal in _ROWS for name in names.split()}


def goal(attack: str, group: str, mode: MarkMode) -> float:
    """Least per cent of `attack` in `mode`. Valuemetric attacks share one goal."""
    return _BY_NAME.get(attack, _NEARLY if group == "valuemetric" else ALL_ATTACKS)[mode != "default"]


def content_goal(attack: str) -> float:
    """Least per cent of the readings after which the content has to be judged ours; crops to a tenth ask for less."""
    return _CONTENT_SMALL if attack in _SMALL_CROPS else _CONTENT


def named() -> Iterator[str]:
    """The attacks with a goal of their own."""
    return iter(_BY_NAME)
