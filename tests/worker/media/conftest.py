"""Makers of good and bad media. Every file is made here, with the same libraries people's tools are built on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.worker.processes import media_children

Picture = Callable[[int], np.ndarray]


def _gradient(width: int, height: int, index: int) -> np.ndarray:
    """A picture whose four corners differ, and which says its own number by brightness."""
    x = np.linspace(0, 1, width)[None, :, None]
    y = np.linspace(0, 1, height)[:, None, None]
    base = x * [180, 40, 0] + y * [0, 60, 180] + 30
    return np.clip(base + (index % 8) * 4, 0, 255).astype(np.uint8)


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that encodes a small video and gives its path."""

    def make(
        name: str = "clip.mp4",
        *,
        seconds: float = 1.0,
        size: tuple[int, int] = (320, 240),
        rate: Fraction | int = 25,
        codec: str = "libx264",
        container: str | None = None,
        pix_fmt: str = "yuv420p",
        picture: Picture | None = None,
        sound: str | None = None,
        videos: int = 1,
        sounds: int = 1,
        rotation: int = 0,
        pts: list[int] | None = None,
        time_base: Fraction | None = None,
        colour: tuple[int, int, int] | None = (1, 1, 1),
        options: dict[str, str] | None = None,
    ) -> Path:
        path = tmp_path / name
        count = len(pts) if pts else max(1, round(seconds * float(rate)))
        with av.open(str(path), "w", format=container) as out:
            streams: list[Any] = []
            for _ in range(videos):
                stream: Any = out.add_stream(codec, rate=rate, options=options or {})
                stream.width, stream.height = size
                stream.pix_fmt = pix_fmt
                if time_base:
                    stream.codec_context.time_base = stream.time_base = time_base
                if colour:
                    context = stream.codec_context
                    context.color_primaries, context.color_trc, context.colorspace = colour
                if rotation:
                    stream.set_display_rotation(-rotation)
                streams.append(stream)
            tones = [out.add_stream(sound, rate=48000, layout="stereo") for _ in range(sounds)] if sound else []
            for index in range(count):
                rgb = picture(index) if picture else _gradient(*size, index)
                depth = "rgb48le" if rgb.dtype == np.uint16 else "rgb24"
                for stream in streams:
                    frame = av.VideoFrame.from_ndarray(rgb, depth).reformat(
                        format=pix_fmt,
                        dst_colorspace=9 if colour and colour[2] == 9 else 1,
                        dst_color_range=1,
                    )
                    if colour:
                        frame.color_primaries, frame.color_trc, frame.colorspace = colour
                    frame.pts = pts[index] if pts else index
                    frame.time_base = time_base or Fraction(1) / Fraction(rate)
                    out.mux(stream.encode(frame))
            for stream in streams:
                out.mux(stream.encode(None))
            for tone in tones:
                _tone(out, tone, count / float(rate))
        return path

    return make


def _tone(out: Any, stream: Any, seconds: float) -> None:
    size = stream.codec_context.frame_size or 960
    form = stream.codec_context.format.name
    for start in range(0, int(seconds * 48000), size):
        time = (start + np.arange(size)) / 48000
        wave = 0.3 * np.sin(2 * np.pi * 440 * time)
        planar = form.endswith("p")
        samples = np.stack([wave, wave]) if planar else np.repeat(wave, 2)[None]
        values = samples.astype(np.float32) if form.startswith("flt") else (samples * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(values, form, "stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


@pytest.fixture(autouse=True)
def no_children_left() -> Iterator[None]:
    """Whatever a test did to a child, none of ours may outlive it."""
    yield
    deadline = time.monotonic() + 5  # a killed process is gone when its parent has noticed
    while (left := media_children()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left


@pytest.fixture
def make_heic(tmp_path: Path) -> Callable[[np.ndarray], Path]:
    """Return a function that wraps one HEVC intra picture into the least HEIF file (ISO/IEC 23008-12, Annex B)."""

    def box(kind: bytes, *parts: bytes) -> bytes:
        body = b"".join(parts)
        return (8 + len(body)).to_bytes(4, "big") + kind + body

    def make(rgb: np.ndarray) -> Path:
        height, width = rgb.shape[:2]
        movie = tmp_path / "one.mp4"
        with av.open(str(movie), "w") as out:
            options = {"crf": "10", "x265-params": "log-level=none:bframes=0:pools=1"}
            stream: Any = out.add_stream("libx265", rate=1, options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(
                format="yuv420p", dst_colorspace=1, dst_color_range=1
            )
            frame.pts, frame.time_base = 0, Fraction(1, 1)  # without a time the muxer may refuse the packet
            out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        with av.open(str(movie)) as source:
            config = bytes(source.streams.video[0].codec_context.extradata)
            sample = bytes(next(packet for packet in source.demux(video=0) if packet.size))
        full = bytes(4)
        infe = box(b"infe", b"\2\0\0\0", b"\0\1\0\0", b"hvc1", b"\0")
        size = box(b"ispe", full, width.to_bytes(4, "big"), height.to_bytes(4, "big"))
        colour = box(b"colr", b"nclx", b"\0\1\0\1\0\1\0")
        ipma = box(b"ipma", full, b"\0\0\0\1", b"\0\1", b"\3", b"\x81\x02\x03")
        ftyp = box(b"ftyp", b"heic", full, b"mif1heic")

        def meta(offset: int) -> bytes:
            location = (0).to_bytes(2, "big") + b"\0\1" + offset.to_bytes(4, "big") + len(sample).to_bytes(4, "big")
            return box(
                b"meta",
                full,
                box(b"hdlr", full, full, b"pict", bytes(13)),
                box(b"pitm", full, b"\0\1"),
                box(b"iloc", full, b"\x44\0", b"\0\1", b"\0\1", location),
                box(b"iinf", full, b"\0\1", infe),
                box(b"iprp", box(b"ipco", box(b"hvcC", config), size, colour), ipma),
            )

        start = len(ftyp) + len(meta(0)) + 8
        path = tmp_path / "photo.heic"
        path.write_bytes(ftyp + meta(start) + box(b"mdat", sample))
        return path

    return make
