"""Detector packs: an ONNX file and the manifest that says what it is, how it is fed, and what its answer means.

A manifest is TOML (the operator's, beside the file) or JSON (what an installation keeps). The form is that of
reference section 8 of the gate: id, kind, species, hash and size, licence, preparation, output, known failures. Error
rates and calibration are the operator's own and lie in the record of the packs (worker.gate.packs.pack_store).
"""

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

from worker.inference.contracts import ImageContract, ModelContract
from worker.inference.packages import sha256_of
from worker.inference.registry import ModelCard, ModelSet
from worker.inference.types import ModelError

Kind = Literal["face_forgery", "ai_image", "nsfw"]
Form = Literal["probability", "logit", "softmax", "vote"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)
DETECTORS: Final = ("face_forgery", "ai_image")
FRAMINGS: Final = ("face", "box", "points", "whole", "letterbox")
SHIPPED: Final = Path(__file__).with_name("detector_packs")  # manifests of known detectors, without any weights
INSTALLED: Final = "manifest.json"  # in the folder of each installed pack, beside model.onnx
MODEL: Final = "model.onnx"
PREFIX: Final = "pack:"  # before the id: the name under which the engine knows a pack's graph
_ID: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,47}")
_LARGEST: Final = 8 << 30
_MOST_SIDE: Final = 2048


@dataclass(frozen=True)
class Pack:
    """What a manifest says. `sha256` and `size` are "" and 0 where nobody has seen the file that will be installed.

    `framing` of the picture: "face" the square around the face's box, `crop` times as long as its longer side, "box"
    that box itself grown `crop` times and stretched to a square, "points" the face turned so that its eyes, nose and
    corners of the mouth lie at `points` (0..1), "whole" the middle of the whole picture after its shorter side was
    brought to `resize` pixels (0: as it is), "letterbox" all of it, the rest black. `form` says what the output tensor
    holds at `index`: a probability, a logit, or (over all `values` of them) logits of classes; `higher` what a large
    one means.

    A pack of the kind "nsfw" votes: yes where the sum of the values `plus` less that of `minus` is over `above`; with
    `boxes` the output is [values, boxes], and the largest of the values `plus` of any box counts.

    `seconds` is how long one batch may take before the pack counts as hung. `batches` is False for a graph that was
    exported for a batch of one. `file` is the model's name beside the manifest, `weights` where it comes from.
    """

    id: str
    title: str
    kind: Kind
    species: tuple[str, ...]
    sha256: str
    size: int
    licence: str
    licence_url: str
    commercial_use: bool
    image: ImageContract
    crop: float
    resize: int
    points: tuple[tuple[float, float], ...]
    output: str
    values: int
    form: Form
    index: int
    higher: Literal["fake", "real"]
    batch: int = 8
    seconds: float = 60.0
    batches: bool = True
    plus: tuple[int, ...] = ()
    minus: tuple[int, ...] = ()
    above: float = 0.0
    boxes: int = 0
    file: str = ""
    weights: str = ""
    card: str = ""
    known_failures: tuple[str, ...] = ()

    @property
    def answer(self) -> tuple[int, ...]:
        """The shape of what it gives for one picture."""
        return (self.values, self.boxes) if self.boxes else (self.values,) if self.values else ()

    @property
    def model(self) -> str:
        """The name under which the engine runs it."""
        return PREFIX + self.id

    def model_card(self) -> ModelCard:
        """The card the engine verifies the file and checks tensors by."""
        side = self.image.side
        shape = (3, side, side) if self.image.layout == "NCHW" else (side, side, 3)
        return ModelCard(
            name=self.model,
            role=self.kind,
            sources=(),
            sha256=self.sha256,
            size=self.size,
            licence=self.licence,
            licence_url=self.licence_url,
            commercial_use=self.commercial_use,
            contract=ModelContract(
                inputs=MappingProxyType({self.image.input: shape}),
                outputs=MappingProxyType({self.output: self.answer}),
                pixels=f"{self.image.colours} 0..1, (x - {self.image.mean}) / {self.image.std}, {self.image.framing}",
                meaning=f"{self.form} at {self.index}, higher is {self.higher}",
                image=self.image,
            ),
            batches=self.batches,
            original=self.sha256,
        )

    def to_json(self) -> str:
        """As an installation keeps it; `read` is the way back."""
        raw = asdict(self)
        image = raw.pop("image")
        own = {
            "input": {
                "name": image.pop("input"),
                **image,
                **{key: raw.pop(key) for key in ("crop", "resize", "points")},
            },
            "output": {"name": raw.pop("output")}
            | {key: raw.pop(key) for key in ("values", "form", "index", "higher", "plus", "minus", "above", "boxes")},
            "run": {key: raw.pop(key) for key in ("batch", "seconds", "batches")},
        }
        return json.dumps({"format": 1, **raw, **own}, indent=1)


