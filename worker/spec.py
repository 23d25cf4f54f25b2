"""The one immutable description of a job that travels from the web side to the pipeline.

A leaf module: both sides import it, it imports nothing of ours. Whatever a stage needs to know stands here; nothing
below the task reads settings, environment variables or the database.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

Kind = Literal["photo", "video"]
MarkMode = Literal["default", "durable"]

PHOTO_MIMES = ("image/jpeg", "image/png", "image/webp", "image/avif")
VIDEO_MIMES = ("video/mp4", "video/quicktime")
EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/avif": "avif",
    "video/mp4": "mp4",
    "video/quicktime": "mov",
}
"""Of output files, by their media type."""


class SpecError(ValueError):
    """A job description that cannot be carried out."""

    code = "spec_invalid"


@dataclass(frozen=True)
class SourcePhoto:
    """One photo of the face donor. `face` is the index of the donor's face in that photo's analysis."""

    path: Path
    sha256: str
    face: int = 0


@dataclass(frozen=True)
class Swap:
    """One replacement: the target's face (photo) or track (video) `target` gets the face of `sources`."""

    target: int
    sources: tuple[SourcePhoto, ...]

    def __post_init__(self) -> None:
        if self.target < 0 or not self.sources:
            raise SpecError("A replacement needs a face of the target and at least one source photo.")


@dataclass(frozen=True)
class Label:
    """The visible notice burned into the output: the lines of `text` in the corner `place`.

    The capitals' height is `letter_share` of the short side. A video shows it for its first `seconds`; None: all.
    """

    text: str = "AI MODIFIED"
    place: Literal["top-right", "top-left", "bottom-right", "bottom-left"] = "top-right"
    letter_share: float = 0.05
    seconds: float | None = None


@dataclass(frozen=True)
class JobSpec:
    """Everything one run of the pipeline needs. Paths are plain local files inside the job's work folder."""

    job_id: str
    kind: Kind
    target_path: Path
    target_sha256: str
    analysis_path: Path
    output_path: Path
    output_mime: str
    swaps: tuple[Swap, ...]
    mark_mode: MarkMode = "default"
    label: Label | None = field(default_factory=Label)
    aigc: str = ""  # China's metadata label, JSON; "" for none
    swapper: str = "mesh"  # the built-in one, or a model of the role face_swapper
    enhancer: str = ""  # a model of the role face_enhancer; "" for none
    model_set: str = "builtin"  # the id of the model files that do it
    crf: int = 18
    preset: str = "veryfast"
    jpeg_quality: int = 95
    memory_limit: int = 3 << 30
    timeout: float = 6 * 3600.0

    def __post_init__(self) -> None:
        mimes = PHOTO_MIMES if self.kind == "photo" else VIDEO_MIMES
        if self.output_mime not in mimes:
            raise SpecError(f"A {self.kind} cannot be written as {self.output_mime}; choose one of {', '.join(mimes)}.")
        if not self.swaps:
            raise SpecError("A job without a face to replace has nothing to do.")
        if len({swap.target for swap in self.swaps}) != len(self.swaps):
            raise SpecError("Two replacements name the same face of the target.")
        if self.enhancer and self.swapper == "mesh":
            raise SpecError("An enhancer goes with a neural swapper; the built-in one has none.")
        if not 0 <= self.crf <= 51 or not 1 <= self.jpeg_quality <= 100:
            raise SpecError("Encoder quality is outside its scale (CRF 0 to 51, JPEG 1 to 100).")

    def to_json(self) -> str:
        """Serialise; `from_json(to_json(spec)) == spec`."""
        return json.dumps(asdict(self), default=str, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a specification back. Raises SpecError for anything that is not one."""
        try:
            raw: dict[str, Any] = json.loads(text)
            raw["swaps"] = tuple(
                Swap(
                    target=swap["target"],
                    sources=tuple(
                        SourcePhoto(Path(photo["path"]), photo["sha256"], photo["face"]) for photo in swap["sources"]
                    ),
                )
                for swap in raw["swaps"]
            )
            raw["label"] = Label(**raw["label"]) if raw["label"] else None
            for name in ("target_path", "analysis_path", "output_path"):
                raw[name] = Path(raw[name])
            return cls(**raw)
        except (ValueError, KeyError, TypeError) as error:
            raise SpecError(f"Not a job specification: {error}") from error
