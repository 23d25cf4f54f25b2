"""Read a recorded clip of one face: landmarks of every analysed frame. Runs inside the media child."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.faces.detect import FaceDetector, overlap
from worker.faces.embed import Descriptor, chip
from worker.faces.landmarks import FACE_SCORE, FaceMesh, box_of
from worker.faces.track import CutDetector
from worker.faces.types import LANDMARK_COUNT, Detection, Floats, ModelRunner, Rgb
from worker.inference.client import EngineClient
from worker.media.child import Channel, Reply
from worker.media.planes import Planes
from worker.media.video import VideoReader

MOST_SECONDS: Final = 15.0
# At most 20 frames a second are looked at: of 30 every second one, of 25 as well, of 20 and fewer all.
STEP_SECONDS: Final = 0.049
_LONGEST_SIDE: Final = 1280
_CHIP_SECONDS: Final = 0.33
_MOST_CHIPS: Final = 48
_SMALL: Final = (128, 96)
# What counts as another face: surely seen, and this much of the first one's size.
_OTHER_SCORE: Final = 0.6
_OTHER_SHARE: Final = 0.35
_SAME: Final = 0.2


@dataclass
class _Series:
    seconds: list[float] = field(default_factory=list)
    landmarks: list[Floats] = field(default_factory=list)
    facts: list[tuple[float, float, float, float]] = field(default_factory=list)  # light, other, change, cut
    chips: list[Rgb] = field(default_factory=list)
    chip_frames: list[int] = field(default_factory=list)


def read_entry(payload: Mapping[str, Any], channel: Channel) -> Reply:
    """Read the clip in the first descriptor with the engine in the second.

    The reply's arrays: seconds float64 [N], landmarks float32 [N, 478, 3] (not finite where no face is), facts float32
    [N, 4] (light, size of the largest other face as a share of this one, change to the frame before, new shot),
    descriptors float32 [M, 128] and the frames they are of int32 [M]. "long" is true when the clip goes on after
    `MOST_SECONDS`.
    """
    cv2.setNumThreads(1)
    client = EngineClient.from_socket(socket.socket(fileno=channel.fds[1]))
    try:
        with (
            os.fdopen(channel.fds[0], "rb", closefd=False) as file,
            VideoReader(file, str(payload["container"]), threads=1, any_rate=True) as reader,
        ):
            series, long = _read(reader, client, channel)
            described = Descriptor(client).describe_chips(series.chips) if series.chips else np.zeros((0, 128))
            width, height = reader.size
    finally:
        client.close()
    count = len(series.seconds)
    return Reply(
        {"long": long, "width": width, "height": height},
        [
            np.array(series.seconds, np.float64),
            np.array(series.landmarks, np.float32).reshape(count, LANDMARK_COUNT, 3),
            np.array(series.facts, np.float32).reshape(count, 4),
            np.asarray(described, np.float32),
            np.array(series.chip_frames, np.int32),
        ],
    )


def _read(reader: VideoReader, runner: ModelRunner, channel: Channel) -> tuple[_Series, bool]:
    series, follower, scenes = _Series(), _Follower(runner), CutDetector()
    planes = Planes(reader.size)
    before: NDArray[np.float32] | None = None
    due, chip_due = 0.0, 0.0
    for stamp, frame in reader.pictures():
        channel.raise_if_stopped()
        if stamp.seconds > MOST_SECONDS:
            return series, True
        if stamp.seconds < due:
            continue
        due = stamp.seconds + STEP_SECONDS
        reader.fill(frame, planes)
        rgb = _reduced(planes.to_rgb())
        small = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), _SMALL, interpolation=cv2.INTER_AREA)
        now = small.astype(np.float32)
        change = 255.0 if before is None else float(np.abs(now - before).mean())
        before = now
        cut = scenes.push(rgb)
        landmarks, other = follower.push(rgb, afresh=cut)
        light = float(small.mean()) if landmarks is None else _light(rgb, landmarks)
        if landmarks is not None and stamp.seconds >= chip_due and len(series.chips) < _MOST_CHIPS:
            chip_due = stamp.seconds + _CHIP_SECONDS
            series.chips.append(chip(rgb, landmarks))
            series.chip_frames.append(len(series.seconds))
        series.seconds.append(stamp.seconds)
        series.landmarks.append(np.full((LANDMARK_COUNT, 3), np.nan, np.float32) if landmarks is None else landmarks)
        series.facts.append((light, other, change, float(cut)))
    return series, False


class _Follower:
    """The one face of a clip: found once, then followed by its own mesh; every frame is searched for another."""

    def __init__(self, runner: ModelRunner) -> None:
        self._detector, self._mesh = FaceDetector(runner), FaceMesh(runner)
        self._last: Floats | None = None

    def push(self, rgb: Rgb, *, afresh: bool) -> tuple[Floats | None, float]:
        """Landmarks float32 [478, 3] or None, and the largest other face's size as a share of this one's.

        `afresh` looks for the face anew: followed over a cut, the mesh would glide to its new place within some frames.
        """
        if afresh:
            self._last = None
        found = self._detector.detect(rgb, min_size=self._least(rgb))
        landmarks = self._locate(rgb, found)
        self._last = landmarks
        if landmarks is None:
            return None, 0.0
        box = box_of(landmarks)
        sizes = [
            float(one.box[2:].max())
            for one in found
            if one.score >= _OTHER_SCORE and overlap(one.box, box) < _SAME and not _within(one, box)
        ]
        return landmarks, max(sizes, default=0.0) / max(float(box[2:].max()), 1.0)

    def _least(self, rgb: Rgb) -> int:
        if self._last is None:
            return max(40, round(0.12 * min(rgb.shape[:2])))
        return max(32, round(_OTHER_SHARE * float(box_of(self._last)[2:].max())))

    def _locate(self, rgb: Rgb, found: list[Detection]) -> Floats | None:
        starts: list[Detection | Floats] = [] if self._last is None else [self._last]
        for start in [*starts, *found[:2]]:
            landmarks, score = self._mesh.locate(rgb, start)
            if score >= FACE_SCORE and np.isfinite(landmarks).all():
                return landmarks
        return None


def _within(found: Detection, box: Floats) -> bool:
    middle = found.box[:2] + found.box[2:] / 2
    return bool(((middle >= box[:2]) & (middle <= box[:2] + box[2:])).all())


def _reduced(rgb: Rgb) -> Rgb:
    height, width = rgb.shape[:2]
    scale = _LONGEST_SIDE / max(height, width)
    if scale >= 1:
        return rgb
    size = (round(width * scale), round(height * scale))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def _light(rgb: Rgb, landmarks: Floats) -> float:
    """The median luma of the face's box, 0..255."""
    x, y, width, height = box_of(landmarks)
    x0, y0 = max(0, int(x)), max(0, int(y))
    part = rgb[y0 : max(y0 + 1, int(y + height)) : 4, x0 : max(x0 + 1, int(x + width)) : 4]
    if part.size == 0:
        return 0.0
    return float(np.median(part.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)))
