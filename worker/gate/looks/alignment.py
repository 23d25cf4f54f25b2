"""Do the faces lie where picture generators put them? StyleGAN and its kin learn from FFHQ's square, aligned portraits.

Measured (reference/gate.md 4.1): 12 of 12 uncropped StyleGAN2 faces, 0 of 339 uncropped real photos. Any crop evades
it, and aligned crops of real people in data sets lie so too (7 of 12): a reason to look, never to refuse.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from worker.faces.neural.points import five_of
from worker.gate.signals import Signal
from worker.pipeline.analysis import Analysis

KIND: Final = "alignment"
EYES: Final = np.array([(0.376, 0.478), (0.626, 0.475)])
"""Where the eyes lie, in shares of the picture's sides; the person's right eye first."""
REACH: Final = 0.02
_LEAST_SHARE: Final = 0.5  # of a film's frames with a face


def measure(analysis: Analysis) -> Signal:
    """The signal `alignment`: is the picture square, and in it a face with both eyes within `REACH` of `EYES`?

    Of a film half of the frames that show a face must be so.
    """
    info = analysis.info
    if abs(info.width - info.height) > 1:
        return measured(square=False, offset=None, share=0.0)
    seen = aligned = 0
    nearest: float | None = None
    for frame in analysis.frames():
        if not frame.faces:
            continue
        offset = min(offset_of(face.landmarks, info.width, info.height) for face in frame.faces)
        seen += 1
        aligned += offset <= REACH
        nearest = offset if nearest is None else min(nearest, offset)
    return measured(square=True, offset=nearest, share=aligned / seen if seen else 0.0)


def offset_of(landmarks: np.ndarray, width: int, height: int) -> float:
    """How far the worse of the two eyes is from its place, in shares of the side, along the worse axis.

    `landmarks`: any markup that `five_of` knows, in pixels.
    """
    eyes = five_of(landmarks)[:2] / np.array([width, height])
    return float(np.abs(eyes - EYES).max())


def measured(*, square: bool, offset: float | None, share: float) -> Signal:
    """The signal; `offset` of the best frame, `share` of frames that are aligned."""
    value = {
        "square": square,
        "offset": None if offset is None else round(offset, 4),
        "share": round(share, 3),
        "aligned": square and share >= _LEAST_SHARE,
    }
    return Signal(KIND, "measured", value, "face_mesh")
