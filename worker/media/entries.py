"""What a media child can be asked about one file: its facts, its picture, some of its frames."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

import av

from worker.media import image
from worker.media.child import Channel
from worker.media.codec_time import called
from worker.media.errors import MediaError
from worker.media.planes import Planes
from worker.media.seeking import Seeker
from worker.media.video import Stamp, VideoReader
from worker.media.window import SAME_TIME

_PROBED_SOUND_PACKETS: Final = 64


def probe_photo(payload: Mapping[str, Any], channel: Channel) -> dict[str, Any]:
    """Decode the photo in the first descriptor wholly, and return its facts without its pixels."""
    return dict(image.read_entry({**payload, "pixels": False}, channel).value)


def probe_video(payload: Mapping[str, Any], channel: Channel) -> dict[str, Any]:
    """Read header, index, the first pictures and the first sound of the video in the first descriptor."""
    size = os.fstat(channel.fds[0]).st_size
    with os.fdopen(channel.fds[0], "rb", closefd=False) as file, VideoReader(file, payload["container"]) as reader:
        if reader.last_byte() > size:
            raise MediaError("truncated", f"the index ends at {reader.last_byte()}, the file at {size}")
        pictures = sounds = 0
        for kind, item in reader.items():
            if kind == "sound":
                sounds += 1
                check_sound(item)
            elif kind == "picture":
                pictures += 1
            enough_sound = not reader.sounds or sounds >= _PROBED_SOUND_PACKETS
            if (pictures >= 2 and enough_sound) or pictures >= 250:
                break
        width, height = reader.size
        return {
            "width": width,
            "height": height,
            "duration": reader.duration,
            "fps": reader.fps,
            "frames": reader.frames,
            "has_audio": bool(reader.sounds),
            "rotation": reader.rotation,
            "hdr": reader.hdr,
            "codec": reader.codec,
            "warnings": reader.warnings,
        }


def check_sound(packet: Any) -> None:
    """Decode one packet of sound and forget it. Raises MediaError `audio_unreadable`."""
    try:
        with called():
            packet.decode()
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError) as error:
        raise MediaError("audio_unreadable", str(error)) from error


def sample_frames(payload: Mapping[str, Any], channel: Channel) -> dict[str, Any]:
    """Send the frames the payload asks for, one message each, waiting for credit between them.

    Payload: "container" and one of "times" (seconds, ascending), "every" (seconds) or "count"; "consecutive" frames
    are sent from each chosen time on, beginning with the first frame at or after it.
    """
    sent = 0
    consecutive = int(payload.get("consecutive", 1))
    # Who names times gets one answer for each, so that answers can be told apart by their order.
    each = payload.get("times") is not None and consecutive == 1
    with os.fdopen(channel.fds[0], "rb", closefd=False) as file, VideoReader(file, payload["container"]) as reader:
        planes = Planes(reader.size)

        def send(stamp: Stamp, frame: Any) -> None:
            nonlocal sent
            reader.fill(frame, planes)
            channel.wait_for_credit()
            channel.send({"index": stamp.index, "seconds": stamp.seconds}, [planes.to_rgb()])
            sent += 1

        times = _wanted(payload, reader)
        due = next(times, None)
        left = 0
        last: tuple[Stamp, Any] | None = None
        for stamp, frame in reader.pictures():
            channel.raise_if_stopped()
            reached = 0
            while due is not None and stamp.seconds >= due - SAME_TIME:
                reached += 1
                due = next(times, None)
            if reached:
                left = reached if each else consecutive
            while left:
                send(stamp, frame)
                left -= 1
                if not each:
                    break
            last = (stamp, frame)
            if due is None and not left:
                break
        if each and last is not None:
            # Times past the end mean the last frame.
            for _ in range(0 if due is None else 1 + sum(1 for _ in times)):
                send(*last)
    return {"sent": sent}


def serve_frames(payload: Mapping[str, Any], channel: Channel) -> dict[str, Any]:
    """Send frames as they are ordered, until the caller goes away.

    Payload: "container", "short_side" in pixels, and "any_rate" as in `VideoReader`. The first message says "duration"
    (seconds, 0 if unknown) and "shrink"; an order is what `Seeker.answer` takes, with a "number" that stands on each
    frame and on the "end" of the answer. A new order ends the answer to the one before.
    """
    with (
        os.fdopen(channel.fds[0], "rb", closefd=False) as file,
        VideoReader(file, payload["container"], any_rate=bool(payload.get("any_rate"))) as reader,
    ):
        seeker = Seeker(reader, int(payload["short_side"]))
        channel.send({"duration": reader.duration or 0.0, "shrink": seeker.shrink})
        while True:
            order = channel.next_order()
            number = order["number"]
            for seconds, rgb in seeker.answer(order):
                if not channel.wait_for_credit(unless_ordered=True):
                    break
                channel.send({"number": number, "seconds": max(0.0, seconds)}, [rgb])
            else:
                channel.send({"number": number, "end": True})


def _wanted(payload: Mapping[str, Any], reader: VideoReader) -> Iterator[float]:
    if payload.get("times") is not None:
        return iter(sorted(float(time) for time in payload["times"]))
    if payload.get("every") is not None:
        step = max(float(payload["every"]), 1e-3)
        return (number * step for number in range(1_000_000))
    count = max(1, int(payload["count"]))
    length = reader.duration or 0.0
    # The middles of `count` equal parts: never the black first frame, never one past the end.
    return iter([length * (number + 0.5) / count for number in range(count)])
