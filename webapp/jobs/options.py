"""What an account may choose about a job's output; checked at submission, so that nothing odd reaches a worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self, get_args

from django.conf import settings

from watermark import jurisdictions as law
from watermark.jurisdictions import Extent, Place
from webapp.jobs.errors import JobsError
from webapp.profile import is_live
from worker.spec import PHOTO_MIMES, VIDEO_MIMES, Label, MarkMode

PURPOSES = ("personal", "social", "advertising", "film")


@dataclass(frozen=True)
class Options:
    """Choices of one job, with their defaults. `output_mime` "" means: JPEG for a photo, MP4 for a video.

    `jurisdictions` are added to the house's. `label_language` "" is the house's. Nothing here makes the label less than
    what the rules of all these jurisdictions demand.
    """

    output_mime: str = ""
    mark_mode: MarkMode = "default"
    label_place: Place = law.DEFAULT_PLACE
    label_language: str = ""
    label_extent: Extent = "throughout"
    jurisdictions: tuple[str, ...] = ()
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
        options = cls(**{**raw, "jurisdictions": _named(raw.get("jurisdictions", ()))})
        for name, allowed in (
            ("output_mime", ("", *PHOTO_MIMES, *VIDEO_MIMES)),
            ("mark_mode", get_args(MarkMode)),
            ("label_place", get_args(Place)),
            ("label_language", ("", *law.WORDS)),
            ("label_extent", get_args(Extent)),
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

    def check_label(self) -> None:
        """Raises JobsError option_invalid for a wish that the rules do not leave open."""
        wishes: dict[str, Any] = {"place": self.label_place, "extent": self.label_extent}
        reason = law.forbids(self._rules(), **wishes)
        if not reason and self.label_extent == "start" and not is_live():
            reason = "an evaluation keeps the label for the whole length"
        if reason:
            raise JobsError(
                "option_invalid",
                f"The label cannot be made like that: {reason}; nothing was made. Leave that option out.",
            )

    def notice(self) -> law.Notice:
        """What is shown and written, by the rules that hold now; wishes that they no longer allow are left out."""
        return law.notice(
            self._rules(),
            house_language=settings.LABEL_LANGUAGE,
            language=self.label_language,
            place=self.label_place,
            extent=self.label_extent if is_live() else "throughout",
        )

    def label(self) -> Label:
        """The visible notice; every output carries one."""
        found = self.notice()
        return Label("\n".join(found.lines), found.place, found.letter_share, found.seconds)

    def _rules(self) -> tuple[str, ...]:
        return (*settings.JURISDICTIONS, *self.jurisdictions)


def _named(raw: Any) -> tuple[str, ...]:
    if not isinstance(raw, list | tuple) or not all(name in law.RULES for name in raw):
        raise _invalid("jurisdictions", f"a list of {', '.join(law.RULES)}")
    return tuple(dict.fromkeys(raw))


def _invalid(name: str, allowed: str) -> JobsError:
    return JobsError(
        "option_invalid", f"The option {name} must be {allowed}; nothing was made. Correct it and send again."
    )
