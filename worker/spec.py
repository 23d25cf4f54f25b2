"""The one immutable description of a job that travels from the web side to the pipeline.

A leaf module: both sides import it, it imports nothing of ours. Whatever a stage needs to know stands here; nothing
below the task reads settings, environment variables or the database.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

Kind = Literal["photo", "video"]
MarkMode = Literal["default", "durable"]
VideoCodec = Literal["h264", "hevc", "av1"]
Preset = Literal["fast", "balanced", "slow"]
Hardware = Literal["off", "decode", "encode"]
Others = Literal["keep", "blur"]
Blend = Literal["feather", "multiband", "poisson"]
MaskType = Literal["auto", "box", "occlusion", "region", "area"]
MaskArea = Literal["upper_face", "lower_face", "mouth"]
MaskRegion = Literal[
    "skin",
    "left_eyebrow",
    "right_eyebrow",
    "left_eye",
    "right_eye",
    "glasses",
    "nose",
    "mouth",
    "upper_lip",
    "lower_lip",
]

MASK_TYPES: tuple[MaskType, ...] = get_args(MaskType)
MASK_AREAS: tuple[MaskArea, ...] = get_args(MaskArea)
MASK_REGIONS: tuple[MaskRegion, ...] = get_args(MaskRegion)
MOST_MASK_PADDING = 45  # per cent of the square at each edge: what is left is never nothing
LEAST_SCALE, MOST_SCALE = 0.25, 2.0
LEAST_HEIGHT, MOST_HEIGHT = 96, 4096  # pixels: a mark needs as many (watermark.embedding.SMALLEST_SIDE)
LEAST_FPS, MOST_FPS = 1.0, 120.0
MOST_BOOST = 4

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
class Masking:
    """Where a neural swapper's face shows: where all masks of `types` let it.

    "box" keeps it away from the edges of the swap's square: it fades over half of `blur` (0..1) of the square, and
    `padding` are per cents that are left out at top, right, bottom and left. "occlusion" keeps what is in front of the
    face, "region" shows only `regions` as a parser sees them, "area" only `areas` as the landmarks enclose them.
    `models` are the occluders and parsers that tell. "auto" is box, and occlusion where an occluder is installed;
    whoever asks the engine for the models decides that (see `chosen_models`). The mesh has masks of its own.
    """

    types: tuple[MaskType, ...] = ("box",)
    areas: tuple[MaskArea, ...] = MASK_AREAS
    regions: tuple[MaskRegion, ...] = MASK_REGIONS
    blur: float = 0.3
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, known in (("types", MASK_TYPES), ("areas", MASK_AREAS), ("regions", MASK_REGIONS)):
            named = getattr(self, name)
            if not named or not set(named) <= set(known):
                raise SpecError(f"Of mask {name} at least one of {', '.join(known)} must be named, and no other.")
        if not 0 <= self.blur <= 1:
            raise SpecError("The blur of the mask must be between 0 and 1.")
        if len(self.padding) != 4 or not all(0 <= share <= MOST_MASK_PADDING for share in self.padding):
            raise SpecError(f"The padding of the mask is four per cents from 0 to {MOST_MASK_PADDING}.")

    @classmethod
    def from_mapping(cls, raw: Mapping[str, Any]) -> Self:
        """Read what JSON made of one, lists for tuples. Raises SpecError, TypeError."""
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in raw.items()}
        return cls(**fields)


@dataclass(frozen=True)
class JobSpec:
    """Everything one run of the pipeline needs. Paths are plain local files inside the job's work folder.

    Of a video: `codec` is how its pictures are encoded, `crf` the quality on x264's scale whatever the codec, `preset`
    how much work that may cost. `hardware` is what a video device does: "decode" reads the target where it can,
    "encode" also writes the result, which then nothing else does. `height` in pixels, or else `scale`, sets the size of
    the result; `fps` its frames per second, None for the target's own times; `trim_start` and `trim_end` in seconds the
    part that is kept. The analysis is always of the whole target. An `upscaler` makes the result larger than that by
    the model's factor, label and mark included.
    """

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
    enhancer_blend: int = 80  # per cent of the enhanced face that shows
    masking: Masking = field(default_factory=Masking)
    upscaler: str = ""  # a model of the role frame_upscaler; "" for none
    pixel_boost: int = 1  # times the swapper's own side that a face is made with
    model_set: str = "builtin"  # the id of the model files that do it
    blend: Blend = "feather"  # how a face is joined to the picture round it
    colour_match: bool = False  # give a model's face the colours of the target's; the built-in swapper always does
    others: Others = "keep"  # what becomes of the faces that are not replaced
    codec: VideoCodec = "h264"
    crf: int = 18
    preset: Preset = "fast"
    hardware: Hardware = "off"
    scale: float = 1.0
    height: int | None = None
    fps: float | None = None
    trim_start: float = 0.0
    trim_end: float | None = None
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
        if not 0 <= self.enhancer_blend <= 100:
            raise SpecError("The blend of the enhancer must be between 0 and 100 per cent.")
        if not 1 <= self.pixel_boost <= MOST_BOOST or (self.pixel_boost > 1 and self.swapper == "mesh"):
            raise SpecError(f"A pixel boost is 1 to {MOST_BOOST}, and above 1 with a neural swapper only.")
        if not 0 <= self.crf <= 51 or not 1 <= self.jpeg_quality <= 100:
            raise SpecError("Encoder quality is outside its scale (CRF 0 to 51, JPEG 1 to 100).")
        for name, kind in (
            ("codec", VideoCodec),
            ("preset", Preset),
            ("hardware", Hardware),
            ("others", Others),
            ("blend", Blend),
        ):
            if getattr(self, name) not in get_args(kind):
                raise SpecError(f"The {name} must be one of {', '.join(get_args(kind))}.")
        if self.codec == "av1" and self.output_mime == "video/quicktime":
            raise SpecError("QuickTime does not hold AV1; write video/mp4, or choose another codec.")
        self._check_shape()

    def _check_shape(self) -> None:
        if not LEAST_SCALE <= self.scale <= MOST_SCALE:
            raise SpecError(f"The scale must be between {LEAST_SCALE} and {MOST_SCALE}.")
        if self.height is not None and (self.scale != 1.0 or not LEAST_HEIGHT <= self.height <= MOST_HEIGHT):
            raise SpecError(f"A height is given instead of a scale, between {LEAST_HEIGHT} and {MOST_HEIGHT} pixels.")
        if self.fps is not None and not LEAST_FPS <= self.fps <= MOST_FPS:
            raise SpecError(f"The frame rate must be between {LEAST_FPS:g} and {MOST_FPS:g} per second.")
        if not 0 <= self.trim_start < math.inf or (
            self.trim_end is not None and not self.trim_start < self.trim_end < math.inf
        ):
            raise SpecError("A part of a video ends after it starts, and starts at 0 or later.")

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
            raw["masking"] = Masking.from_mapping(raw["masking"])
            for name in ("target_path", "analysis_path", "output_path"):
                raw[name] = Path(raw[name])
            return cls(**raw)
        except (ValueError, KeyError, TypeError) as error:
            raise SpecError(f"Not a job specification: {error}") from error
