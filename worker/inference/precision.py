"""Which file and precision to open for a model on a device: policy as data, and proof before use.

A lower precision is a second file beside the registered one, made by `worker.inference.quantise`. It is opened only
where a record says that exactly these bytes, made from exactly the registered file, passed the gate on this kind of
processor with this version of the runtime, and that record's metrics still keep the limits in force.
"""

import logging
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol, cast, get_args

import numpy as np
from numpy.typing import NDArray

from worker.inference import accuracy, proof, samples
from worker.inference.builtin import write_atomically
from worker.inference.proof import Candidate, LowerPrecision, UnprovenError
from worker.inference.registry import ModelCard, Precision
from worker.inference.types import ModelError

log = logging.getLogger(__name__)


POLICY_PATH: Final = Path(__file__).with_name("precision.toml")
FULL: Final = "fp32"
_READERS: Final[Mapping[str, Callable[..., accuracy.Reader]]] = {
    "detector": accuracy.DetectorReader,
    "face_list": accuracy.FaceListReader,
    "landmarks": accuracy.LandmarkReader,
    "descriptor": accuracy.DescriptorReader,
    "image": accuracy.ImageReader,
}


class Session(Protocol):
    """What the gate needs of an ONNX Runtime session."""

    def run(self, output_names: Any, input_feed: Any) -> Any: ...


OpenSession = Callable[[bytes], Session]


@dataclass(frozen=True)
class PrecisionPolicy:
    """What is wanted of one model, how it is compared with itself in float32, and how far it may stray.

    `wanted` maps a device ("cpu", "cuda", "tensorrt") to a precision; `keep` maps a precision to the nodes, or
    op:TYPE, that stay in float32.
    """

    model: str
    gate: str
    mode: Literal["prefer", "require"]
    wanted: Mapping[str, Precision]
    keep: Mapping[str, tuple[str, ...]]
    reader: accuracy.Reader
    limits: accuracy.Limits

    def wanted_on(self, device: str) -> Precision:
        """The precision wanted on a device."""
        return self.wanted.get(device, FULL)


@dataclass(frozen=True)
class Chosen:
    """What to open: the precision and the bytes."""

    precision: Precision
    data: bytes


def read_policies(*paths: Path) -> Mapping[str, PrecisionPolicy]:
    """The policies of TOML files by model; what a later file says stands over an earlier one, key by key.

    An operator's file so holds only what differs from the shipped one (`POLICY_PATH`). Raises OSError, and ValueError
    if the whole is malformed.
    """
    data: dict[str, Any] = {}
    for path in paths:
        data = _overlaid(data, tomllib.loads(path.read_text("utf-8")))
    try:
        gates = {
            name: accuracy.Limits(MappingProxyType(entry["at_most"]), MappingProxyType(entry["at_least"]))
            for name, entry in data["gates"].items()
        }
        return MappingProxyType({name: _policy(name, entry, gates) for name, entry in data["models"].items()})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{' and '.join(path.name for path in paths)} lack or misname {error}") from error


def policies() -> Mapping[str, PrecisionPolicy]:
    """The policies that ship with the program, by model."""
    return _POLICIES


def choose(
    models_dir: Path,
    card: ModelCard,
    data: bytes,
    device: str,
    open_session: OpenSession,
    *,
    policies: Mapping[str, PrecisionPolicy] | None = None,
) -> Chosen:
    """The file to open for `card` on `device`: the wanted lower precision if it is proven there, else `data` (fp32).

    A file that passed its gate elsewhere, but was never tried on this processor and runtime, is tried now: that opens
    two sessions by `open_session` and takes some seconds, once. `policies` defaults to the shipped ones.
    ModelError "precision_unproven" where the policy requires what is not proven; what `open_session` raises for
    `data` itself.
    """
    policy = (_POLICIES if policies is None else policies).get(card.name)
    if policy is None or (wanted := policy.wanted_on(device)) == FULL:
        return Chosen(FULL, data)

    reader = policy.reader

    def trial(lower: bytes, inputs: samples.Inputs) -> dict[str, float]:
        full = open_session(data)  # what this raises is the device's own trouble, not the lower file's
        try:
            return try_out(full, open_session(lower), card, reader, inputs)
        except Exception as error:  # ONNX Runtime raises its own pybind classes, which share no base but Exception
            raise UnprovenError(f"It does not run here ({error}).") from error

    try:
        lower = _proven(models_dir, card, policy, device, trial)
        return Chosen(wanted, lower)
    except UnprovenError as error:
        if policy.mode == "require":
            raise ModelError(
                "precision_unproven",
                f"The model {card.name} must run in {wanted} on {device}, and that is not proven. {error} No job was "
                "touched.",
            ) from error
        log.warning("model %s runs in fp32 on %s, not in %s. %s", card.name, device, wanted, error)
        return Chosen(FULL, data)


def state(
    models_dir: Path, card: ModelCard, device: str, *, policies: Mapping[str, PrecisionPolicy] | None = None
) -> str:
    """In words, what `choose` would open for a model on a device, without trying anything."""
    policy = (_POLICIES if policies is None else policies).get(card.name)
    if policy is None or (wanted := policy.wanted_on(device)) == FULL:
        return "fp32, as wanted"
    try:
        _proven(models_dir, card, policy, device, None)
    except UnprovenError as error:
        return f"fp32, though {wanted} is wanted. {error}"
    return f"{wanted}, proven"


