"""How still a film of a face holds: numbers that say what an eye would see as flicker, trembling or a changing face."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import cv2
import numpy as np

from worker.faces import align
from worker.faces.embed import distance
from worker.faces.types import Floats, Rgb

_SIDE: Final = 128


def held_still(rgb: Rgb, landmarks: Floats) -> Floats:
    """The face's luma as if it did not move, float32 [128, 128], cut out by its landmarks [478, 3]."""
    cut = align.warp(rgb, align.to_template(landmarks, "ffhq_512", _SIDE), _SIDE, border=cv2.BORDER_REPLICATE)
    inner = cut[_SIDE // 5 : -_SIDE // 8, _SIDE // 6 : -_SIDE // 6]
    return np.asarray(cv2.cvtColor(inner, cv2.COLOR_RGB2GRAY), np.float32)


def flicker(faces: Sequence[Floats]) -> float:
    """Root mean square of the second difference over time of what `held_still` gave, in levels; three frames at least.

    Steady change, as of light, is none; what goes up and down from frame to frame is. A film's own grain counts too, so
    it is the untouched film that a result is held against.
    """
    return float(np.sqrt(np.mean(np.diff(np.stack(faces), 2, axis=0) ** 2)))


def jitter(points: Sequence[Floats]) -> float:
    """The same of landmarks [N, 2 or 3] over the frames, in pixels."""
    return float(np.sqrt(np.mean(np.diff(np.stack(points)[..., :2], 2, axis=0) ** 2)))


def wavering(descriptors: Sequence[Floats]) -> float:
    """How far apart the descriptors of neighbouring frames are in the middle: 0 for a face that stays itself."""
    return float(np.median([distance(*pair) for pair in pairwise(descriptors)]))
