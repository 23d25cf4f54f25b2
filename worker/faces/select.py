"""Which source photo to use for a target pose, and when none will do."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from worker.faces.types import FaceError, Pose
from worker.limits import MOST_TURNED_AWAY

# Degrees of yaw between source and target. A photo shows nothing of the side that is turned away from it.
YAW_WARN: Final = 15.0
YAW_REFUSE: Final = 30.0
# A change of photo must pay for the jump it makes, or a head near the middle of two poses would flicker.
_HOLD: Final = 6.0
# Pitch distorts a texture less than yaw.
_PITCH_SHARE: Final = 0.6


@dataclass(frozen=True)
class Choice:
    """The chosen photo's index and its absolute yaw gap in degrees."""

    index: int
    yaw_gap: float


@dataclass(frozen=True)
class PoseFit:
    """How photos fit a track: its frames, those turned over YAW_REFUSE from every photo, the widest gap (degrees)."""

    frames: int
    turned: int
    widest: float

    @property
    def refused(self) -> bool:
        return self.turned > MOST_TURNED_AWAY * self.frames


def fit_poses(sources: Sequence[Pose], targets: Iterable[Pose]) -> PoseFit:
    """Measure a track's poses against the source photos, each frame against the nearest; needs a source."""
    gaps = [min(yaw_gap(source, target) for source in sources) for target in targets]
    return PoseFit(len(gaps), sum(gap > YAW_REFUSE for gap in gaps), max(gaps, default=0.0))


def yaw_gap(source: Pose, target: Pose) -> float:
    """Absolute difference of yaw in degrees."""
    return abs(source.yaw - target.yaw)


def choose(
    sources: Sequence[Pose], target: Pose, *, held: int | None = None, most_yaw_gap: float = YAW_REFUSE
) -> Choice:
    """The source photo nearest in pose; `held` is the one used for the frame before and is kept unless clearly worse.

    Raises FaceError `pose_gap` if even the nearest is more than `most_yaw_gap` degrees of yaw away; ValueError
    without sources.
    """
    if not sources:
        raise ValueError("no source photo given")
    costs = [
        yaw_gap(source, target) + _PITCH_SHARE * abs(source.pitch - target.pitch) - (_HOLD if k == held else 0.0)
        for k, source in enumerate(sources)
    ]
    allowed = [k for k, source in enumerate(sources) if yaw_gap(source, target) <= most_yaw_gap]
    if not allowed:
        nearest = min(yaw_gap(source, target) for source in sources)
        raise FaceError("pose_gap", f"{nearest:.0f} degrees apart, {most_yaw_gap:.0f} is the most")
    best = min(allowed, key=costs.__getitem__)
    return Choice(index=best, yaw_gap=yaw_gap(sources[best], target))
