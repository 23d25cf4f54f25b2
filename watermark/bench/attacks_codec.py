"""Group B: what encoders leave of a picture."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from PIL import Image

from watermark.bench.attack_kit import RGB, Attack, attacks_of, avif, jpeg, plain, webp


def palette(rgb: RGB) -> RGB:
    """PNG or GIF with 256 colours chosen from the picture, Floyd-Steinberg dithered."""
    return np.asarray(Image.fromarray(rgb).quantize(256).convert("RGB"), np.uint8).copy()


def hevc_still(rgb: RGB, crf: int) -> RGB:
    """One intra frame of HEVC at 4:2:0, which is what a HEIC file holds; odd sides lose their last row or column."""
    even = np.ascontiguousarray(rgb[: rgb.shape[0] // 2 * 2, : rgb.shape[1] // 2 * 2])
    encoder = av.CodecContext.create("libx265", "w")
    encoder.height, encoder.width = even.shape[:2]
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 25)
    encoder.options = {"crf": str(crf), "preset": "medium", "x265-params": "log-level=none:pools=1:frame-threads=1"}
    decoder = av.CodecContext.create("hevc", "r")
    packets = (*encoder.encode(av.VideoFrame.from_ndarray(even, "rgb24")), *encoder.encode(None))
    frames = [frame for packet in (*packets, None) for frame in decoder.decode(packet)]
    return np.asarray(frames[0].to_ndarray(format="rgb24"), np.uint8)


CODEC: list[Attack] = attacks_of(
    "codec",
    [
        ("jpeg_90", plain(lambda rgb: jpeg(rgb, 90)), "JPEG quality 90, 4:2:0"),
        ("jpeg_75", plain(lambda rgb: jpeg(rgb, 75)), "JPEG quality 75, 4:2:0"),
        ("jpeg_50", plain(lambda rgb: jpeg(rgb, 50)), "JPEG quality 50, 4:2:0"),
        ("jpeg_40", plain(lambda rgb: jpeg(rgb, 40)), "JPEG quality 40, 4:2:0"),
        ("jpeg_30", plain(lambda rgb: jpeg(rgb, 30)), "JPEG quality 30, 4:2:0"),
        ("jpeg_20", plain(lambda rgb: jpeg(rgb, 20)), "JPEG quality 20, 4:2:0"),
        ("jpeg_double", plain(lambda rgb: jpeg(jpeg(rgb, 60), 70)), "JPEG 60, then JPEG 70"),
        ("webp_80", plain(lambda rgb: webp(rgb, 80)), "WebP quality 80"),
        ("webp_50", plain(lambda rgb: webp(rgb, 50)), "WebP quality 50"),
        ("webp_40", plain(lambda rgb: webp(rgb, 40)), "WebP quality 40"),
        ("avif_60", plain(lambda rgb: avif(rgb, 60)), "AVIF quality 60"),
        ("avif_40", plain(lambda rgb: avif(rgb, 40)), "AVIF quality 40"),
        ("palette_256", plain(palette), "256 colours, dithered (PNG palette, GIF)"),
        ("hevc_still_30", plain(lambda rgb: hevc_still(rgb, 30)), "HEVC still at CRF 30 (HEIC)"),
    ],
)
