"""What an account may choose about where a swapped face shows; read by `options`, which it is a part of."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from webapp.jobs.errors import option_invalid
from worker.model_choice import OCCLUDERS, PARSERS
from worker.spec import (
    MASK_AREAS,
    MASK_REGIONS,
    MASK_TYPES,
    MOST_MASK_PADDING,
    MaskArea,
    Masking,
    MaskRegion,
    MaskType,
)

MASK_LISTS: Final[Mapping[str, Sequence[str]]] = {
    "mask_types": MASK_TYPES,
    "mask_areas": MASK_AREAS,
    "mask_regions": MASK_REGIONS,
    "mask_models": (*OCCLUDERS, *PARSERS),
}


@dataclass(frozen=True)
class MaskOptions:
    """Masks of a neural swap, as `worker.spec.Masking` explains them; the built-in swapper has its own.

    `mask_models` names the occluders and parsers; with none, the first that is installed is asked.
    """

    mask_types: tuple[MaskType, ...] = ("auto",)
    mask_areas: tuple[MaskArea, ...] = MASK_AREAS
    mask_regions: tuple[MaskRegion, ...] = MASK_REGIONS
    mask_blur: float = 0.3
    mask_padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    mask_models: tuple[str, ...] = ()

    def masking(self) -> Masking:
        """The same for the pipeline."""
        return Masking(
            self.mask_types, self.mask_areas, self.mask_regions, self.mask_blur, self.mask_padding, self.mask_models
        )


def mask_choices(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The choices about masks in a request, checked, lists as tuples. Raises JobsError option_invalid."""
    found: dict[str, Any] = {}
    for name, known in MASK_LISTS.items():
        if name in raw:
            found[name] = _list_of(name, raw[name], known)
    if "mask_blur" in raw:
        blur = raw["mask_blur"]
        if type(blur) not in (int, float) or not (math.isfinite(blur) and 0 <= blur <= 1):
            raise option_invalid("mask_blur", "a number from 0 to 1")
        found["mask_blur"] = blur
    if "mask_padding" in raw:
        padding = raw["mask_padding"]
        if not isinstance(padding, list | tuple) or len(padding) != 4 or not all(_is_share(one) for one in padding):
            allowed = f"four whole numbers from 0 to {MOST_MASK_PADDING}, in per cent: top, right, bottom, left"
            raise option_invalid("mask_padding", allowed)
        found["mask_padding"] = tuple(padding)
    return found


def _list_of(name: str, raw: Any, known: Collection[str]) -> tuple[str, ...]:
    may_be_empty = name == "mask_models"
    named = isinstance(raw, list | tuple) and all(isinstance(one, str) and one in known for one in raw)
    if not named or not (raw or may_be_empty):
        raise option_invalid(name, f"a list of {'' if may_be_empty else 'at least one of '}{', '.join(known)}")
    return tuple(dict.fromkeys(raw))


def _is_share(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST_MASK_PADDING
