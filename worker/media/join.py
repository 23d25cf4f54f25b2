"""Join encoded parts of one video without encoding again. Runs inside the media child only.

Each part is a closed group: it begins with a key frame and leans on no other. So their packets may follow one another,
with new times; sound, subtitles and chapters are carried over once, from the target. Decoding times are those of the
sorted presentation times, later by as many frames as the encoder reorders (ISO/IEC 14496-12, 8.6.1), so that they rise
across a border as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal

import av

from worker.media.encode import VideoWriter
from worker.media.errors import MediaError
from worker.media.timing import Timeline
from worker.media.tracks import Kept
from worker.media.video import VideoReader

_CONTAINER: Final = "mp4"


@dataclass(frozen=True)
class PartFile:
    """One part: its times count from 0, `first_pts` is where that lies in the result's time base."""

    path: Path
    first_pts: int
    frames: int


def join_parts(
    parts: Sequence[PartFile],
    out: Path,
    reader: VideoReader,
    timeline: Timeline,
    *,
    container: Literal["mp4", "mov"],
    metadata: Mapping[str, str] | None,
    done: Callable[[int], None],
) -> list[str]:
    """Write `out` from `parts`, in order, with the other tracks of `reader`; `done` is told the frames so far.

    Returns stable codes of what was done otherwise than wished.
    The file appears whole or not at all. Raises MediaError `part_broken` where a part is not what it is said to be,
    else as `VideoWriter`.
    """
    base = timeline.time_base
    kept = Kept.of(reader, timeline)
    times = [_times(part, base) for part in parts]
    shown = [time for one in times for time in sorted(one)]
    if any(later <= earlier for earlier, later in pairwise(shown)):
        raise MediaError("part_broken", "the parts overlap")
    delay = max(_delay(one) for one in times)
    step = max(1, shown[1] - shown[0]) if len(shown) > 1 else max(1, round(1 / (timeline.rate * base)))
    with _opened(parts[0]) as first:
        writer = VideoWriter(
            out,
            size=reader.size,
            time_base=base,
            rate=timeline.rate,
            container=container,
            kept=kept,
            metadata=metadata,
            template=first.streams.video[0],
        )
        extradata = bytes(first.streams.video[0].codec_context.extradata or b"")
    try:
        others = _Ahead(reader.track_packets())
        count = 0
        for part in parts:
            for packet in _packets(part, base, extradata):
                packet.dts = shown[count - delay] if count >= delay else shown[0] - (delay - count) * step
                later = min(count + 1, len(shown) - 1)
                packet.duration = shown[later] - shown[later - 1] if later else step
                for other in others.until(packet.dts * base + kept.shift):
                    writer.write_track(other)
                writer.write_packet(packet)
                count += 1
            done(count)
        for other in others.until(None):
            writer.write_track(other)
        writer.finish()
        return writer.warnings
    finally:
        writer.abort()


class _Ahead:
    """Packets of other tracks, given out as their time comes."""

    def __init__(self, packets: Iterator[Any]) -> None:
        self._packets = packets
        self._ahead = next(packets, None)

    def until(self, seconds: Fraction | None) -> Iterator[Any]:
        """Those that come before `seconds`; None: all that are left."""
        while self._ahead is not None:
            packet = self._ahead
            if seconds is not None and packet.dts * packet.time_base > seconds:
                return
            self._ahead = next(self._packets, None)
            yield packet


def _opened(part: PartFile) -> Any:
    try:
        # With no decoder allowed none is tried: opening would decode the first frames, to know what the index says too,
        # which takes longer than copying all packets.
        container = av.open(str(part.path), "r", format=_CONTAINER, options={"codec_whitelist": "none"})
    except (av.FFmpegError, ValueError) as error:
        raise MediaError("part_broken", str(error)) from error
    if len(container.streams.video) != 1:
        container.close()
        raise MediaError("part_broken", "no picture track")
    return container


def _times(part: PartFile, base: Fraction) -> list[int]:
    """Presentation times of a part's packets in decoding order, in the result's time base."""
    times: list[int] = []
    with _opened(part) as source:
        for packet in source.demux(video=0):
            if packet.size:
                if not times and not packet.is_keyframe:
                    raise MediaError("part_broken", "it begins without a key frame")
                times.append(_time(part, packet, base))
    if len(times) != part.frames or min(times) != part.first_pts or len(set(times)) != len(times):
        raise MediaError("part_broken", f"{len(times)} frames, {part.frames} expected")
    return times


def _packets(part: PartFile, base: Fraction, extradata: bytes) -> Iterator[Any]:
    with _opened(part) as source:
        if bytes(source.streams.video[0].codec_context.extradata or b"") != extradata:
            raise MediaError("part_broken", "it was encoded otherwise than the first")
        for packet in source.demux(video=0):
            if packet.size:
                time = _time(part, packet, base)
                packet.time_base = base
                packet.pts = time
                yield packet


def _time(part: PartFile, packet: Any, base: Fraction) -> int:
    if packet.pts is None:
        raise MediaError("part_broken", "a packet without a time")
    time = packet.pts * packet.time_base / base
    if time.denominator != 1:
        raise MediaError("part_broken", "a time that does not fit")
    return part.first_pts + int(time)


def _delay(times: Sequence[int]) -> int:
    """How many frames decoding runs ahead: the least by which sorted times may be moved and never pass their own."""
    rank = {time: place for place, time in enumerate(sorted(times))}
    return max(place - rank[time] for place, time in enumerate(times))
