"""Which models a job may choose, and which of them the operator has installed.

A leaf: the web side asks it too, and no model code is imported. What there is to choose stands in the registry's data.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MESH: Final = "mesh"
"""The built-in swapper, which needs no model but the built-in ones."""
RECORD: Final = "store.json"
"""In an operator's folder: which SHA-256 is pinned for each model, and which licences were accepted."""
_REGISTRY: Final = Path(__file__).with_name("inference") / "registry.toml"


class ModelsMissingError(Exception):
    """A job wants models that are not installed; `code` is stable."""

    code = "model_missing"

    def __init__(self, missing: Collection[str]) -> None:
        self.message = (
            f"Models that this needs are not installed here: {', '.join(missing)}. Nothing was made. Choose the "
            f"swapper {MESH!r}, or ask the operator, who adds them with `manage.py models install`."
        )
        super().__init__(self.message)


@dataclass(frozen=True)
class NeuralSet:
    """The models that carry one job out, by name; `enhancer` "" for none."""

    detector: str
    landmarks: str
    embedding: str
    swapper: str
    enhancer: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(filter(None, (self.detector, self.landmarks, self.embedding, self.swapper, self.enhancer)))


def _of_role(role: str) -> tuple[str, ...]:
    return tuple(name for name, entry in _MODELS.items() if entry["role"] == role)


def neural_set(swapper: str, enhancer: str, there: Collection[str]) -> NeuralSet:
    """The models with which `swapper` works, of those that are `there`. Raises ModelsMissingError.

    Of several detectors the first of the registry is taken.
    """

    def first(role: str) -> str:
        names = _of_role(role)
        return next((name for name in names if name in there), names[0])

    entry = _MODELS.get(swapper)
    if entry is None:
        raise ModelsMissingError([swapper])
    found = NeuralSet(
        detector=first("face_detector"),
        landmarks=first("face_landmarks"),
        embedding=str(entry["contract"]["identity"]),
        swapper=swapper,
        enhancer=enhancer,
    )
    missing = [name for name in found.names if name not in there]
    if missing:
        raise ModelsMissingError(missing)
    return found


def installed(folder: Path) -> frozenset[str]:
    """Names of the models that an operator has installed in `folder` and may use; none where that is not there.

    Whether a file still has the SHA-256 that is pinned for it is for the engine to see, which reads it.
    """
    try:
        record = json.loads((folder / RECORD).read_bytes())
        pins, licences = record["pins"], record["licences"]
        return frozenset(
            name
            for name, entry in _MODELS.items()
            if name in pins
            and licence_allows(entry["licence"], entry["commercial_use"], licences.get(name, {}).get("licence"))
            and (folder / f"{name}.onnx").is_file()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return frozenset()


def accepted_licence(folder: Path, name: str) -> str | None:
    """The name of the licence that the operator accepted for `name`, None where there is no such word."""
    try:
        found = json.loads((folder / RECORD).read_bytes())["licences"][name]["licence"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(found)


def licence_allows(licence: str, commercial_use: bool, accepted: str | None) -> bool:
    """Whether a model under `licence` may be used, given the name of the licence that the operator `accepted`."""
    return commercial_use or accepted == licence


def ready(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What can be chosen right now besides the built-in swapper: (swappers, enhancers). Empty without a whole set."""
    there = installed(folder)
    swappers = []
    for name in SWAPPERS[1:]:
        try:
            neural_set(name, "", there)
        except ModelsMissingError:
            continue
        swappers.append(name)
    return tuple(swappers), tuple(name for name in ENHANCERS if name in there) if swappers else ()


def operator_entries(data: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The entries of the operator models in `data`, the whole registry; `like` takes over what another entry says."""
    entries = data["operator"]
    return {name: {**entries.get(entry.get("like"), {}), **entry} for name, entry in entries.items()}


_MODELS: Final = operator_entries(
    tomllib.loads(_REGISTRY.read_text("utf-8"))
)  # the file is part of the program, like this module
SWAPPERS: Final = (MESH, *_of_role("face_swapper"))
ENHANCERS: Final = ("", *_of_role("face_enhancer"))
