"""The media gate's question about the clip of a live selfie: was it filmed, or is it something that was made?

Whether the person in it lives and is the right one is `worker.gate.liveness`; here is only what the file itself tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark.keys import MarkKey
from worker.gate import measure
from worker.media import client
from worker.media.types import MediaInfo

LONGEST = 30.0  # seconds; the page records eight
STILL_SIDE = 480  # pixels of the longer side


def objections(path: Path, info: MediaInfo, *, keys: Sequence[MarkKey], anchors_pem: str) -> list[str]:
    """Codes of what speaks against the clip, main reason first; empty if nothing does.

    A camera's clip carries no mark of this house (a screen that shows a result of ours does) and no credentials that
    call it made by AI.
    """
    if info.kind != "video" or not info.duration or info.duration > LONGEST:
        return ["clip_unusable"]
    found = []
    mark_id, _, _ = measure.look(path, info, keys)
    if mark_id is not None:
        found.append("clip_is_our_output")
    stated = measure.credentials_of(path, info.mime, anchors_pem)
    if stated.status == "measured" and (stated.value["is_ours"] or stated.value["declared_synthetic"]):
        found.append("clip_declared_synthetic")
    return found


def stills(path: Path, times: Sequence[float]) -> list[bytes]:
    """Small JPEGs of the clip at these seconds, in order, for a reviewer. Raises MediaError."""
    return [_small(frame) for _, frame in client.sample_frames(path, times=sorted(times))] if times else []


def _small(frame: NDArray[np.uint8]) -> bytes:
    height, width = frame.shape[:2]
    scale = min(1.0, STILL_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    return data.tobytes()
