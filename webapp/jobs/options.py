"""What an account may choose about a job's output; checked at submission, so that nothing odd reaches a worker."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self, get_args

from django.conf import settings

from consent import territories
from consent.names import is_name
from watermark import jurisdictions as law
from watermark.jurisdictions import Extent, Place
from webapp.jobs.errors import JobsError
from webapp.jobs.errors import option_invalid as _invalid
from webapp.jobs.mask_options import MaskOptions, mask_choices
from webapp.profile import is_live
from worker.media.scaling import is_too_large, output_size
from worker.model_choice import (
    ENHANCERS,
    MESH,
    SWAPPERS,
    UPSCALERS,
    ModelsMissingError,
    enlargement,
    installed,
    mask_models,
    mask_types,
    neural_set,
)
from worker.spec import (
    LEAST_FPS,
    LEAST_HEIGHT,
    LEAST_SCALE,
    MOST_BOOST,
    MOST_FPS,
    MOST_HEIGHT,
    MOST_SCALE,
    PHOTO_MIMES,
    VIDEO_MIMES,
    Blend,
    Label,
    MarkMode,
    Others,
    Preset,
    VideoCodec,
)

PURPOSES = ("personal", "social", "advertising", "film")
LISTS: Mapping[str, Collection[str]] = {"jurisdictions": law.RULES, "territories": territories.codes()}


@dataclass(frozen=True)
class Options(MaskOptions):
    """Choices of one job, with their defaults. `output_mime` "" means: JPEG for a photo, MP4 for a video.

    `jurisdictions` are added to the house's. `label_language` "" is the house's. Nothing here makes the label less than
    what the rules of all these jurisdictions demand. `territories` (ISO 3166-1 alpha-2) are where the result is shown,
    `partner` names who gets it besides the organisation, `political` says what it speaks for: the people's permissions
    must allow all three.

    `swapper` is "mesh", which is built in, or the name of a model that the operator has installed (see `model_choice`);
    with such a one `enhancer` may name another, "" for none, and `pixel_boost` makes the face with so many times the
    model's own pixels a side. `enhancer_blend` is how much of the enhanced face shows, in per cent; the masks say where
    the new face does, `blend` how it is joined to the picture round it. An `upscaler` makes the whole result larger by
    its model's factor, whatever the swapper. `others` says what becomes of the faces that are not replaced: they are
    never touched, or on request made unrecognisable.
    For videos: `crf` is the quality on x264's scale whatever the `codec`, `preset` the work it may cost; `height` in
    pixels or else `scale` the size; `fps` the frames per second, None for the target's own; `trim_start` and `trim_end`
    in seconds the part that is kept. A photo has no use for them.
    """

    output_mime: str = ""
    mark_mode: MarkMode = "default"
    label_place: Place = law.DEFAULT_PLACE
    label_language: str = ""
    label_extent: Extent = "throughout"
    jurisdictions: tuple[str, ...] = ()
    territories: tuple[str, ...] = ()
    partner: str = ""
    political: bool = False
    jpeg_quality: int = 95
    codec: VideoCodec = "h264"
    crf: int = 18
    swapper: str = MESH
    enhancer: str = ""
    blend: Blend = "feather"
    colour_match: bool = False
    others: Others = "keep"
    enhancer_blend: int = 80
    pixel_boost: int = 1
    upscaler: str = ""
    preset: Preset = "fast"
    scale: float = 1.0
    height: int | None = None
    fps: float | None = None
    trim_start: float = 0.0
    trim_end: float | None = None

    @classmethod
    def from_mapping(cls, raw: Mapping[str, Any]) -> Self:
        """Read choices from a request. Raises JobsError option_unknown, option_invalid."""
        unknown = sorted(set(raw) - set(cls.__dataclass_fields__))
        if unknown:
            raise JobsError(
                "option_unknown",
                f"There is no option {unknown[0]!r}; no job was made. There are {', '.join(cls.__dataclass_fields__)}.",
            )
        lists = {name: _named(name, raw.get(name, ()), known) for name, known in LISTS.items()}
        options = cls(**{**raw, **lists, **mask_choices(raw)})
        for name, allowed in (
            ("output_mime", ("", *PHOTO_MIMES, *VIDEO_MIMES)),
            ("mark_mode", get_args(MarkMode)),
            ("label_place", get_args(Place)),
            ("label_language", ("", *law.WORDS)),
            ("label_extent", get_args(Extent)),
            ("codec", get_args(VideoCodec)),
            ("preset", get_args(Preset)),
            ("swapper", SWAPPERS),
            ("enhancer", ENHANCERS),
            ("blend", get_args(Blend)),
            ("others", get_args(Others)),
            ("upscaler", UPSCALERS),
        ):
            if getattr(options, name) not in allowed:
                raise _invalid(name, f"one of {', '.join(filter(None, allowed))}")
        if options.enhancer and options.swapper == MESH:
            raise _invalid("enhancer", f"left out with the swapper {MESH}, which has none")
        if options.pixel_boost != 1 and options.swapper == MESH:
            raise _invalid("pixel_boost", f"left out with the swapper {MESH}, which has no size of its own")
        if options.swapper == MESH and options.masking() != MaskOptions().masking():
            raise _invalid("mask_types", f"left out with the swapper {MESH}, as all about masks: it has its own")
        for name in ("political", "colour_match"):
            if type(getattr(options, name)) is not bool:
                raise _invalid(name, "true or false")
        if not isinstance(options.partner, str) or not (options.partner == "" or is_name(options.partner, longest=120)):
            raise _invalid("partner", "a name of at most 120 characters on one line")
        for name, low, high in (
            ("jpeg_quality", 60, 100),
            ("crf", 10, 35),
            ("pixel_boost", 1, MOST_BOOST),
            ("enhancer_blend", 0, 100),
        ):
            value = getattr(options, name)
            if type(value) is not int or not low <= value <= high:
                raise _invalid(name, f"a whole number from {low} to {high}")
        options._check_video()
        return options

    def _check_video(self) -> None:
        if self.codec == "av1" and self.output_mime == "video/quicktime":
            raise _invalid("codec", "h264 or hevc for video/quicktime, which holds no av1")
        if not _is_number(self.scale) or not LEAST_SCALE <= self.scale <= MOST_SCALE:
            raise _invalid("scale", f"a number from {LEAST_SCALE} to {MOST_SCALE}")
        if self.height is not None:
            if type(self.height) is not int or not LEAST_HEIGHT <= self.height <= MOST_HEIGHT:
                raise _invalid("height", f"a whole number of pixels from {LEAST_HEIGHT} to {MOST_HEIGHT}")
            if self.scale != 1.0:
                raise _invalid("scale", "left out where height is given")
        if self.fps is not None and not (_is_number(self.fps) and LEAST_FPS <= self.fps <= MOST_FPS):
            raise _invalid("fps", f"a number from {LEAST_FPS:g} to {MOST_FPS:g}")
        if not (_is_number(self.trim_start) and self.trim_start >= 0):
            raise _invalid("trim_start", "a number of seconds, 0 or more")
        if self.trim_end is not None and not (_is_number(self.trim_end) and self.trim_end > self.trim_start):
            raise _invalid("trim_end", "a number of seconds after trim_start")

    def check_target(self, kind: str, media: Mapping[str, Any], face: Mapping[str, Any]) -> None:
        """Raise JobsError option_invalid where these choices do not fit the target.

        `kind`, `media` and `face` are as its asset tells them, the last two empty where it was not looked at yet.
        """
        self.mime_for(kind)
        size = int(media.get("width") or 0), int(media.get("height") or 0)
        if self.upscaler and is_too_large(result := self.size_of(*size, kind=kind), kind):
            allowed = "a smaller one, or a smaller scale" if kind == "video" else "a smaller one"
            raise _invalid("upscaler", f"{allowed}: the result would have {result[0]} x {result[1]} pixels, too many")
        if kind == "photo":
            return
        if min(size) >= LEAST_HEIGHT > min(self.size_of(*size)):
            name = "scale" if self.height is None else "height"
            raise _invalid(name, f"so large that the shorter side of the result has {LEAST_HEIGHT} pixels or more")
        duration, first, last = media.get("duration"), face.get("first_seconds"), face.get("last_seconds")
        if duration and self.trim_start >= duration:
            raise _invalid("trim_start", f"before the end of the video, which lasts {duration:.1f} seconds")
        gone = last is not None and last < self.trim_start
        if gone or (first is not None and self.trim_end is not None and first >= self.trim_end):
            raise JobsError(
                "option_invalid",
                "The chosen face is not seen in the part from trim_start to trim_end; nothing was made. "
                "Choose another part or another face.",
            )

    def seconds_of(self, duration: float) -> float:
        """How long a result is whose target lasts `duration` seconds."""
        end = duration if self.trim_end is None else min(duration, self.trim_end)
        return max(0.0, end - self.trim_start)

    def size_of(self, width: int, height: int, *, kind: str = "video") -> tuple[int, int]:
        """The (width, height) of a result whose target has this size."""
        size = (width, height)
        if kind == "video" and all(size):
            size = output_size((width // 2 * 2, height // 2 * 2), scale=self.scale, height=self.height)[0]
        factor = enlargement(self.upscaler)
        return size[0] * factor, size[1] * factor

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

    def check_models(self) -> None:
        """Raises JobsError model_missing where the swapper or what goes with it is not installed."""
        if self.swapper == MESH and not self.upscaler:
            return
        there = installed(settings.OPERATOR_MODELS_DIR)
        try:
            if self.swapper != MESH:
                neural_set(self.swapper, self.enhancer, there)
                mask_models(mask_types(self.mask_types, there), self.mask_models, there)
            if self.upscaler and self.upscaler not in there:
                raise ModelsMissingError([self.upscaler])
        except ModelsMissingError as error:
            raise JobsError(error.code, error.message) from error

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

    def shown_in(self) -> frozenset[str] | None:
        """Where the result is shown, None for everywhere; the account's jurisdictions say it where nothing else does.

        The house's own jurisdictions do not: they are rules that it always keeps, not places it keeps to.
        """
        named = self.territories or tuple(
            code for name in self.jurisdictions for code in territories.OF_JURISDICTION.get(name, ())
        )
        return frozenset(named) or None

    def _rules(self) -> tuple[str, ...]:
        return (*settings.JURISDICTIONS, *self.jurisdictions)


def _named(option: str, raw: Any, known: Collection[str]) -> tuple[str, ...]:
    if not isinstance(raw, list | tuple) or not all(isinstance(name, str) and name in known for name in raw):
        allowed = ", ".join(law.RULES) if option == "jurisdictions" else "ISO 3166-1 alpha-2 country codes"
        raise _invalid(option, f"a list of {allowed}")
    return tuple(dict.fromkeys(raw))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
