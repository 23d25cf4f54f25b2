"""Make a test or demo clip from one portrait photo: a hand-held camera and a spoken-like tone. Trusted input only."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import count, islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

_SAMPLE_RATE = 48000


def make_clip(
    photo: Path, out: Path, *, seconds: float, size: tuple[int, int] = (1280, 720), fps: int = 25, sound: bool = True
) -> int:
    """Write `out` (MP4, H.264, AAC if `sound`): slow pan, zoom and slight roll over `photo`. Returns how many frames.

    `size` is (width, height), even. The photo fills the height and its blurred copy the rest, so that nothing of
    it is cut off at the sides. Deterministic.
    """
    with Image.open(photo) as opened:
        picture = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    with av.open(str(out), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream: Any = container.add_stream("libx264", rate=fps, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.color_primaries = codec.color_trc = codec.colorspace = 1
        codec.color_range = 1
        tone: Any = container.add_stream("aac", rate=_SAMPLE_RATE, layout="mono") if sound else None
        frames = max(1, round(seconds * fps))
        for index, view in enumerate(views(picture, frames, size=size, fps=fps)):
            frame = av.VideoFrame.from_ndarray(view, "rgb24")
            planar = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range=1)
            planar.pts, planar.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(planar))
        container.mux(stream.encode(None))
        if tone is not None:
            _write_tone(container, tone, seconds)
    return frames


def repeat_clip(clip: Path, out: Path, frames: int) -> None:
    """Write `out`, the pictures of the film `clip` from its first on, again and again until there are so many `frames`.

    The same packets, in the order of decoding; nothing is encoded anew, and sound is left out. Raises ValueError unless
    `clip` is an MP4 or MOV with pictures: others do not tell when each packet is to be decoded.
    """
    with av.open(str(clip)) as source, av.open(str(out), "w", format="mp4", options={"movflags": "+faststart"}) as made:
        stream = source.streams.video[0]
        if "mp4" not in source.format.name or not stream.frames or not stream.duration:
            raise ValueError(f"{clip.name} is not an MP4 or MOV film with pictures")
        target: Any = made.add_stream_from_template(stream)
        for packet in islice(_turns(source, stream), frames):
            packet.stream = target
            made.mux(packet)


def _turns(source: Any, stream: Any) -> Iterator[Any]:
    """The packets of a picture stream without end, each turn where the one before ended."""
    for turn in count():
        source.seek(0)
        for packet in source.demux(stream):
            if packet.dts is None or packet.pts is None:
                continue  # the end
            packet.dts += turn * stream.duration
            packet.pts += turn * stream.duration
            yield packet


def views(
    picture: NDArray[np.uint8], count: int, *, size: tuple[int, int] = (1280, 720), fps: int = 25
) -> Iterator[NDArray[np.uint8]]:
    """The pictures of such a clip, uint8 [height, width, 3] RGB, of a photo uint8 [H, W, 3]."""
    canvas = _canvas(picture, size)
    for index in range(count):
        yield _view(canvas, size, index / fps)


def _canvas(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    width, height = size[0] * 5 // 4, size[1] * 5 // 4
    # Blurred small and enlarged: the same look, without a kernel of hundreds of pixels.
    small = cv2.GaussianBlur(cv2.resize(picture, (64, 36), interpolation=cv2.INTER_AREA), (0, 0), 3)
    backdrop = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    scale = min(height / picture.shape[0], width / picture.shape[1])
    inner = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    backdrop[top : top + inner[1], left : left + inner[0]] = cv2.resize(
        picture, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    )
    return np.asarray(backdrop, np.uint8)


def _view(canvas: NDArray[np.uint8], size: tuple[int, int], seconds: float) -> NDArray[np.uint8]:
    zoom = 0.82 + 0.03 * math.sin(0.7 * seconds)
    roll = 3.0 * math.sin(0.9 * seconds + 0.5)
    centre = (canvas.shape[1] / 2, canvas.shape[0] / 2)
    motion = cv2.getRotationMatrix2D(centre, roll, zoom)
    motion[0, 2] += size[0] / 2 - centre[0] + 0.03 * size[0] * math.sin(0.8 * seconds)
    motion[1, 2] += size[1] / 2 - centre[1] + 0.02 * size[1] * math.sin(1.1 * seconds + 1)
    return np.asarray(
        cv2.warpAffine(canvas, motion, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.uint8
    )


def _write_tone(container: Any, stream: Any, seconds: float) -> None:
    total = round(seconds * _SAMPLE_RATE)
    for start in range(0, total, 1024):
        moment = (start + np.arange(min(1024, total - start))) / _SAMPLE_RATE
        # A tone that breathes at the pace of syllables: its copy can be compared in time, not only in pitch.
        samples = 0.2 * np.sin(2 * np.pi * 220 * moment) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * moment))
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = _SAMPLE_RATE, start, Fraction(1, _SAMPLE_RATE)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
