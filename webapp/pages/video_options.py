"""The advanced choices of a video's result: what the form offers, what came back, and the options it means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from django.http import QueryDict

from webapp.pages import words

_SELECTS: Final[Mapping[str, tuple[str, str, Mapping[str, str]]]] = {
    "codec": ("Kind of video", "", words.CODECS),
    "quality": ("Quality", "", words.QUALITIES),
    "preset": ("Time to spend", "", words.PRESETS),
    "height": ("Size", "At most twice and at least a quarter of the video's own.", words.HEIGHTS),
    "fps": ("Pictures per second", "Some are left out or shown twice; the sound stays as it is.", words.RATES),
}
_TIMES: Final = ("trim_start", "trim_end")


@dataclass
class VideoAnswers:
    """What the form says about the video, as text, with a message per wrong field."""

    codec: str = "h264"
    quality: str = "18"
    preset: str = "fast"
    height: str = ""
    fps: str = ""
    trim_start: str = ""
    trim_end: str = ""
    errors: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, data: QueryDict) -> VideoAnswers:
        """The form's content; a field that is missing keeps its default."""
        said = {name: data.get(name, default).strip()[:40] for name, default in vars(cls()).items() if name != "errors"}
        answers = cls(**said)
        for name, (_, _, offered) in _SELECTS.items():
            if getattr(answers, name) not in offered:
                answers.errors[name] = "Choose one of these."
        for name in _TIMES:
            if seconds_of(getattr(answers, name)) is None:
                answers.errors[name] = "Write seconds, or minutes and seconds: 75 or 1:15."
        if not answers.errors and answers.trim_end and answers._time("trim_end") <= answers._time("trim_start"):
            answers.errors["trim_end"] = "The part must end after it begins."
        return answers

    @property
    def changed(self) -> bool:
        """Whether anything differs from the defaults, so that the page must not hide it."""
        return bool(self.errors) or self != VideoAnswers()

    def options(self) -> dict[str, Any]:
        """As `webapp.jobs.options` takes them; nothing for what was left as it is."""
        found: dict[str, Any] = {}
        if self.codec != "h264":
            found["codec"] = self.codec
        if self.quality != "18":
            found["crf"] = int(self.quality)
        if self.preset != "fast":
            found["preset"] = self.preset
        if self.height:
            found["height"] = int(self.height)
        if self.fps:
            found["fps"] = float(self.fps)
        if self.trim_start:
            found["trim_start"] = self._time("trim_start")
        if self.trim_end:
            found["trim_end"] = self._time("trim_end")
        return found

    def _time(self, name: str) -> float:
        return seconds_of(getattr(self, name)) or 0.0


@dataclass(frozen=True)
class Choice:
    """One list of the form."""

    name: str
    label: str
    hint: str
    options: list[tuple[str, str, bool]]
    error: str


def choices_of(answers: VideoAnswers) -> list[Choice]:
    """The lists of the form with what was chosen."""
    return [
        Choice(
            name,
            label,
            hint,
            [(code, text, getattr(answers, name) == code) for code, text in offered.items()],
            answers.errors.get(name, ""),
        )
        for name, (label, hint, offered) in _SELECTS.items()
    ]


def seconds_of(text: str) -> float | None:
    """Seconds of `75`, `75.5` or `1:15`; 0 for nothing, None for anything else."""
    if not text:
        return 0.0
    minutes, _, rest = text.rpartition(":")
    try:
        whole = int(minutes) if minutes else 0
        value = float(rest)
    except ValueError:
        return None
    if not text.isascii() or not math.isfinite(value) or value < 0 or whole < 0 or (minutes and value >= 60):
        return None
    return 60.0 * whole + value
