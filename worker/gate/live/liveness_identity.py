"""Is it one and the same face all through the clip, and the face of the source photos? Pure.

Descriptors live here as long as the call does; what is returned are distances.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from worker.gate.live.motion import Motion
from worker.limits import IDENTITY_PASS, IDENTITY_REVIEW

_LEAST: Final = 4
# Seen within these the descriptor is as sure as its thresholds; turned further, smiling (0.39 from itself, measured),
# with the mouth wide open or the eyes shut, a face looks more like another.
_FRONTAL_YAW, _FRONTAL_PITCH, _FRONTAL_MOUTH, _FRONTAL_EYES, _FRONTAL_SMILE = 12.0, 12.0, 0.12, 0.6, 0.03


@dataclass(frozen=True)
class Identity:
    """`same_face_worst` is the largest distance of a face seen from the front to the clip's middle one,
    `turned_worst` that of a turned one, `source_distance` the median distance to the nearest reference; None where it
    could not be measured. `codes` as in `liveness.MESSAGES`."""

    codes: tuple[str, ...]
    same_face_worst: float | None
    turned_worst: float | None
    source_distance: float | None


def judge_identity(
    described: Sequence[tuple[Motion, NDArray[Any]]], references: Sequence[NDArray[Any]], *, every: bool = False
) -> Identity:
    """Judge the faces of a clip, each with its pose and descriptor [128], against `references` [128] of the source.

    The nearest reference counts: photos of one person. With `every` the farthest does: faces that each must be theirs.
    """
    usable = [(motion, np.asarray(one, np.float64).ravel()) for motion, one in described if np.isfinite(one).all()]
    frontal = [one for motion, one in usable if _is_frontal(motion)]
    if len(frontal) < _LEAST:
        return Identity(("face_lost",), None, None, None)
    faces = np.stack(frontal)
    apart = np.linalg.norm(faces[:, None] - faces[None], axis=2)
    middle = faces[int(np.argmin(np.median(apart, axis=1)))]
    worst = float(np.linalg.norm(faces - middle, axis=1).max())
    turned = [float(np.linalg.norm(one - middle)) for motion, one in usable if not _is_frontal(motion)]
    codes = []
    if worst > IDENTITY_PASS or max(turned, default=0.0) > IDENTITY_REVIEW:
        codes.append("changed_person")
    known = [np.asarray(one, np.float64).ravel() for one in references]
    known = [one for one in known if one.shape == middle.shape and np.isfinite(one).all()]
    distances = [float(np.median(np.linalg.norm(faces - one, axis=1))) for one in known]
    if every and len(known) < len(references):
        distances = []  # one that cannot be read cannot be theirs
    distance = (max if every else min)(distances) if distances else None
    if distance is None:
        codes.append("no_reference")
    elif not distance <= IDENTITY_REVIEW:
        codes.append("identity_mismatch")
    elif distance > IDENTITY_PASS:
        codes.append("identity_unsure")
    return Identity(tuple(codes), worst, max(turned, default=math.nan) if turned else None, distance)


def _is_frontal(motion: Motion) -> bool:
    return (
        abs(motion.yaw) <= _FRONTAL_YAW
        and abs(motion.pitch) <= _FRONTAL_PITCH
        and motion.mouth <= _FRONTAL_MOUTH
        and motion.eyes >= _FRONTAL_EYES
        and motion.smile <= _FRONTAL_SMILE
    )
