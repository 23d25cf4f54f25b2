"""Which encoder writes a video, and how one scale of quality and three speeds become its own options.

Quality is told on x264's scale whatever the encoder, so that "18" means about the same picture everywhere. The numbers
of x265 and SVT-AV1 are those at which the luma of two portraits, each clean and with grain (standard deviation 4), has
the same PSNR as x264's (24 frames of 960x540 at 25 a second, each encoder's "fast", mean of the four clips):

| x264 | x265, clean / grain | SVT-AV1, clean / grain |
| --- | --- | --- |
| 14: 46.8 / 41.6 dB, 2.0 / 19.1 Mbit/s | 17 / 14 | 7 / 7 |
| 18: 44.2 / 38.6 dB, 1.0 / 10.2 Mbit/s | 22 / 18 (at 20: 0.7 / 3.9 Mbit/s) | 26 / 10 (at 18: 1.0 / 2.2 Mbit/s) |
| 22: 41.5 / 36.2 dB, 0.6 / 2.1 Mbit/s | 27 / 26 | 48 / 45 (by SSIM 43 / 19) |
| 26: 38.9 / 35.0 dB, 0.3 / 0.4 Mbit/s | 32 / 31 | 59 / 60 |

Grain separates them because the newer codecs smooth it away first. Between these points the scale is a straight line,
and the other speeds were taken to be alike. The numbers of NVENC follow its documentation and were not measured.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, Final, Literal, get_args

import av
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.codec.context import Flags

from worker.media.errors import MediaError

VideoCodec = Literal["h264", "hevc", "av1"]
Preset = Literal["fast", "balanced", "slow"]
Container = Literal["mp4", "mov"]

CONTAINERS: Final[Mapping[VideoCodec, tuple[Container, ...]]] = {
    "h264": ("mp4", "mov"),
    "hevc": ("mp4", "mov"),
    "av1": ("mp4",),  # QuickTime has no sample entry for it
}
BT709: Final = 1
LIMITED: Final = 1
HEVC_TAG: Final = "hvc1"
_MOST_AV1_LEVEL: Final = 6


@dataclass(frozen=True)
class EncoderChoice:
    """What the caller wants. `crf` 0 to 51 is on x264's scale; `device`: NVENC writes it, and nothing else does.

    Nothing falls back: parts of one video that two encoders wrote could not be joined. Who wants a device where there
    is one asks `header_of` first, once for the whole video.
    """

    codec: VideoCodec = "h264"
    crf: int = 18
    preset: Preset = "fast"
    device: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("codec", VideoCodec), ("preset", Preset)):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name} must be one of {', '.join(get_args(allowed))}.")
        if not 0 <= self.crf <= 51:
            raise ValueError("crf must be between 0 and 51.")


@dataclass(frozen=True)
class Encoder:
    """One encoder of FFmpeg by its `name`, its options for a choice, and the sample entry's tag if it needs one."""

    name: str
    options: Mapping[str, str]
    tag: str = ""


# (x264's CRF, this encoder's number), between which it is a straight line.
_QUALITY: Final[Mapping[str, tuple[tuple[int, int], ...]]] = {
    "libx265": ((0, 0), (10, 10), (14, 15), (18, 20), (22, 26), (26, 31), (35, 41), (51, 51)),
    "libsvtav1": ((0, 1), (10, 4), (14, 7), (18, 18), (22, 38), (26, 55), (35, 61), (51, 63)),
    "h264_nvenc": ((0, 1), (18, 20), (35, 37), (51, 51)),
    "hevc_nvenc": ((0, 1), (10, 11), (18, 22), (26, 32), (35, 42), (51, 51)),
    "av1_nvenc": ((0, 1), (10, 12), (18, 25), (26, 40), (35, 52), (51, 63)),
}
_PRESETS: Final[Mapping[str, tuple[str, str, str]]] = {  # fast, balanced, slow
    "libx264": ("veryfast", "medium", "slow"),
    "libx265": ("veryfast", "medium", "slow"),
    "libsvtav1": ("10", "8", "5"),
    "h264_nvenc": ("p2", "p4", "p6"),
    "hevc_nvenc": ("p2", "p4", "p6"),
    "av1_nvenc": ("p2", "p4", "p6"),
}
_SOFTWARE: Final[Mapping[VideoCodec, str]] = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1"}


