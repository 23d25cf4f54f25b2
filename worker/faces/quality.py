"""How good a swap became, in numbers that are shown to the user and kept with the job."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from worker.faces import align, select
from worker.faces.embed import Descriptor, distance
from worker.faces.landmarks import FACE_SCORE, FaceMesh, box_of
from worker.faces.types import Floats, ModelRunner, Rgb
from worker.limits import IDENTITY_REVIEW

_CHIP: Final = 160
_BLURRED: Final = 6.0
_SMALL: Final = 110


@dataclass(frozen=True)
class Quality:
    """What one swapped face looks like to the descriptor and the eye.

    Distances are descriptor distances after the swap (to the source, and to the target as it was);
    `target_source_before` is how far both people were apart. `yaw_gap` in degrees. `sharpness` as `sharpness`.
    `warnings` are stable codes: `pose_gap_wide`, `source_blurred`, `target_small`, `identity_weak`, `face_lost`.
    """

    distance_to_source: float
    distance_to_target: float
    target_source_before: float
    yaw_gap: float
    sharpness: float
    warnings: tuple[str, ...]


def sharpness(rgb: Rgb, landmarks: Floats) -> float:
    """Fine detail of a face, standard deviation of the Laplacian of luma on an aligned 160-pixel crop.

    Under about 6 a face is visibly blurred; a sharp portrait has 12 to 40. Independent of the face's size above 160
    pixels; a smaller face is enlarged and rightly counts as blurred.
    """
    return fine_detail(rgb, align.to_template(landmarks, "ffhq_512", _CHIP))


def fine_detail(rgb: Rgb, matrix: align.Affine) -> float:
    """`sharpness` of the face that `matrix` cuts out by the template ffhq_512 to 160 pixels."""
    luma = cv2.cvtColor(align.warp(rgb, matrix, _CHIP, border=cv2.BORDER_REPLICATE), cv2.COLOR_RGB2GRAY)
    middle = luma[_CHIP // 4 : -_CHIP // 8, _CHIP // 5 : -_CHIP // 5]
    return float(np.std(cv2.Laplacian(middle, cv2.CV_32F)))


def judge(
    runner: ModelRunner,
    before: Rgb,
    after: Rgb,
    landmarks: Floats,
    source_descriptor: Floats,
    *,
    source_sharpness: float,
    yaw_gap: float,
) -> Quality:
    """Judge a swap: `before` and `after` are the same frame (uint8 [H, W, 3]), `landmarks` those of the target in it.

    The landmarks are located anew in `after`, so that a swap that broke the face shows as `face_lost`.
    """
    descriptor = Descriptor(runner)
    located, score = FaceMesh(runner).locate(after, landmarks)
    target = descriptor.describe(before, landmarks)
    made = descriptor.describe(after, located if score >= FACE_SCORE else landmarks)
    to_source = distance(made, source_descriptor)
    warnings = []
    if score < FACE_SCORE:
        warnings.append("face_lost")
    if to_source > IDENTITY_REVIEW:
        warnings.append("identity_weak")
    if yaw_gap > select.YAW_WARN:
        warnings.append("pose_gap_wide")
    if source_sharpness < _BLURRED:
        warnings.append("source_blurred")
    if float(box_of(landmarks)[2:].max()) < _SMALL:
        warnings.append("target_small")
    return Quality(
        distance_to_source=to_source,
        distance_to_target=distance(made, target),
        target_source_before=distance(target, source_descriptor),
        yaw_gap=yaw_gap,
        sharpness=sharpness(after, landmarks),
        warnings=tuple(warnings),
    )
