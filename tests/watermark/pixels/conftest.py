"""Keys, edits and clips the mark is tested with."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from watermark.keys import MarkKey, derive_mark_key

RGB = NDArray[np.uint8]


@pytest.fixture(scope="session")
def key() -> MarkKey:
    return derive_mark_key(b"a master secret of the tests", deployment="tests", year=2026)


@pytest.fixture(scope="session")
def other_key() -> MarkKey:
    return derive_mark_key(b"a master secret of the tests", deployment="tests", year=2027)


@pytest.fixture(scope="session")
def psnr() -> Callable[[RGB, RGB], float]:
    def measure(first: RGB, second: RGB) -> float:
        return float(10 * np.log10(65025 / np.mean((first.astype(np.float64) - second) ** 2)))

    return measure


@pytest.fixture(scope="session")
def recode() -> Callable[[RGB, str, int], RGB]:
    """Encode and decode a picture as ".jpg" or ".webp" at a quality."""

    def through(rgb: RGB, suffix: str, quality: int) -> RGB:
        flag = {".jpg": cv2.IMWRITE_JPEG_QUALITY, ".webp": cv2.IMWRITE_WEBP_QUALITY}[suffix]
        _, data = cv2.imencode(suffix, rgb[..., ::-1], [flag, quality])
        return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])

    return through


@pytest.fixture(scope="session")
def large(grace: RGB) -> RGB:
    """A picture the size of a small camera photo, uint8 [1406, 1200, 3], with some grain."""
    grown = cv2.resize(grace, (1200, 1406), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    grain = np.random.Generator(np.random.PCG64(7)).normal(0, 2, grown.shape)
    return np.clip(grown + grain, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def clip(large: RGB) -> list[RGB]:
    """Twelve frames uint8 [720, 960, 3] of a slow pan over `large` with fresh grain in each."""
    generator = np.random.Generator(np.random.PCG64(8))
    frames = []
    for i in range(12):
        part = large[100 + 2 * i : 820 + 2 * i, 100 + i : 1060 + i].astype(np.float32)
        frames.append(np.clip(part + generator.normal(0, 1.5, part.shape), 0, 255).astype(np.uint8))
    return frames


@pytest.fixture(scope="session")
def h264() -> Callable[[list[RGB], int], list[tuple[float, RGB]]]:
    """Encode frames with x264 at a constant rate factor and decode them: (seconds, RGB)."""

    def through(frames: list[RGB], crf: int) -> list[tuple[float, RGB]]:
        return list(_decode(_encode(frames, crf)))

    return through


def _encode(frames: list[RGB], crf: int) -> bytes:
    data = io.BytesIO()
    with av.open(data, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(crf), "preset": "veryfast"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return data.getvalue()


def _decode(data: bytes) -> Iterator[tuple[float, RGB]]:
    with av.open(io.BytesIO(data)) as container:
        for frame in container.decode(video=0):
            yield float(frame.time), frame.to_ndarray(format="rgb24")
