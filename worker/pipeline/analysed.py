"""What an analysis says: faces, frames, tracks and the summary over all. `analysis` is the file that holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

_MOST_POINTS: Final = 1024
_MOST_NUMBERS: Final = 4096


class AnalysisError(Exception):
    """The file is not an analysis, or not a whole one."""

    code = "analysis_invalid"

    def __init__(self, detail: str) -> None:
        self.message = f"The stored analysis cannot be read ({detail}). The file itself is intact. Analyse it again."
        super().__init__(self.message)


@dataclass(frozen=True)
class Form:
    """What the faces of an analysis hold: landmarks [points, axes] and descriptors of `numbers` values."""

    points: int = 478
    axes: int = 3
    numbers: int = 128

    def __post_init__(self) -> None:
        if not (0 < self.points <= _MOST_POINTS and self.axes in (2, 3) and 0 < self.numbers <= _MOST_NUMBERS):
            raise ValueError("no form that an analysis can have")


MESH: Final = Form()
"""The form of the built-in models."""


@dataclass(frozen=True)
class FrameFace:
    """One face in one frame: `box` float32 [4] x, y, width, height, `landmarks` float32 [478, 3] or as the `Form` says,
    both in pixels. `strength` 0..1 is how much of its replacement shows; it is not stored."""

    track: int
    score: float
    box: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    strength: float = 1.0


@dataclass(frozen=True)
class AnalysedFrame:
    """One frame; `seconds` counts from the first frame of the video, 0 for a photo."""

    index: int
    seconds: float
    faces: tuple[FrameFace, ...]


@dataclass(frozen=True)
class Track:
    """One person through a film, or one face of a photo (then `id` is its index, largest first).

    The representative frame is `best_index` at `best_seconds`: there the face has `box` (x, y, width, height in
    pixels) and looks `yaw` degrees aside. `size` is the longer side of that box. `descriptor` holds as many
    values as the `Form` says.
    """

    id: int
    first_seconds: float
    last_seconds: float
    frames: int
    best_index: int
    best_seconds: float
    box: tuple[float, float, float, float]
    size: float
    yaw: float
    descriptor: tuple[float, ...] | None


@dataclass(frozen=True)
class AnalysisSummary:
    """All of an analysis but the landmarks. `cuts` are seconds of new shots.

    Frames of the file hold numbers of stretches in which a face was followed without doubt; `persons` names the track
    that each belongs to, where that is not of the same number (`faces.persons.UNSURE`: none).
    """

    kind: str
    model_set: str
    width: int
    height: int
    frames: int
    duration: float
    tracks: tuple[Track, ...]
    cuts: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()
    peak_rss: int = 0
    codec_seconds: float = 0.0
    form: Form = MESH
    persons: Mapping[int, int] = field(default_factory=dict)

    def to_dict(self, *, descriptors: bool = True) -> dict[str, Any]:
        """A JSON-able copy; without `descriptors` it holds nothing biometric and may be shown or logged."""
        raw = asdict(self)
        if not descriptors:
            for track in raw["tracks"]:
                del track["descriptor"]
        return raw

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote, descriptors or not. Raises AnalysisError.

        Every value is brought to its type here: the file was written by a process that had parsed untrusted media.
        """
        try:
            form = Form(**{name: int(value) for name, value in raw.get("form", {}).items()})
            return cls(
                kind="video" if raw["kind"] == "video" else "photo",
                model_set=str(raw["model_set"]),
                width=int(raw["width"]),
                height=int(raw["height"]),
                frames=int(raw["frames"]),
                duration=float(raw["duration"]),
                tracks=tuple(_track(track, form) for track in raw["tracks"]),
                cuts=tuple(float(cut) for cut in raw["cuts"]),
                warnings=tuple(str(warning) for warning in raw["warnings"]),
                peak_rss=int(raw.get("peak_rss", 0)),
                codec_seconds=float(raw.get("codec_seconds", 0.0)),
                form=form,
                persons={int(number): int(person) for number, person in raw.get("persons", {}).items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AnalysisError(str(error)) from error


def _track(raw: Mapping[str, Any], form: Form) -> Track:
    left, top, width, height = (float(value) for value in raw["box"])
    descriptor = raw.get("descriptor")
    if descriptor is not None:
        descriptor = tuple(float(value) for value in descriptor)
        if len(descriptor) != form.numbers:
            raise ValueError("descriptor length")
    return Track(
        id=int(raw["id"]),
        first_seconds=float(raw["first_seconds"]),
        last_seconds=float(raw["last_seconds"]),
        frames=int(raw["frames"]),
        best_index=int(raw["best_index"]),
        best_seconds=float(raw["best_seconds"]),
        box=(left, top, width, height),
        size=float(raw["size"]),
        yaw=float(raw["yaw"]),
        descriptor=descriptor,
    )
