"""What one frame says of a head, compared with the same head at rest.

Everything is relative to the person's own rest, so that a resting smile, half-closed eyes or a high camera count for
nothing. Lengths are in units of the distance between the outer eye corners at rest, angles in degrees.

A flat picture betrays itself in two ways when it is turned or bent: it is foreshortened more than the head in it seems
to turn (`stretch`), and its points do not fit a rigid head (`strain`). A real head does neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.faces import regions
from worker.faces.landmarks import box_of, pose_of
from worker.faces.shape import fit, opening
from worker.faces.types import LANDMARK_COUNT, Floats, Pose

# Eye corners, bridge, under the nose, temples: what no expression moves.
_FRAME: Final = np.array([33, 133, 362, 263, 168, 6, 2, 234, 454, 127, 356])
_EYES: Final = (33, 133, 362, 263)
_CORNERS: Final = (61, 291)


@dataclass(frozen=True)
class Sample:
    """One analysed frame of a clip, `seconds` after its first; the face's own numbers are None where no face was seen.

    `other` is the size of the largest other face as a share of this one, `change` the mean difference to the frame
    before in grey levels, `cut` whether a new shot begins here.
    """

    seconds: float
    face: Motion | None
    other: float = 0.0
    change: float = 1.0
    cut: bool = False


@dataclass(frozen=True)
class Motion:
    """A face against its rest.

    `yaw` is positive when the nose has turned to the right of the image (the person's own left), `pitch` when it has
    gone down. `mouth` is how much further the lips are apart; `eyes` the opening of both eyes, 1 as at rest; `smile`
    how far the mouth's corners went out and up. `strain` is how badly the face fits the rigid head it was at rest,
    `stretch` the logarithm of its width over its height against what its pose explains. `size` is the longer side of
    the box and `x`, `y` its middle, in pixels; `light` the face's median luma, 0..255. `nose` is how far the tip of the
    nose has left the line between bridge and upper lip to the right of the image, as a share of that line: three points
    of a flat picture that lie on one line stay on one, however it is turned.
    """

    yaw: float
    pitch: float
    roll: float
    mouth: float
    eyes: float
    smile: float
    nose: float
    strain: float
    stretch: float
    size: float
    x: float
    y: float
    light: float


class Rest:
    """A face at rest, from several frames: landmarks float32 [N, 478, 3] in pixels, N >= 1."""

    def __init__(self, landmarks: Floats) -> None:
        frames = np.asarray(landmarks, np.float32).reshape(-1, LANDMARK_COUNT, 3)
        if not len(frames) or not np.isfinite(frames).all():
            raise ValueError("a rest needs finite landmarks")
        self._points = _at_rest(frames)
        self.pose = pose_of(self._points)
        self._unit = max(float(np.linalg.norm(self._points[33] - self._points[263])), 1e-3)
        self._mouth = self._gap(self._points)
        self._eyes = [max(opening(self._points, lids), 0.05) for lids in (regions.RIGHT_LIDS, regions.LEFT_LIDS)]
        self._aspect = _aspect(self._points)
        self._nose = _nose(self._points)

    def compare(self, landmarks: Floats, light: float) -> Motion:
        """The face at `landmarks` float32 [478, 3] against this rest."""
        pose = pose_of(landmarks)
        yaw, pitch, roll = pose.yaw - self.pose.yaw, pose.pitch - self.pose.pitch, pose.roll - self.pose.roll
        back = fit(landmarks, self._points)
        moved = (back - self._points) / self._unit
        out = float(moved[_CORNERS[1], 0] - moved[_CORNERS[0], 0]) / 2
        up = -float(moved[_CORNERS[0], 1] + moved[_CORNERS[1], 1]) / 2
        lids = zip((regions.RIGHT_LIDS, regions.LEFT_LIDS), self._eyes, strict=True)
        box = box_of(landmarks)
        return Motion(
            yaw=yaw,
            pitch=pitch,
            roll=(roll + 180) % 360 - 180,
            mouth=(self._gap(back) - self._mouth) / self._unit,
            eyes=float(np.mean([opening(landmarks, points) / rest for points, rest in lids])),
            smile=(2 * out + up) / 3,
            nose=_nose(landmarks) - self._nose,
            strain=float(np.sqrt((moved[_FRAME, :2] ** 2).sum(axis=1).mean())),
            stretch=float(np.log(_aspect(landmarks) / self._aspect / _explained(pose, self.pose))),
            size=float(box[2:].max()),
            x=float(box[0] + box[2] / 2),
            y=float(box[1] + box[3] / 2),
            light=light,
        )

    @staticmethod
    def _gap(points: Floats) -> float:
        return float(np.linalg.norm(points[13] - points[14]))


def _at_rest(frames: NDArray[np.float32]) -> Floats:
    """The median face of `frames`, each first brought to the place, turn and size of the middle one."""
    middle = frames[len(frames) // 2]
    return np.median([fit(one, middle) for one in frames], axis=0).astype(np.float32)


def _nose(points: Floats) -> float:
    bridge, lip, tip = points[168, :2], points[164, :2], points[[1, 4], :2].mean(axis=0)
    along = lip - bridge
    length = max(float(along @ along), 1e-6)
    return float((tip[0] - bridge[0]) * along[1] - (tip[1] - bridge[1]) * along[0]) / length


def _aspect(points: Floats) -> float:
    """Distance of the outer eye corners over that of eyes and mouth, in the picture."""
    width = np.linalg.norm(points[33, :2] - points[263, :2])
    height = np.linalg.norm(points[list(_EYES), :2].mean(axis=0) - points[list(_CORNERS), :2].mean(axis=0))
    return max(float(width), 1e-3) / max(float(height), 1e-3)


def _explained(pose: Pose, rest: Pose) -> float:
    """The change of `_aspect` that turning a rigid head from `rest` to `pose` brings about."""

    def seen(one: Pose) -> float:
        yaw, pitch = np.radians([np.clip(one.yaw, -70, 70), np.clip(one.pitch, -60, 60)])
        return float(np.cos(yaw) / np.cos(pitch))

    return seen(pose) / seen(rest)
