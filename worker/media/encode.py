"""Write the result: H.264 and AAC in MP4 or MOV, index first. Runs inside the media child only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal

import av

from worker.media.errors import MediaError
from worker.media.planes import Planes

_BT709: Final = 1
_LIMITED: Final = 1
_AAC_RATES: Final = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)


class VideoWriter:
    """Encode frames of one `size` (width, height) into `path`; the file appears on `finish`, whole, or not at all.

    Presentation times are given per frame in `time_base`, so a variable rate stays variable. AAC sound is copied
    packet by packet, other sound is re-encoded as AAC. `metadata` are keys of the whole file. Raises OSError
    (ENOSPC when the disk is full) and MediaError `audio_unreadable`.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: tuple[int, int],
        time_base: Fraction,
        rate: Fraction,
        container: Literal["mp4", "mov"] = "mp4",
        crf: int = 18,
        preset: str = "veryfast",
        sound: Any = None,
        threads: int = 2,
        metadata: Mapping[str, str] | None = None,
        template: Any = None,
    ) -> None:
        """`template`: an encoded picture stream whose packets come by `write_packet`; nothing is encoded then."""
        self._path = path
        self._half = path.with_name(f".{path.name}.part")
        self._closed = False
        # Keys of our own are kept by the "mdta" handler only, not by iTunes' list of known ones.
        flags = "+faststart+use_metadata_tags" if metadata else "+faststart"
        self._container = av.open(str(self._half), "w", format=container, options={"movflags": flags})
        self._container.metadata.update(metadata or {})
        self._encodes = template is None
        try:
            if template is not None:
                self._stream = self._container.add_stream_from_template(template)
                self._stream.time_base = time_base
                self._sound = _Sound(self._container, sound) if sound is not None else None
                return
            stream: Any = self._container.add_stream(
                "libx264",
                rate=rate.limit_denominator(1_000_000),
                options={"crf": str(crf), "preset": preset, "forced-idr": "1"},
            )
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
            codec = stream.codec_context
            codec.time_base = stream.time_base = time_base
            codec.color_primaries = codec.color_trc = codec.colorspace = _BT709
            codec.color_range = _LIMITED
            codec.thread_count = threads
            self._stream = stream
            self._time_base = time_base
            self._sound = _Sound(self._container, sound) if sound is not None else None
        except BaseException:
            self.abort()
            raise

    def write(self, planes: Planes, pts: int) -> None:
        """Encode one frame to be shown at `pts`. `planes` may be changed as soon as this returns."""
        frame = av.VideoFrame.from_numpy_buffer(planes.buffer, "yuv420p")
        frame.pts = pts
        frame.time_base = self._time_base
        frame.color_range = _LIMITED
        frame.colorspace = _BT709
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def write_packet(self, packet: Any) -> None:
        """Copy one encoded packet, its times set, into a writer with a `template`; packets come in decoding order."""
        packet.stream = self._stream
        self._container.mux(packet)

    def write_sound(self, packet: Any) -> None:
        """Copy or re-encode one packet of the sound stream given at the start."""
        if self._sound is not None:
            self._sound.write(packet)

    def finish(self) -> None:
        """Flush, write the index, and let the file appear."""
        try:
            if self._encodes:
                for packet in self._stream.encode(None):
                    self._container.mux(packet)
            if self._sound is not None:
                self._sound.flush()
            self._container.close()
            self._closed = True
            with self._half.open("rb") as file:
                os.fsync(file.fileno())
            self._half.replace(self._path)
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Give up and leave nothing behind. May be called twice."""
        if not self._closed:
            self._closed = True
            with suppress(av.FFmpegError, OSError, ValueError):  # a file that is thrown away need not be whole
                self._container.close()
        self._half.unlink(missing_ok=True)


class _Sound:
    def __init__(self, container: Any, source: Any) -> None:
        self._container = container
        self._source = source
        self.copied = source.codec_context.name in ("aac", "aac_latm") and bool(source.codec_context.extradata)
        if self.copied:
            self._stream = container.add_stream_from_template(source)
            return
        rate = source.codec_context.sample_rate
        self._stream = container.add_stream("aac", rate=rate if rate in _AAC_RATES else 48000)
        self._stream.layout = "stereo" if source.codec_context.channels >= 2 else "mono"
        self._resampler = av.AudioResampler(
            format="fltp", layout=self._stream.layout, rate=self._stream.rate, frame_size=1024
        )

    def write(self, packet: Any) -> None:
        if self.copied:
            packet.stream = self._stream
            self._container.mux(packet)
            return
        try:
            frames = packet.decode()
        except (av.FFmpegError, ValueError) as error:
            raise MediaError("audio_unreadable", str(error)) from error
        for frame in frames:
            self._encode(frame)

    def flush(self) -> None:
        if self.copied:
            return
        for frame in self._source.codec_context.decode(None):
            self._encode(frame)
        self._encode(None)
        for packet in self._stream.encode(None):
            self._container.mux(packet)

    def _encode(self, frame: Any) -> None:
        for ready in self._resampler.resample(frame):
            for packet in self._stream.encode(ready):
                self._container.mux(packet)
