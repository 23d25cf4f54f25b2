"""The advanced choices of how a face is made: what the form offers, what came back, and the options it means."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

from django.http import QueryDict

from webapp.jobs.mask_options import MaskOptions
from webapp.jobs.options import Options
from webapp.pages import words
from worker.model_choice import OCCLUDERS, PARSERS, UPSCALERS
from worker.spec import MASK_AREAS, MASK_REGIONS, MOST_MASK_PADDING

_USUAL: Final = Options()
_EDGES: Final = ("top", "right", "bottom", "left")
_LISTS: Final = {"mask_types": words.MASKS, "mask_areas": words.MASK_AREAS, "mask_regions": words.MASK_REGIONS}
# Without JavaScript a box that is not ticked is not sent: what the areas and regions say counts with their mask only.
_OF_MASK: Final = {"mask_areas": "area", "mask_regions": "region"}


@dataclass
class FaceAnswers:
    """What the form says about the face, as text, with a message per wrong field. No ticked mask means: as usual."""

    enhancer_blend: str = str(_USUAL.enhancer_blend)
    mask_types: list[str] = field(default_factory=list)
    mask_areas: list[str] = field(default_factory=lambda: list(MASK_AREAS))
    mask_regions: list[str] = field(default_factory=lambda: list(MASK_REGIONS))
    mask_blur: str = str(_USUAL.mask_blur)
    padding: list[str] = field(default_factory=lambda: ["0"] * 4)
    upscaler: str = ""
    blend: str = _USUAL.blend
    colour_match: bool = False
    errors: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, data: QueryDict) -> FaceAnswers:
        """The form's content; a field that is missing keeps its default."""
        answers = cls()
        for name in ("enhancer_blend", "mask_blur", "upscaler", "blend"):
            setattr(answers, name, data.get(name, getattr(answers, name)).strip()[:40])
        answers.padding = [data.get(f"mask_padding_{edge}", "0").strip()[:4] or "0" for edge in _EDGES]
        errors = answers.errors
        for name, known in _LISTS.items():
            if name == "mask_types" or _OF_MASK[name] in answers.mask_types:
                setattr(answers, name, [code for code in known if code in data.getlist(name)])
                if name != "mask_types" and not getattr(answers, name):
                    errors[name] = "Tick at least one of these, or leave that mask out."
        if not _within(answers.enhancer_blend, 100):
            errors["enhancer_blend"] = "Write a whole number from 0 to 100."
        if answers.mask_blur not in words.MASK_BLURS:
            errors["mask_blur"] = "Choose one of these."
        if not all(_within(one, MOST_MASK_PADDING) for one in answers.padding):
            errors["mask_padding"] = f"Write whole numbers from 0 to {MOST_MASK_PADDING}."
        answers.colour_match = "colour_match" in data
        if answers.upscaler not in UPSCALERS:
            errors["upscaler"] = "Choose one of these."
        if answers.blend not in words.BLENDS:
            errors["blend"] = "Choose one of these."
        return answers

    @property
    def changed(self) -> bool:
        """Whether anything about the face differs from the defaults, so that the page must not hide it."""
        apart = {"upscaler", "blend"}  # fields outside of what this opens
        about_face = {name for name in self.errors if name not in apart}
        usual = FaceAnswers(upscaler=self.upscaler, blend=self.blend, errors=self.errors)
        return bool(about_face) or self != usual

    def options(self, *, neural: bool) -> dict[str, Any]:
        """As `webapp.jobs.options` takes them; nothing for what was left as it is, or has no use for the swapper."""
        found: dict[str, Any] = {"upscaler": self.upscaler} if self.upscaler else {}
        if self.blend != _USUAL.blend:
            found["blend"] = self.blend
        if neural and self.colour_match:
            found["colour_match"] = True
        if neural:
            masks = {
                "mask_types": self.mask_types or MaskOptions().mask_types,
                "mask_areas": self.mask_areas,
                "mask_regions": self.mask_regions,
                "mask_blur": float(self.mask_blur),
                "mask_padding": [int(one) for one in self.padding],
                "enhancer_blend": int(self.enhancer_blend),
            }
            usual = _USUAL.to_dict()
            found |= {name: value for name, value in masks.items() if _plain(value) != _plain(usual[name])}
        return found


@dataclass(frozen=True)
class Ticks:
    """One group of boxes of the form."""

    name: str
    label: str
    hint: str
    boxes: list[tuple[str, str, bool]]
    error: str


def ticks_of(answers: FaceAnswers, there: Collection[str]) -> list[Ticks]:
    """The groups of boxes with what was ticked; masks and regions only where a model that tells is `there`."""
    needed = {"occlusion": OCCLUDERS, "region": PARSERS}
    missing = {kind for kind, role in needed.items() if not any(name in there for name in role)}
    groups = []
    for name, offered in _LISTS.items():
        if _OF_MASK.get(name) in missing:
            continue
        label, hint = words.MASK_GROUPS[name]
        boxes = [(code, text, code in getattr(answers, name)) for code, text in offered.items() if code not in missing]
        groups.append(Ticks(name, label, hint, boxes, answers.errors.get(name, "")))
    return groups


def context_of(answers: FaceAnswers, there: Collection[str]) -> dict[str, Any]:
    """What the template of these choices needs; `there` are the models that are installed."""
    return {
        "face": answers,
        "mask_groups": ticks_of(answers, there),
        "blends": words.BLENDS.items(),
        "mask_blurs": words.MASK_BLURS.items(),
        "mask_paddings": list(zip(_EDGES, answers.padding, strict=True)),
        "upscalers": [name for name in UPSCALERS[1:] if name in there],
    }


def _within(text: str, most: int) -> bool:
    return text.isascii() and text.isdecimal() and int(text) <= most


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
