"""The vocabulary of media: what a probe finds and the limits inputs are held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Self

Kind = Literal["photo", "video"]
Hdr = Literal["pq", "hlg"]

MAX_FILE_BYTES: Final = 200 << 20
"""Largest photo file."""
MAX_VIDEO_BYTES: Final = 4 << 30
"""Largest video file; the smaller limit of an account is the upload's business."""
MAX_PHOTO_PIXELS: Final = 50_000_000
MAX_VIDEO_SIDE: Final = 4096
MAX_VIDEO_SECONDS: Final = 600.0
MAX_FRAME_RATE: Final = 120.0
"""Frames per second above which a rate is taken for a broken header."""
MAX_STREAMS: Final = 9
"""Picture, sound and subtitle tracks together; timed metadata, which phones write, is dropped and not counted."""
MAX_TRACKS: Final = 16
"""Tracks of any kind."""
MAX_CUES: Final = 50_000
"""Subtitles of all tracks together: a film of three hours has about 2,000 in each."""
MAX_CUE_BYTES: Final = 16 << 10
"""Of one subtitle."""
MAX_TEXT_BYTES: Final = 8 << 20
"""Of all subtitles together."""
MAX_CHAPTERS: Final = 250
"""As many as the older of the two lists of an MP4 can hold, rounded."""


@dataclass(frozen=True)
class MediaInfo:
    """What a file is. `width` and `height` are as seen: after the orientation or display matrix was applied.

    `rotation` is the clockwise turn in degrees that was applied to get there. `frames` is the container's own count
    and may be missing; `duration` is in seconds. `sha256` is of the file's bytes, hexadecimal.
    """

    kind: Kind
    mime: str
    width: int
    height: int
    duration: float | None
    fps: float | None
    frames: int | None
    has_audio: bool
    rotation: int
    hdr: Hdr | None
    size: int
    sha256: str
    codec: str = ""
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy; `from_dict` reverses it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        return cls(**{**raw, "warnings": tuple(raw["warnings"])})
