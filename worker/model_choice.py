"""Which models a job may choose, and which of them the operator has installed.

A leaf: the web side asks it too, and no model code is imported. What there is to choose stands in the registry's data.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MESH: Final = "mesh"
"""The built-in swapper, which needs no model but the built-in ones."""
_REGISTRY: Final = Path(__file__).with_name("inference") / "registry.toml"


class ModelsMissingError(Exception):
    """A job wants models that are not installed; `code` is stable."""

    code = "model_missing"

    def __init__(self, missing: Collection[str]) -> None:
        files = ", ".join(f"{name}.onnx" for name in missing)
        self.message = (
            f"The models that were chosen are not installed here: {files} is not there. Nothing was made. Choose the "
            f"swapper {MESH!r}, or have the operator put the files into the folder IMPRIMATUR_EXTRA_MODELS and end "
            "the engine, which then starts with them."
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


def installed(folder: Path | None) -> frozenset[str]:
    """Names of the known models whose files lie in an operator's folder; None or a folder that is away: none."""
    if folder is None:
        return frozenset()
    return frozenset(name for name in _MODELS if (folder / f"{name}.onnx").is_file())


def ready(folder: Path | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
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


def _read() -> Mapping[str, Mapping[str, Any]]:
    models: Mapping[str, Mapping[str, Any]] = tomllib.loads(_REGISTRY.read_text("utf-8"))["operator"]
    return models


_MODELS: Final = _read()  # the file is part of the program, like this module
SWAPPERS: Final = (MESH, *_of_role("face_swapper"))
ENHANCERS: Final = ("", *_of_role("face_enhancer"))
