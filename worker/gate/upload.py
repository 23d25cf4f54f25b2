"""The file that is screened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from worker.media import client
from worker.media.types import MediaInfo

_ENDINGS: Final[Mapping[str, str]] = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/webm": "webm",
    "video/x-matroska": "mkv",
}


@dataclass(frozen=True)
class Upload:
    """A file in whose pixels the gate looks, a `kind` "photo" or "video"; its own name never leaves the house."""

    path: Path
    mime: str
    kind: str

    @classmethod
    def of(cls, path: Path, info: MediaInfo) -> Self:
        """The file at `path`, which is what `info` says."""
        return cls(path, info.mime, info.kind)

    @property
    def name(self) -> str:
        """A name that says the format and nothing else."""
        return f"upload.{_ENDINGS.get(self.mime, 'bin')}"

    @cached_property
    def photo(self) -> NDArray[np.uint8]:
        """A photo's upright pixels, uint8 [H, W, 3] RGB, not to be written to: decoded once for all who look.

        Raises MediaError, ChildError.
        """
        picture = client.decode_image(self.path)
        picture.flags.writeable = False
        return picture