def encoder_for(choice: EncoderChoice, container: Container, threads: int) -> Encoder:
    """The encoder for a choice, whether or not its device is there.

    Raises MediaError `encoder_unfit` where the container cannot hold its codec, `encoder_missing` where this build of
    FFmpeg lacks it.
    """
    if container not in CONTAINERS[choice.codec]:
        raise MediaError("encoder_unfit", f"{choice.codec} in {container}")
    name = f"{choice.codec}_nvenc" if choice.device else _SOFTWARE[choice.codec]
    if not present(name):
        raise MediaError("encoder_missing", name)
    return _encoder(name, choice, threads)


def header_of(encoder: Encoder, *, size: tuple[int, int], rate: Fraction) -> bytes | None:
    """Open an encoder for frames of `size` (width, height) and return its parameter sets; None if it does not open.

    Only parts with the same parameter sets can be joined: another kind of device may write others.
    """
    try:
        codec: Any = av.CodecContext.create(encoder.name, "w")
        codec.width, codec.height = size
        codec.pix_fmt = "yuv420p"
        codec.time_base, codec.framerate = 1 / rate, rate
        codec.flags |= Flags.global_header
        set_colours(codec)
        codec.options = dict(encoder.options)
        codec.open()
        return bytes(codec.extradata or b"")
    except (av.FFmpegError, ValueError, RuntimeError, NotImplementedError):
        return None
    finally:
        give_up_real_time()


def set_colours(codec: Any) -> None:
    """Declare BT.709, limited range: what `Planes` hold."""
    codec.color_primaries = codec.color_trc = codec.colorspace = BT709
    codec.color_range = LIMITED


def present(name: str) -> bool:
    """Whether this build of FFmpeg has the encoder `name`; a device is not looked for."""
    try:
        Codec(name, "w")
    except UnknownCodecError:
        return False
    return True


def quality_of(name: str, crf: int) -> int:
    """The number of the encoder `name` that means about what `crf` means to x264."""
    for (low, first), (high, last) in pairwise(_QUALITY.get(name, ((0, 0), (51, 51)))):
        if crf <= high:
            return round(first + (last - first) * (crf - low) / (high - low))
    return crf


def give_up_real_time() -> None:
    """Put every thread of this process back to ordinary scheduling.

    SVT-AV1 takes real-time priority when root runs it, for its caller and all that it starts; a media child is refused
    that by its filter, other callers undo it here.
    """
    if not hasattr(os, "sched_getscheduler"):
        return
    for thread in os.listdir("/proc/self/task"):
        with suppress(OSError):  # a thread may have ended meanwhile
            if os.sched_getscheduler(int(thread)) != os.SCHED_OTHER:
                os.sched_setscheduler(int(thread), os.SCHED_OTHER, os.sched_param(0))


def _encoder(name: str, choice: EncoderChoice, threads: int) -> Encoder:
    quality = str(quality_of(name, choice.crf))
    options = {"preset": _PRESETS[name][get_args(Preset).index(choice.preset)]}
    if name.endswith("_nvenc"):
        options |= {"rc": "vbr", "cq": quality, "b": "0", "forced-idr": "1"}
    elif name == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # else it writes its settings to stderr
        # A level of parallelism, about the number of cores that its threads keep busy.
        options |= {"crf": quality, "svtav1-params": f"lp={max(1, min(threads, _MOST_AV1_LEVEL))}"}
    elif name == "libx265":
        # Without `info=0` the header names the processor it was made on, and parts of two kinds could not be joined.
        bound = f"log-level=error:info=0:pools={max(1, threads)}:frame-threads={max(1, min(threads, 4))}"
        options |= {"crf": quality, "forced-idr": "1", "x265-params": bound}
    else:
        options |= {"crf": quality, "forced-idr": "1"}
    # Apple's players take HEVC only with its parameter sets in the sample entry, which this tag says.
    return Encoder(name, options, HEVC_TAG if choice.codec == "hevc" else "")
