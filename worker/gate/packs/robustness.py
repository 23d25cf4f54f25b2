"""What happens to a picture on its way through the net, for the metrics of section 8.1: JPEG, half size, crop, H.264.

The faces move with the picture; they are not looked for again, so that only the detector is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.gate.looks.sampling import Sample

Rgb = NDArray[np.uint8]


def jpeg(sample: Sample, quality: int) -> Sample:
    """Through JPEG at `quality`."""
    _, data = cv2.imencode(".jpg", sample.rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    bgr = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return replace(sample, rgb=np.ascontiguousarray(bgr[:, :, ::-1]))


def half(sample: Sample) -> Sample:
    """At half the width and height."""
    height, width = sample.rgb.shape[:2]
    size = (max(1, width // 2), max(1, height // 2))
    return _moved(sample, np.asarray(cv2.resize(sample.rgb, size, interpolation=cv2.INTER_AREA), np.uint8), scale=0.5)


def crop(sample: Sample, share: float) -> Sample:
    """Without `share` of the width and height on each side."""
    height, width = sample.rgb.shape[:2]
    x, y = round(share * width), round(share * height)
    return _moved(sample, np.ascontiguousarray(sample.rgb[y : height - y, x : width - x]), shift=(x, y))


def h264(sample: Sample, crf: int) -> Sample:
    """As a single H.264 picture at the rate factor `crf`; odd sides lose their last row or column."""
    from watermark.bench.video_cases import decoded, encoded

    height, width = (side // 2 * 2 for side in sample.rgb.shape[:2])
    (rgb,) = decoded(encoded([sample.rgb[:height, :width]], "libx264", crf))
    return replace(sample, rgb=rgb)


ROADS: Final[Mapping[str, Callable[[Sample], Sample]]] = {
    "JPEG 75": partial(jpeg, quality=75),
    "JPEG 50": partial(jpeg, quality=50),
    "JPEG 30": partial(jpeg, quality=30),
    "half size": half,
    "crop 10 %": partial(crop, share=0.1),
    "H.264 CRF 28": partial(h264, crf=28),
    "H.264 CRF 35": partial(h264, crf=35),
}


def _moved(sample: Sample, rgb: Rgb, *, scale: float = 1.0, shift: tuple[int, int] = (0, 0)) -> Sample:
    faces = []
    for face in sample.faces:
        box, points = face.box.copy(), face.landmarks.copy()
        box[:2] -= shift
        points[:, :2] -= shift
        faces.append(replace(face, box=box * np.float32(scale), landmarks=points * np.float32(scale)))
    return replace(sample, rgb=rgb, faces=tuple(faces))