def try_out(
    full: Session, lower: Session, card: ModelCard, reader: accuracy.Reader, inputs: samples.Inputs
) -> dict[str, float]:
    """Run both sessions on every sample, one by one, and compare: the metrics of the gate.

    An output of the lower session that is not of the contract's type and shape counts as not finite.
    """
    return accuracy.measure(reader, _outputs(full, card, inputs), _outputs(lower, card, inputs))


_Trial = Callable[[bytes, samples.Inputs], dict[str, float]]
"""Runs the gate of a lower file's bytes on samples and gives the metrics."""


def _proven(models_dir: Path, card: ModelCard, policy: PrecisionPolicy, device: str, trial: _Trial | None) -> bytes:
    """The bytes of a lower file that may be used on `device`; UnprovenError says why there is none."""
    precision = cast(LowerPrecision, policy.wanted_on(device))
    problem = UnprovenError(f"No such file: run `manage.py models quantise {card.name} --precision {precision}`.")
    for path in sorted(models_dir.glob(f"{card.name}.{precision}.*.onnx")):
        try:
            candidate = Candidate(card, precision, path.stem, path.read_bytes())
            here = proof.record_path(models_dir, path.stem, device)
            if here.exists():
                proof.hold(proof.read_record(here), candidate, policy.limits, device)
            else:
                _prove_here(models_dir, candidate, policy, device, trial)
            return candidate.data
        except OSError as error:
            problem = UnprovenError(f"The file {path.name} cannot be read ({error.strerror}).")
        except UnprovenError as error:
            problem = error
    raise problem


def _prove_here(
    models_dir: Path, candidate: Candidate, policy: PrecisionPolicy, device: str, trial: _Trial | None
) -> None:
    """Run the gate of a file that passed elsewhere and keep the record; UnprovenError unless it passes here too."""
    elsewhere = _record_elsewhere(models_dir, candidate, policy.limits)
    if trial is None:
        raise UnprovenError(f"It passed elsewhere ({elsewhere.place}); it is tried when it is first opened here.")
    try:
        kept = samples.load(proof.samples_path(models_dir, candidate.stem))
    except (OSError, ValueError) as error:
        raise UnprovenError(f"The samples to try it with cannot be read ({error}). {proof.AGAIN}") from error
    if (digest := samples.digest(kept)) != elsewhere.drawn:
        raise UnprovenError(f"The samples to try it with are not those that it was made with. {proof.AGAIN}")
    record = proof.sign_off(
        candidate,
        recipe=elsewhere.recipe,
        device=device,
        samples=digest,
        drawn=digest,
        metrics=trial(candidate.data, kept),
        limits=policy.limits,
    )
    try:
        write_atomically(proof.record_path(models_dir, candidate.stem, device), record.sealed())
    except OSError as error:  # the proof holds all the same; the next start has to run it again
        log.warning("the record of %s on %s could not be kept: %s", candidate.stem, device, error)
    proof.hold(record, candidate, policy.limits, device)


def _record_elsewhere(models_dir: Path, candidate: Candidate, limits: accuracy.Limits) -> proof.GateRecord:
    """A passing record of exactly this file from any place: the file is what `quantise` made and signed off."""
    for path in sorted(models_dir.glob(f"{candidate.stem}.*.json")):
        try:
            record = proof.read_record(path)
            proof.hold(record, candidate, limits, None)
            return record
        except UnprovenError:
            continue
    raise UnprovenError(f"It has no record of a passed gate. {proof.AGAIN}")


def _outputs(session: Session, card: ModelCard, inputs: samples.Inputs) -> dict[str, NDArray[np.float32]]:
    names = list(card.contract.outputs)
    rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    for index in range(samples.count(inputs)):
        found = session.run(names, {name: array[index : index + 1] for name, array in inputs.items()})
        for name, array in zip(names, found, strict=True):
            rows[name].append(_values(array, card, name))
    empty = {name: np.zeros((0, *card.contract.outputs[name]), np.float32) for name in names}
    return {name: np.concatenate([empty[name], *found]) for name, found in rows.items()}


def _values(array: NDArray[Any], card: ModelCard, name: str) -> NDArray[np.float32]:
    """An output as the model's own file gives it, of which policies speak: a picture's bytes as its values."""
    contract = card.contract
    shape, dtype = (1, *contract.outputs[name]), contract.output_type(name)
    if array.dtype != dtype or array.shape != shape:
        return np.full(shape, np.nan, np.float32)
    return contract.image.values(array) if contract.image is not None and dtype == np.uint8 else array


def _overlaid(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _overlaid(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _policy(name: str, entry: Mapping[str, Any], gates: Mapping[str, accuracy.Limits]) -> PrecisionPolicy:
    read = {key: tuple(value) if isinstance(value, list) else value for key, value in entry["read"].items()}
    wanted = dict(entry["wanted"])
    if not set(wanted.values()) <= set(get_args(Precision)) or entry["mode"] not in ("prefer", "require"):
        raise ValueError(f"the policy of {name} names an unknown precision or mode")
    return PrecisionPolicy(
        model=name,
        gate=entry["gate"],
        mode=entry["mode"],
        wanted=MappingProxyType(wanted),
        keep=MappingProxyType({key: tuple(nodes) for key, nodes in entry["keep"].items()}),
        reader=_READERS[entry["gate"]](**read),
        limits=gates[entry["gate"]],
    )


_POLICIES: Final = read_policies(POLICY_PATH)  # the file is part of the program, like this module
