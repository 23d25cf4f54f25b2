"""Write frames as a clip: what a phone's recorder makes (MP4, WebM), and what Chromium plays as a fake camera."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Final

import av
import cv2
import numpy as np

from worker.faces.types import Rgb

_MILLIS: Final = Fraction(1, 1000)
# (codec, options) by ending, the longest that fits counts; WebM as browsers record it: one pass, real time.
_ENCODERS: Final = {
    ".mp4": ("libx264", {"crf": "23", "preset": "veryfast"}),
    ".webm": ("libvpx", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "auto-alt-ref": "0"}),
    ".live.webm": ("libvpx", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "auto-alt-ref": "0"}),
    ".frag.mp4": ("libx264", {"crf": "23", "preset": "veryfast"}),
    ".vp9.webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "row-mt": "1"}),
}


def write_clip(
    path: Path, frames: Iterable[Rgb], fps: float, *, times: Sequence[float] | None = None, bitrate: int = 2_500_000
) -> None:
    """Write `frames` (uint8 [H, W, 3] RGB, all of one even size) to `path`; its ending chooses the format.

    `.mp4` H.264, `.webm` VP8, `.vp9.webm` VP9, `.live.webm` and `.frag.mp4` as a browser streams them (without length,
    index or frame rate), `.y4m` and `.mjpeg` for `--use-file-for-fake-video-capture`. `times`
    are the seconds each frame is shown at, for a recorder with an uneven pace; MP4 and WebM only.
    """
    if path.name.endswith(".y4m"):
        return _write_y4m(path, frames, fps)
    if path.name.endswith(".mjpeg"):
        return _write_mjpeg(path, frames)
    ending = max((each for each in _ENCODERS if path.name.endswith(each)), key=len, default=None)
    if ending is None:
        raise ValueError(f"{path.name}: write {', '.join(_ENCODERS)}, .y4m or .mjpeg")
    codec, options = _ENCODERS[ending]
    streamed = ending in (".live.webm", ".frag.mp4")
    muxing = {"movflags": "frag_keyframe+empty_moov+default_base_moof"} if ending == ".frag.mp4" else {}
    with (
        path.open("wb") as file,
        av.open(_Pipe(file) if streamed else file, "w", format=ending[-4:].strip("."), options=muxing) as container,
    ):
        stream: Any = None
        for number, rgb in enumerate(frames):
            if stream is None:
                stream = container.add_stream(codec, rate=round(fps), options=options)
                stream.width, stream.height = rgb.shape[1], rgb.shape[0]
                stream.pix_fmt = "yuv420p"
                stream.codec_context.time_base = _MILLIS
                if codec != "libx264":
                    stream.bit_rate = bitrate
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24").reformat(format="yuv420p")
            seconds = times[number] if times is not None else number / fps
            frame.pts, frame.time_base = round(seconds * 1000), _MILLIS
            container.mux(stream.encode(frame))
        if stream is None:
            raise ValueError("a clip needs a frame")
        container.mux(stream.encode(None))


class _Pipe:
    """A file that cannot be gone back in, as the network is: the header stays as it was first written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        return self._file.write(data)


def _write_y4m(path: Path, frames: Iterable[Rgb], fps: float) -> None:
    rate = Fraction(fps).limit_denominator(1001)
    with path.open("wb") as file:
        for number, rgb in enumerate(frames):
            height, width = rgb.shape[:2]
            if not number:
                head = f"YUV4MPEG2 W{width} H{height} F{rate.numerator}:{rate.denominator} Ip A1:1 C420jpeg\n"
                file.write(head.encode())
            file.write(b"FRAME\n")
            file.write(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420).tobytes())


def _write_mjpeg(path: Path, frames: Iterable[Rgb]) -> None:
    with path.open("wb") as file:
        for rgb in frames:
            _, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
            file.write(data.tobytes())
