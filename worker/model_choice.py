"""Which models a job may choose, and which of them the operator has installed.

A leaf: the web side asks it too, and no model code is imported. What there is to choose stands in the registry's data.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from worker.spec import MaskType

MESH: Final = "mesh"
"""The built-in swapper, which needs no model but the built-in ones."""
BUILTIN_DETECTOR: Final = "blazeface"
"""The two built-in detectors, which always look together."""
_BUILTIN: Final = {
    "face_detector": BUILTIN_DETECTOR,
    "face_landmarks": "face_mesh",
    "face_embedding": "face_descriptor",
}
RECORD: Final = "store.json"
"""In an operator's folder: which SHA-256 is pinned for each model, and which licences were accepted."""
_CARDS: Final = Path(__file__).with_name("inference") / "cards"


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
    """The models that carry one job out, by name; `converter` and `enhancer` "" for none."""

    detector: str
    landmarks: str
    embedding: str
    swapper: str
    enhancer: str = ""
    converter: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        named = (self.detector, self.landmarks, self.embedding, self.converter, self.swapper, self.enhancer)
        return tuple(filter(None, named))


def _of_role(role: str) -> tuple[str, ...]:
    return tuple(name for name, entry in _MODELS.items() if entry["role"] == role)


def neural_set(swapper: str, enhancer: str, there: Collection[str]) -> NeuralSet:
    """The models with which `swapper` works, of those that are `there`. Raises ModelsMissingError."""
    entry = _MODELS.get(swapper)
    if entry is None:
        raise ModelsMissingError([swapper])
    found = NeuralSet(
        detector=all_of("face_detector", there)[0],
        landmarks=all_of("face_landmarks", there)[0],
        embedding=str(entry["contract"]["identity"]),
        swapper=swapper,
        enhancer=enhancer,
        converter=converter_of(swapper),
    )
    missing = [name for name in found.names if name not in there and name not in _BUILTIN.values()]
    if missing:
        raise ModelsMissingError(missing)
    return found


def mask_types(types: Collection[MaskType], there: Collection[str]) -> tuple[MaskType, ...]:
    """What mask types mean, given the models that are `there`: "auto" is box, and occlusion where an occluder is."""
    if "auto" not in types:
        return tuple(types)
    found: list[MaskType] = ["box", *(name for name in types if name != "auto")]
    if any(name in there for name in OCCLUDERS):
        found.insert(1, "occlusion")
    return tuple(dict.fromkeys(found))


def mask_models(types: Collection[str], chosen: Collection[str], there: Collection[str]) -> tuple[str, ...]:
    """The models that masks of `types` need: of each role those `chosen`, or else the first that is `there`.

    Raises ModelsMissingError.
    """
    names: list[str] = []
    for kind, role in (("occlusion", OCCLUDERS), ("region", PARSERS)):
        if kind in types:
            first = next((name for name in role if name in there), role[0])
            names += [name for name in role if name in chosen] or [first]
    if missing := [name for name in names if name not in there]:
        raise ModelsMissingError(missing)
    return tuple(names)


def enlargement(upscaler: str) -> int:
    """How many times larger a picture is after `upscaler`, a name of `UPSCALERS`."""
    if not upscaler:
        return 1
    contract = _MODELS[upscaler]["contract"]
    image = contract["image"]
    return int(contract["outputs"][image["output"]][-1]) // int(image["side"])


def converter_of(swapper: str) -> str:
    """The model that turns an embedding into what `swapper` takes; "" where it needs none."""
    return str(_MODELS[swapper]["contract"].get("converter", "")) if swapper in _MODELS else ""


def makers(swapper: str, enhancer: str, upscaler: str = "") -> tuple[str, ...]:
    """The models that make a result's faces, in the order of their work, as its record and its manifest name them.

    An upscaler makes the faces too, and all else.
    """
    return tuple(filter(None, (converter_of(swapper), swapper, enhancer, upscaler)))


def all_of(role: str, there: Collection[str]) -> tuple[str, ...]:
    """The models of a role for which there is a built-in one: those that are `there`, best first, then the built-in.

    The registry's order says which is the better one; what never looks at the picture is for who asks for it by name.
    """
    seeing = (name for name in _of_role(role) if name in there and "image" in _MODELS[name]["contract"])
    return (*seeing, _BUILTIN[role])


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


def ready(there: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What can be chosen besides the built-in swapper where these models are `installed`: (swappers, enhancers).

    Empty without a whole set.
    """
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


@cache
def registry_data() -> dict[str, dict[str, Any]]:
    """The whole registry: the tables `packages`, `models`, `hosts` and `operator` of all its files in one.

    Of several models of one kind the first in its file is the one that is taken where nobody chose. The files are part
    of the program, like this module.
    """
    data: dict[str, dict[str, Any]] = {}
    for path in sorted(_CARDS.glob("*.toml")):
        for table, entries in tomllib.loads(path.read_text("utf-8")).items():
            there = data.setdefault(table, {})
            if twice := there.keys() & entries.keys():
                raise ValueError(f"{path.name} registers {', '.join(sorted(twice))} a second time")
            there.update(entries)
    return data


_MODELS: Final = operator_entries(registry_data())
SWAPPERS: Final = (MESH, *_of_role("face_swapper"))
ENHANCERS: Final = ("", *_of_role("face_enhancer"))
OCCLUDERS: Final = _of_role("face_occluder")
PARSERS: Final = _of_role("face_parser")
UPSCALERS: Final = ("", *_of_role("frame_upscaler"))
