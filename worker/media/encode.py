"""Write the result: pictures, sound, subtitles and chapters in MP4 or MOV, index first.

Runs inside the media child only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from worker.media.codec_time import called
from worker.media.encoders import (
    BT709,
    HEVC_TAG,
    LIMITED,
    Container,
    EncoderChoice,
    encoder_for,
    give_up_real_time,
    set_colours,
)
from worker.media.errors import MediaError
from worker.media.planes import Planes
from worker.media.tracks import Kept, Tracks

__all__ = ["EncoderChoice", "VideoWriter"]


class VideoWriter:
    """Encode frames of one `size` (width, height) into `path`; the file appears on `finish`, whole, or not at all.

    Presentation times are given per frame in `time_base`, so a variable rate stays variable. `kept` are the other
    tracks, whose packets come by `write_track`. `metadata` are keys of the whole file. `warnings` says what was done
    otherwise than wished. Raises OSError (ENOSPC when the disk is full) and MediaError `encoder_unfit`,
    `encoder_missing`, `device_missing`, `audio_unreadable`.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: tuple[int, int],
        time_base: Fraction,
        rate: Fraction,
        container: Container = "mp4",
        choice: EncoderChoice | None = None,
        kept: Kept | None = None,
        threads: int = 2,
        metadata: Mapping[str, str] | None = None,
        template: Any = None,
    ) -> None:
        """`template`: an encoded picture stream whose packets come by `write_packet`; nothing is encoded then."""
        self._path = path
        self._half = path.with_name(f".{path.name}.part")
        self._closed = False
        rate = rate.limit_denominator(1_000_000)
        choice = choice or EncoderChoice()
        encoder = encoder_for(choice, container, threads)
        # Keys of our own are kept by the "mdta" handler only, not by iTunes' list of known ones.
        flags = "+faststart+use_metadata_tags" if metadata else "+faststart"
        self._container = av.open(str(self._half), "w", format=container, options={"movflags": flags})
        self._container.metadata.update(metadata or {})
        self._encodes = template is None
        try:
            if template is not None:
                # Opaque: a codec that is decoded by another library than encodes it (AV1) is found under one name only.
                self._stream = self._container.add_stream_from_template(template, opaque=True)
                self._stream.time_base = time_base
                if template.codec_context.codec_tag == HEVC_TAG:
                    self._stream.codec_context.codec_tag = HEVC_TAG  # a template loses it, and Apple's players need it
                self._tracks = Tracks(self._container, container, kept or Kept())
                return
            stream: Any = self._container.add_stream(encoder.name, rate=rate, options=dict(encoder.options))
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
            codec = stream.codec_context
            codec.time_base = stream.time_base = time_base
            set_colours(codec)
            codec.thread_count = threads
            if encoder.tag:
                codec.codec_tag = encoder.tag
            self._stream = stream
            self._time_base = time_base
            self._tracks = Tracks(self._container, container, kept or Kept())
            _open(codec, choice)
        except BaseException:
            self.abort()
            raise

    @property
    def warnings(self) -> list[str]:
        """Stable codes of what was done otherwise than wished, so far."""
        return list(self._tracks.warnings)

    def write_packet(self, packet: Any) -> None:
        """Copy one encoded packet, its times set, into a writer with a `template`; packets come in decoding order."""
        packet.stream = self._stream
        self._container.mux(packet)

    def write(self, planes: Planes, *pts: int) -> None:
        """Encode one frame, to be shown at each of `pts`. `planes` may be changed as soon as this returns."""
        for time in pts:
            frame = av.VideoFrame.from_numpy_buffer(planes.buffer, "yuv420p")
            frame.pts = time
            frame.time_base = self._time_base
            frame.color_range = LIMITED
            frame.colorspace = BT709
            with called():
                packets = self._stream.encode(frame)
            for packet in packets:
                self._container.mux(packet)

    def write_track(self, packet: Any) -> None:
        """Copy or convert one packet of a track in `kept`; others are passed over."""
        self._tracks.write(packet)

    def finish(self) -> None:
        """Flush, write the index, and let the file appear."""
        try:
            if self._encodes:
                with called():
                    packets = self._stream.encode(None)
                for packet in packets:
                    self._container.mux(packet)
            self._tracks.flush()
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


def _open(codec: Any, choice: EncoderChoice) -> None:
    try:
        codec.open()
    except (av.FFmpegError, ValueError, RuntimeError) as error:
        if not choice.device:
            raise
        raise MediaError("device_missing", str(error)) from error
    finally:
        give_up_real_time()
