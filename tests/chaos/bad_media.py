"""Makers of files that nobody should send. Each is made here, byte by byte or with the libraries people's tools use."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image


def wall(path: Path) -> None:
    """Noise in which there is nobody."""
    noise = np.random.default_rng(7).integers(90, 160, (512, 512, 3), np.uint8)
    Image.fromarray(cv2.GaussianBlur(noise, (0, 0), 6)).save(path)


def far_away(portrait: Path, path: Path) -> None:
    """Somebody so far away that the face is some forty pixels large."""
    noise = np.random.default_rng(8).integers(90, 160, (480, 640, 3), np.uint8)
    picture = cv2.GaussianBlur(noise, (0, 0), 6)
    face = np.asarray(Image.open(portrait).convert("RGB").resize((140, 164), Image.Resampling.LANCZOS))
    picture[150:314, 230:370] = face
    Image.fromarray(picture).save(path, quality=95)


def couple(one: Path, other: Path, path: Path) -> None:
    """Two people side by side."""
    faces = [np.asarray(Image.open(each).convert("RGB").resize((512, 600))) for each in (one, other)]
    Image.fromarray(np.hstack(faces)).save(path, quality=95)


def bomb(path: Path, width: int = 20_000, height: int = 10_000) -> None:
    """A PNG of 200 megapixels in some ten kilobytes: one bit a pixel, all the same."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((1 + (width + 7) // 8) * height), 9)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def video(
    path: Path,
    *,
    frames: int = 12,
    rate: int = 25,
    videos: int = 1,
    sounds: int = 0,
    times: list[int] | None = None,
    size: tuple[int, int] = (160, 120),
) -> None:
    """A small H.264 video of grey pictures; `times` (in seconds) overrides the rate."""
    width, height = size
    with av.open(str(path), "w") as out:
        pictures: list[Any] = []
        for _ in range(videos):
            stream: Any = out.add_stream("libx264", rate=rate)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            pictures.append(stream)
        tones = [out.add_stream("aac", rate=48000, layout="mono") for _ in range(sounds)]
        if not frames:
            out.start_encoding()
        for index in range(len(times) if times else frames):
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 60 + index % 100, np.uint8), "rgb24")
            frame.pts, frame.time_base = (times[index] if times else index), Fraction(1, 1 if times else rate)
            for stream in pictures:
                out.mux(stream.encode(frame))
        for stream in pictures if frames else []:
            out.mux(stream.encode(None))
        for tone in tones:
            _tone(out, tone, seconds=frames / rate)


def _tone(out: Any, stream: Any, seconds: float) -> None:
    size = stream.codec_context.frame_size or 1024
    for start in range(0, int(seconds * 48000), size):
        wave: NDArray[np.float32] = 0.3 * np.sin(2 * np.pi * 440 * (start + np.arange(size, dtype=np.float32)) / 48000)
        frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def sound_only(path: Path) -> None:
    """An MP4 without a picture track."""
    with av.open(str(path), "w") as out:
        _tone(out, out.add_stream("aac", rate=48000, layout="mono"), seconds=1)


def noisy_sound(path: Path) -> None:
    """A sound picture track beside a sound track of which every packet is noise."""
    video(path, frames=25, sounds=1)
    with av.open(str(path)) as source:
        packets = [(packet.pos, packet.size) for packet in source.demux(audio=0) if packet.size]
    data = bytearray(path.read_bytes())
    random = np.random.default_rng(5)
    for position, size in packets:
        assert position is not None
        data[position : position + size] = random.integers(0, 256, size, np.uint8).tobytes()
    path.write_bytes(bytes(data))


def no_time(path: Path) -> None:
    """A video whose header says that its pictures last no time (ISO/IEC 14496-12: mdhd, tkhd, mvhd, stts)."""
    video(path)
    data = bytearray(path.read_bytes())
    for box, skip in ((b"mdhd", 16), (b"tkhd", 20), (b"mvhd", 16)):
        at = data.find(box) + 4 + skip
        data[at : at + 4] = bytes(4)
    table = data.find(b"stts")
    for entry in range(struct.unpack(">I", data[table + 8 : table + 12])[0]):
        data[table + 12 + entry * 8 + 4 : table + 20 + entry * 8] = bytes(4)
    path.write_bytes(bytes(data))


def no_pictures(path: Path) -> None:
    """A video of which every frame is marked as having nothing in it: the sample sizes are zero (stsz)."""
    video(path)
    data = bytearray(path.read_bytes())
    table = data.find(b"stsz") + 8  # past the name and the version
    count = struct.unpack(">I", data[table + 4 : table + 8])[0]
    data[table + 8 : table + 8 + 4 * count] = bytes(4 * count)
    path.write_bytes(bytes(data))
