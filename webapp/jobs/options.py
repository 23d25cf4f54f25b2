"""What an account may choose about a job's output; checked at submission, so that nothing odd reaches a worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

from webapp.jobs.errors import JobsError
from worker.spec import PHOTO_MIMES, VIDEO_MIMES, Label, MarkMode

PURPOSES = ("personal", "social", "advertising", "film")
Place = Literal["top-right", "top-left", "bottom-right", "bottom-left"]


@dataclass(frozen=True)
class Options:
    """Choices of one job, with their defaults. `output_mime` "" means: JPEG for a photo, MP4 for a video."""

    output_mime: str = ""
    mark_mode: MarkMode = "default"
    label_place: Place = "top-right"
    jpeg_quality: int = 95
    crf: int = 18

    @classmethod
    def from_mapping(cls, raw: Mapping[str, Any]) -> Self:
        """Read choices from a request. Raises JobsError option_unknown, option_invalid."""
        unknown = sorted(set(raw) - set(cls.__dataclass_fields__))
        if unknown:
            raise JobsError(
                "option_unknown",
                f"There is no option {unknown[0]!r}; no job was made. There are {', '.join(cls.__dataclass_fields__)}.",
            )
        options = cls(**raw)
        for name, allowed in (
            ("output_mime", ("", *PHOTO_MIMES, *VIDEO_MIMES)),
            ("mark_mode", get_args(MarkMode)),
            ("label_place", get_args(Place)),
        ):
            if getattr(options, name) not in allowed:
                raise _invalid(name, f"one of {', '.join(filter(None, allowed))}")
        for name, low, high in (("jpeg_quality", 60, 100), ("crf", 10, 35)):
            value = getattr(options, name)
            if type(value) is not int or not low <= value <= high:
                raise _invalid(name, f"a whole number from {low} to {high}")
        return options

    def to_dict(self) -> dict[str, Any]:
        """For the job's row."""
        return asdict(self)

    def mime_for(self, kind: str) -> str:
        """The output's type for a target of this kind. Raises JobsError option_invalid if the two do not fit."""
        if not self.output_mime:
            return PHOTO_MIMES[0] if kind == "photo" else VIDEO_MIMES[0]
        allowed = PHOTO_MIMES if kind == "photo" else VIDEO_MIMES
        if self.output_mime not in allowed:
            raise _invalid("output_mime", f"one of {', '.join(allowed)} for a {kind}")
        return self.output_mime

    def label(self) -> Label:
        """The visible notice; every output carries one as long as any kind of input screening is not installed."""
        return Label(place=self.label_place)


def _invalid(name: str, allowed: str) -> JobsError:
    return JobsError(
        "option_invalid", f"The option {name} must be {allowed}; nothing was made. Correct it and send again."
    )