def read(path: Path) -> Pack:
    """The manifest in a TOML or JSON file. Raises ModelError: "source_unavailable", "pack_malformed",
    "pack_licence_missing"."""
    try:
        text = path.read_text("utf-8")
        raw = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        problem = f"The manifest {path.name} cannot be read ({error.strerror}). Nothing was changed. Check its path."
        raise ModelError("source_unavailable", problem) from error
    except ValueError as error:
        raise _malformed(path.name, str(error)) from error
    for field in ("licence", "commercial_use"):
        if not isinstance(raw, dict) or raw.get(field) in (None, ""):
            raise ModelError(
                "pack_licence_missing",
                f"The manifest {path.name} does not say its {field}, so the pack is refused. Nothing was changed. "
                "Write down under which licence the weights are, and whether it allows commercial use.",
            )
    try:
        return _pack(raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        detail = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise _malformed(path.name, detail) from error


def shipped() -> dict[str, Path]:
    """Manifests of known detectors by id; their weights are the operator's to fetch and export."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def installed(folder: Path) -> dict[str, Pack | ModelError]:
    """The packs below `folder`, by id: each readable manifest, or what is wrong with it. Model files are not opened."""
    found: dict[str, Pack | ModelError] = {}
    for manifest in sorted(folder.glob(f"*/{INSTALLED}")):
        name = manifest.parent.name
        if name.startswith("."):
            continue  # of an installation that is going on
        try:
            pack = read(manifest)
            found[name] = pack if pack.id == name else _malformed(manifest.name, f"its id is not {name}")
        except ModelError as error:
            found[name] = error
    return found


def present(folder: Path) -> ModelSet:
    """The models of the packs below `folder`, for an engine, which compares each file with its hash before it runs."""
    packs = [pack for pack in installed(folder).values() if isinstance(pack, Pack)]
    there = {pack.model: pack for pack in packs if (folder / pack.id / MODEL).is_file()}
    return ModelSet(
        gate=MappingProxyType({name: pack.model_card() for name, pack in there.items()}),
        files=MappingProxyType({name: folder / pack.id / MODEL for name, pack in there.items()}),
    )


def examine(pack: Pack, path: Path) -> Pack:
    """The pack with hash, size and batching of the file at `path`, which was proven to keep the manifest's contract.

    Raises ModelError "model_hash_mismatch", "model_unfit", "source_unavailable".
    """
    try:
        size, digest = path.stat().st_size, sha256_of(path)
    except OSError as error:
        problem = f"The file {path} cannot be read ({error.strerror}). Nothing was changed. Check its path."
        raise ModelError("source_unavailable", problem) from error
    if pack.sha256 and (digest != pack.sha256 or size != pack.size):
        raise ModelError(
            "model_hash_mismatch",
            f"The file for the pack {pack.id} has the SHA-256 {digest} and {size} bytes, its manifest says "
            f"{pack.sha256} and {pack.size}. It was not installed and nothing was changed. Fetch it again.",
        )
    proven = replace(pack, sha256=digest, size=size)
    try:
        return _prove(proven, path)
    except ModelError:
        raise
    except Exception as error:  # protobuf's and ONNX Runtime's own classes
        raise _unfit(pack, str(error)) from error


def _prove(pack: Pack, path: Path) -> Pack:
    """Run the graph on drawn noise; the pack with the name of its output and whether it takes batches.

    ModelError "model_unfit".
    """
    import numpy as np

    from worker.inference.opening import trial_session

    session = trial_session(path)
    inputs, outputs = session.get_inputs(), {one.name: one for one in session.get_outputs()}
    if [one.name for one in inputs] != [pack.image.input] or inputs[0].type != "tensor(float)":
        raise _unfit(pack, f"it takes {[(one.name, one.type) for one in inputs]}, not float32 {pack.image.input}")
    if not pack.output and len(outputs) == 1:
        pack = replace(pack, output=next(iter(outputs)))  # an exporter's own name for the only one there is
    if pack.output not in outputs or outputs[pack.output].type != "tensor(float)":
        raise _unfit(pack, f"it gives {[(one.name, one.type) for one in outputs.values()]}, not {pack.output}")
    ((name, shape),) = pack.model_card().contract.inputs.items()
    noise = np.random.default_rng(0).standard_normal((2, *shape), np.float32)
    single = session.run([pack.output], {name: noise[:1]})[0]
    if single.shape != (1, *pack.answer) or not np.isfinite(single).all():
        raise _unfit(pack, f"{pack.output} is not finite with the shape {(1, *pack.answer)}, but {single.shape}")
    if isinstance(inputs[0].shape[0], int):
        return replace(pack, batches=False)
    try:
        both = session.run([pack.output], {name: noise})[0]
    except Exception:  # ONNX Runtime's own classes: a batch of one is baked in further down
        return replace(pack, batches=False)
    return replace(pack, batches=bool(both.shape[0] == 2 and np.allclose(both[:1], single, atol=1e-3)))


def _pack(raw: Mapping[str, Any]) -> Pack:
    if raw.get("format") != 1:
        raise ValueError("its format is not 1")
    given, output, run = dict(raw["input"]), raw["output"], raw.get("run", {})
    framing = _one(given.get("framing", "face"), FRAMINGS, "framing")
    points = tuple((float(x), float(y)) for x, y in given.get("points", ()))
    image = ImageContract(
        input=str(given["name"]),
        side=int(given["side"]),
        framing=framing,
        layout=_one(given.get("layout", "NCHW"), ("NCHW", "NHWC"), "layout"),
        colours=_one(given.get("colours", "RGB"), ("RGB", "BGR"), "colours"),
        mean=_three(given.get("mean", (0, 0, 0))),
        std=_three(given.get("std", (1, 1, 1))),
    )
    pack = Pack(
        id=str(raw["id"]),
        title=str(raw.get("title") or raw["id"]),
        kind=_one(raw["kind"], KINDS, "kind"),
        species=tuple(str(one) for one in raw["species"]),
        sha256=str(raw.get("sha256", "")).lower(),
        size=int(raw.get("size", 0)),
        licence=str(raw["licence"]),
        licence_url=str(raw.get("licence_url", "")),
        commercial_use=raw["commercial_use"],
        image=image,
        crop=float(given.get("crop", 1.0)),
        resize=int(given.get("resize", 0)),
        points=points,
        output=str(output.get("name", "")),
        values=int(output.get("values", 1)),
        form=_one(output["form"], get_args(Form), "form"),
        index=int(output.get("index", 0)),
        higher=_one(output.get("higher", "fake"), ("fake", "real"), "higher"),
        batch=int(run.get("batch", 8)),
        seconds=float(run.get("seconds", 60.0)),
        batches=bool(run.get("batches", True)),
        plus=tuple(int(one) for one in output.get("plus", ())),
        minus=tuple(int(one) for one in output.get("minus", ())),
        above=float(output.get("above", 0.0)),
        boxes=int(output.get("boxes", 0)),
        file=str(raw.get("file", "")),
        weights=str(raw.get("weights", "")),
        card=str(raw.get("card", "")),
        known_failures=tuple(str(one) for one in raw.get("known_failures", ())),
    )
    if not _ID.fullmatch(pack.id):
        raise ValueError("its id is not lower-case letters, digits, dots, dashes and underscores")
    if pack.file != Path(pack.file).name:
        raise ValueError("file is a name without a folder")
    if not isinstance(pack.commercial_use, bool) or not pack.species:
        raise ValueError("commercial_use is yes or no, and species names at least one")
    if pack.sha256 and (not re.fullmatch(r"[0-9a-f]{64}", pack.sha256) or not 0 < pack.size <= _LARGEST):
        raise ValueError("sha256 and size do not name a file")
    sane = 1 <= pack.batch <= 32 and 0 < pack.seconds <= 600 and 8 <= image.side <= _MOST_SIDE
    inside = 0 <= pack.index < max(1, pack.values) and 0 <= pack.values <= 4096
    if (framing == "points") != (len(points) == 5) or not 0 <= pack.resize <= 4 * _MOST_SIDE:
        raise ValueError("framing by points needs five of them, any other none, and resize is a number of pixels")
    fitting = {"face_forgery": ("face", "box", "points"), "ai_image": ("whole",), "nsfw": ("whole", "letterbox")}
    if framing not in fitting[pack.kind]:
        raise ValueError(f"{pack.kind} does not look at {framing}")
    chosen = (*pack.plus, *pack.minus)
    if (pack.form == "vote") != (pack.kind == "nsfw") or (pack.kind == "nsfw") != bool(pack.plus):
        raise ValueError("nsfw, and nothing else, is a vote, and a vote names its values")
    if any(not 0 <= one < pack.values for one in chosen) or pack.boxes < 0 or not math.isfinite(pack.above):
        raise ValueError("a vote counts values that are there")
    if not (sane and inside and math.isfinite(pack.crop) and 0.5 <= pack.crop <= 4 and min(map(abs, image.std)) > 0):
        raise ValueError("a number is outside of what a detector can have")
    return pack


def _one(value: Any, allowed: Sequence[str], field: str) -> Any:
    if value not in allowed:
        raise ValueError(f"{field} is none of {', '.join(allowed)}")
    return value


def _three(values: Any) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    if not all(map(math.isfinite, (first, second, third))):
        raise ValueError("mean and std are finite numbers")
    return first, second, third


def _malformed(name: str, detail: str) -> ModelError:
    return ModelError(
        "pack_malformed", f"The manifest {name} is not one of a detector pack: {detail}. Nothing was changed. Mend it."
    )


def _unfit(pack: Pack, detail: str) -> ModelError:
    return ModelError(
        "model_unfit",
        f"The file cannot be used for the pack {pack.id}: {detail}. Nothing was changed. Export it as its manifest "
        "says, with float32 inputs and outputs, or mend the manifest.",
    )
