"""Read videos: header, frames in order, packets of sound and subtitles. Runs inside the media child only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any, BinaryIO, Final, Literal

import av

from worker.media import hardware, tonemap
from worker.media.codec_time import called
from worker.media.conversion import FrameConverter
from worker.media.errors import MediaError
from worker.media.planes import Planes, PlanesPool
from worker.media.types import (
    MAX_CUE_BYTES,
    MAX_CUES,
    MAX_FRAME_RATE,
    MAX_STREAMS,
    MAX_TEXT_BYTES,
    MAX_TRACKS,
    MAX_VIDEO_SECONDS,
    MAX_VIDEO_SIDE,
    Hdr,
)
from worker.media.window import SAME_TIME

VIDEO_CODECS: Final = frozenset({"h264", "hevc", "vp8", "vp9", "av1", "mpeg4"})
TEXT_CODECS: Final = frozenset({"mov_text", "srt", "subrip", "text", "webvtt", "ass", "ssa"})
"""Subtitles that are words; those that are pictures are dropped."""
_OPENING_PACKETS: Final = 2000
"""How many packets may come before the first picture."""

# ISO/IEC 23091-2 code points as FFmpeg numbers them.
_PQ, _HLG, _BT2020 = 16, 18, 9


@dataclass(frozen=True)
class Stamp:
    """When a frame is shown. `pts` counts `VideoReader.time_base`; `seconds` counts from the first frame."""

    index: int
    pts: int
    seconds: float


class VideoReader:
    """One open video. `size` is (width, height) as seen: square pixels, upright, even.

    Raises MediaError from the constructor for whatever is wrong with the header or the first picture, and from the
    iterators for what is wrong later. `any_rate` takes a file without a believable frame rate, as browsers record them:
    the times of its frames are their own. `on_device` decodes on a video device where that works, else in software with
    the warning `hardware_decoder_missing`.

    `sounds` and `texts` are the tracks whose packets are given out: all sound and all subtitles that can be read here.
    """

    def __init__(
        self,
        file: BinaryIO,
        container: str,
        *,
        threads: int = 2,
        any_rate: bool = False,
        on_device: bool = False,
    ) -> None:
        self.warnings: list[str] = []
        try:
            self._container = hardware.open_video(file, container, on_device=on_device)
        except MemoryError:
            raise
        except (av.FFmpegError, OSError, ValueError) as error:
            raise MediaError("truncated", str(error)) from error
        self._any_rate = any_rate
        try:
            self._choose_streams(threads)
            if on_device and not self._codec.is_hwaccel:
                self.warnings.append("hardware_decoder_missing")
            self._count = 0
            self._last_pts: int | None = None
            self.start_pts: int = 0
            self._cues = self._cue_bytes = 0
            self._skips_pictures = False
            self._items = self._read()
            self._waiting: list[tuple[Literal["picture", "sound", "text"], Any]] = []
            self._first = self._find_first()
            self._describe(self._first)
            self._converter = FrameConverter(self._unturned, self.rotation, self.transfer, threads)
        except BaseException:
            self._container.close()
            raise

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def items(self) -> Iterator[tuple[Literal["picture", "sound", "text"], Any]]:
        """Yield ("picture", (stamp, decoded frame)), ("sound", packet) and ("text", packet), in file order, once.

        A decoded frame goes into `fill`. Raises MediaError `truncated` where the video is damaged or ends before
        its own index says, `too_long` and `subtitles_too_large` past the limits.
        """
        waiting, self._waiting = self._waiting, []
        for kind, item in chain(waiting, self._items):
            if kind == "picture":
                yield "picture", (self._stamp(item), item)
            else:
                yield kind, item
        if not self._skips_pictures:
            self._check_end()

    def skip_pictures(self) -> None:
        """From now on give out packets of sound and text only: the pictures that are left are not even decoded."""
        self._skips_pictures = True

    def pictures(self) -> Iterator[tuple[Stamp, Any]]:
        """Yield the pictures of `items` alone."""
        for kind, item in self.items():
            if kind == "picture":
                yield item

    def track_packets(self) -> Iterator[Any]:
        """Yield the packets of sound and text alone, from the first on; no picture is decoded, and none is left after.

        Raises as `items`.
        """
        waiting = [item for kind, item in self._waiting if kind != "picture"]
        self._waiting = []
        yield from waiting
        texts = {stream.index for stream in self.texts}
        if not self.sounds and not texts:
            return
        try:
            for packet in self._container.demux([*self.sounds, *self.texts]):
                if packet.dts is None or not packet.size:
                    continue
                if packet.stream.index in texts:
                    self._count_text(packet.size)
                yield packet
        except MemoryError:
            raise
        except (av.FFmpegError, OSError) as error:
            raise MediaError("truncated", str(error)) from error

    def seek(self, seconds: float, *, sparing: bool = False) -> None:
        """Let `pictures` go on from the last keyframe at or before `seconds`; indices of stamps go on counting.

        `sparing`: frames no other frame is predicted from are left out, which halves the work with common encoders.
        """
        self._to(seconds)
        self._codec.skip_frame = "NONREF" if sparing else "DEFAULT"
        self._items = self._read()

    def keyframes(self, gap: float) -> Iterator[tuple[Stamp, Any]]:
        """Yield keyframes from the first on, each at least `gap` seconds after the one before.

        Nothing else is decoded. Afterwards, and between two of them, `seek` before asking for pictures.
        """
        self._to(0.0)
        self._codec.skip_frame = "DEFAULT"
        due = -math.inf
        try:
            for packet in self._container.demux([self.stream]):
                if not packet.is_keyframe or not packet.size:
                    continue
                if packet.pts is not None and float((packet.pts - self.start_pts) * self.time_base) < due - SAME_TIME:
                    continue
                # A decoder that is drained gives its picture at once and needs no later packet for it.
                for frame in [*packet.decode(), *self._codec.decode(None)][:1]:
                    stamp = self._stamp(frame)
                    due = stamp.seconds + gap
                    yield stamp, frame
                self._codec.flush_buffers()
        except MemoryError:
            raise
        except (av.FFmpegError, OSError) as error:
            raise MediaError("truncated", str(error)) from error

    def fill(self, frame: Any, planes: Planes) -> None:
        """Convert a decoded frame into `planes`: upright, square pixels, BT.709, limited range.

        Planes of another size than `self.size` get the frame scaled to them.
        """
        self._converter.fill(frame, planes)

    def to_read(self, frame: Any, pool: PlanesPool, raise_if_stopped: Callable[[], None]) -> Planes:
        """The frame as `fill` gives it, to be read only and given back to `pool`.

        What needs no conversion is read where the decoder put it: it makes one frame more for each that is held.
        """
        planes = self._converter.lend(frame)
        if planes is None:
            planes = pool.take(raise_if_stopped)
            self.fill(frame, planes)
        return planes

    def chapters(self) -> list[dict[str, Any]]:
        """The chapters as the container tells them: "start" and "end" in "time_base", "metadata"."""
        return [dict(one) for one in self._container.chapters()]

    def last_byte(self) -> int:
        """Return where the last sample of the file's own index ends, in bytes; 0 when the file has no index."""
        entries = self.stream.index_entries
        last = 0
        for number in range(max(0, len(entries) - 50), len(entries)):
            last = max(last, int(entries[number].pos) + int(entries[number].size))
        return last

    # -- opening -------------------------------------------------------------------------------------------------

    def _choose_streams(self, threads: int) -> None:
        streams = self._container.streams
        if len(streams) > MAX_TRACKS:
            raise MediaError("too_many_streams", f"{len(streams)} tracks")
        pictures = [stream for stream in streams.video if not _is_cover(stream)]
        if not pictures:
            raise MediaError("no_video_stream")
        counted = len(pictures) + len(streams.audio) + len(streams.subtitles)
        if len(pictures) > 1 or counted > MAX_STREAMS:
            raise MediaError("too_many_streams", f"{len(pictures)} picture tracks, {counted} in all")
        self.stream = pictures[0]
        codec = self.stream.codec_context
        if codec is None or codec.name.removeprefix("lib").replace("dav1d", "av1") not in VIDEO_CODECS:
            raise MediaError("format_unsupported", f"codec {codec.name if codec else 'unknown'}")
        self.codec: str = codec.name
        if max(codec.width, codec.height) > MAX_VIDEO_SIDE:
            raise MediaError("too_many_pixels", f"{codec.width}x{codec.height}")
        self.time_base: Fraction = self.stream.time_base or Fraction(1, 90000)
        self.sounds = tuple(stream for stream in streams.audio if stream.codec_context is not None)
        self.texts = tuple(stream for stream in streams.subtitles if _is_text(stream))
        if len(self.sounds) < len(streams.audio):
            self.warnings.append("sound_tracks_dropped")
        if len(self.texts) < len(streams.subtitles):
            self.warnings.append("subtitles_dropped")
        self.frames: int | None = self.stream.frames or None
        self.duration = self._duration()
        if self.stream.duration == 0 and (self.frames or 0) > 1:
            raise MediaError("zero_length", f"{self.frames} frames in no time")
        if self.duration is not None and self.duration > MAX_VIDEO_SECONDS:
            raise MediaError("too_long", f"{self.duration:.0f} s")
        rate = self.stream.average_rate or self.stream.guessed_rate
        self.rate = rate
        self.fps: float = float(rate) if rate else math.nan
        if self._any_rate and not 0 < self.fps <= MAX_FRAME_RATE:
            self.rate, self.fps = None, math.nan
        elif not 0 < self.fps <= MAX_FRAME_RATE:
            # A header of one frame, or of none, has no rate; that is told apart once a picture was looked for.
            if self.frames is not None and self.frames > 1:
                raise MediaError("frame_rate_absurd", f"{self.fps} frames per second")
            if self.fps > MAX_FRAME_RATE:
                raise MediaError("frame_rate_absurd", f"{self.fps} frames per second")
        codec.thread_count = threads
        codec.thread_type = "AUTO"
        self._codec = codec

    def _duration(self) -> float | None:
        if self.stream.duration:
            return float(self.stream.duration * self.time_base)
        if self._container.duration:
            return float(self._container.duration / 1_000_000)
        return None

    def _find_first(self) -> Any:
        for kind, item in self._items:
            self._waiting.append((kind, item))
            if kind == "picture":
                return item
            if len(self._waiting) > _OPENING_PACKETS:
                break
        if self.duration is not None and self.duration <= 0:
            raise MediaError("zero_length")
        raise MediaError("no_frames")

    def _describe(self, frame: Any) -> None:
        if math.isnan(self.fps):
            if not self._any_rate and self.frames is None and self.duration is not None and self.duration > 1:
                raise MediaError("frame_rate_absurd", "no frame rate")
            self.fps, self.rate = 25.0, Fraction(25)  # a single picture, or one whose rate nobody needs
        if max(frame.width, frame.height) > MAX_VIDEO_SIDE:
            raise MediaError("too_many_pixels", f"{frame.width}x{frame.height}")
        self.rotation = _clockwise(frame.rotation)
        aspect = self.stream.sample_aspect_ratio or Fraction(1)
        width = round(frame.width * aspect) if Fraction(1, 4) <= aspect <= 4 else frame.width
        self._unturned: tuple[int, int] = (max(2, min(width, MAX_VIDEO_SIDE) // 2 * 2), max(2, frame.height // 2 * 2))
        self.size = self._unturned if self.rotation in (0, 180) else self._unturned[::-1]
        curve = int(frame.color_trc)
        self.hdr: Hdr | None = "pq" if curve == _PQ else "hlg" if curve == _HLG else None
        self.transfer: tonemap.Transfer | None = self.hdr
        if self.transfer is None and int(frame.color_primaries) == _BT2020:
            self.transfer = "sdr2020"
        if self.hdr:
            self.warnings.append("tone_mapped")
        if frame.interlaced_frame:
            self.warnings.append("interlaced")
        self.start_pts = frame.pts or 0

    # -- reading -------------------------------------------------------------------------------------------------

    def _to(self, seconds: float) -> None:
        self._waiting = []
        self._last_pts = None
        self._cues = self._cue_bytes = 0  # what is read again is not more
        pts = self.start_pts + math.floor(max(0.0, seconds) / self.time_base)
        try:
            self._container.seek(pts, stream=self.stream, backward=True)
        except (av.FFmpegError, OSError) as error:
            raise MediaError("truncated", str(error)) from error

    def _read(self) -> Iterator[tuple[Literal["picture", "sound", "text"], Any]]:
        texts = {stream.index for stream in self.texts}
        try:
            for packet in self._container.demux([self.stream, *self.sounds, *self.texts]):
                if packet.stream.index == self.stream.index:
                    if self._skips_pictures:
                        continue
                    with called():
                        frames = packet.decode()
                    for frame in frames:
                        yield "picture", frame
                elif packet.dts is None or not packet.size:
                    continue
                elif packet.stream.index in texts:
                    self._count_text(packet.size)
                    yield "text", packet
                else:
                    yield "sound", packet
        except MemoryError:
            raise
        except (av.FFmpegError, OSError) as error:
            raise MediaError("truncated", str(error)) from error

    def _count_text(self, size: int) -> None:
        """Bound size and number: each subtitle costs decoder, muxer and every player some work."""
        self._cues += 1
        self._cue_bytes += size
        if size > MAX_CUE_BYTES or self._cues > MAX_CUES or self._cue_bytes > MAX_TEXT_BYTES:
            raise MediaError("subtitles_too_large", f"{self._cues} with {self._cue_bytes} bytes, the last {size}")

    def _stamp(self, frame: Any) -> Stamp:
        pts = frame.pts
        if pts is None:
            step = 1 / (self.fps * float(self.time_base))
            pts = self.start_pts if self._last_pts is None else self._last_pts + max(1, round(step))
        if self._last_pts is not None and pts <= self._last_pts:
            pts = self._last_pts + 1  # an encoder refuses time that stands still or runs backwards
        self._last_pts = pts
        stamp = Stamp(self._count, pts, float((pts - self.start_pts) * self.time_base))
        self._count += 1
        if stamp.seconds > MAX_VIDEO_SECONDS + 1 or self._count > MAX_VIDEO_SECONDS * MAX_FRAME_RATE:
            raise MediaError("too_long", f"frame {self._count} at {stamp.seconds:.0f} s")
        return stamp

    def _check_end(self) -> None:
        if self._count == 0 or self._last_pts is None:
            raise MediaError("no_frames")
        end = float((self._last_pts - self.start_pts) * self.time_base)
        short_count = self.frames is None or self._count < 0.9 * self.frames - 2
        short_time = self.duration is not None and end < 0.9 * self.duration - 1
        if short_count and short_time:
            raise MediaError("truncated", f"{self._count} of {self.frames} frames, {end:.1f} of {self.duration:.1f} s")


def _is_text(stream: Any) -> bool:
    return stream.codec_context is not None and stream.codec_context.name in TEXT_CODECS


def _is_cover(stream: Any) -> bool:
    return bool(int(stream.disposition) & 0x400)  # AV_DISPOSITION_ATTACHED_PIC


def _clockwise(rotation: int) -> int:
    # FFmpeg's angle of a display matrix is counter-clockwise.
    return (-round(rotation / 90) * 90) % 360
