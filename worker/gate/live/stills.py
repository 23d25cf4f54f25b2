"""A few small pictures of a clip, for the person who has to decide what the check could not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.media import client

LONGEST_SIDE = 480  # pixels


def stills(path: Path, times: Sequence[float]) -> list[bytes]:
    """Small JPEGs of the clip at these seconds, in order. Raises MediaError.

    Frame by frame from an open file: what browsers record often states no believable frame rate.
    """
    found = []
    with client.open_frames(path, any_rate=True) as frames:
        for seconds in sorted(times):
            found += [_small(frame) for _, frame in frames.frames(seconds, 1)]
    return found


def _small(frame: NDArray[np.uint8]) -> bytes:
    height, width = frame.shape[:2]
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    return data.tobytes()
