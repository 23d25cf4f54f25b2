"""Making a model's file in lower precision, and trying it before anybody may use it.

float16 by `halving`; int8 by ONNX Runtime's static quantisation in QDQ form, weights per channel, ranges of values from
calibration samples. The border of both stays as it is. Only set-up imports this (it needs onnx); a running engine needs
`precision` alone.
"""

import contextlib
import logging
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime import quantization

from worker.inference import accuracy, builtin, halving, precision, proof, registry, samples
from worker.inference.file_lock import held
from worker.inference.onnx_graph import serialise
from worker.inference.precision import OpenSession, PrecisionPolicy
from worker.inference.proof import Candidate, GateRecord, LowerPrecision
from worker.inference.registry import ModelCard
from worker.inference.sessions import read_verified
from worker.inference.types import ModelError

Progress = Callable[[str, float], None]
QuantiseErrorCode = Literal[
    "no_gate",  # the model has no policy, so nothing could tell whether the result is good
    "unknown_node",  # a keep list names what the graph does not hold
    "conversion_failed",  # the graph cannot be converted
    "samples_invalid",  # there are no samples, or too few
]
_VERSION: Final = 1  # of what this module makes from the same recipe; raise it with every change of the result
_OPERATOR: Final = "op:"
_HEAVY: Final = ("Conv", "MatMul", "Gemm")  # what int8 is worth its rounding for
_TIMED_RUNS: Final = 15


class QuantiseError(Exception):
    """A lower precision could not be made or tried. `code` is stable, the message says what to do."""

    def __init__(self, code: QuantiseErrorCode, message: str) -> None:
        super().__init__(message)
        self.code: Final = code
        self.message: Final = message


@dataclass(frozen=True)
class SampleSet:
    """Inputs of one model: `calibration` for the ranges of int8, `gate` for the trial; no picture is in both.

    `drawn` is the part of `gate` that shows nobody: only that may be kept, for trials on other devices.
    """

    calibration: samples.Inputs
    gate: samples.Inputs
    drawn: samples.Inputs


@dataclass(frozen=True)
class Outcome:
    """What was made and what the gate said. Times are processor milliseconds of one run at batch 1, one thread."""

    record: GateRecord
    lines: tuple[accuracy.Line, ...]
    path: Path | None  # None where the gate refused: then no file was left
    size_full: int
    size_lower: int
    milliseconds_full: float
    milliseconds_lower: float
    problem: str = ""  # why the file could not be tried at all


@dataclass(frozen=True)
class Recipe:
    """How a lower file is made from a given one; two equal recipes give equal files with the same libraries."""

    keep: tuple[str, ...]
    calibration: str = ""  # digest of the samples; only int8 learns from them
    operators: tuple[str, ...] = ()
    version: int = _VERSION
    libraries: Mapping[str, str] = field(default_factory=lambda: {"onnx": onnx.__version__})

    def as_dict(self) -> dict[str, Any]:
        """The recipe as JSON types."""
        return {
            "keep": list(self.keep),
            "calibration": self.calibration,
            "operators": list(self.operators),
            "version": self.version,
            "libraries": dict(self.libraries),
        }


def quantise(
    models_dir: Path,
    card: ModelCard,
    wanted: LowerPrecision,
    sets: SampleSet,
    open_session: OpenSession,
    *,
    device: str = "cpu",
    policy: PrecisionPolicy | None = None,
    keep: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> Outcome:
    """Make `card`'s file in `wanted` precision beside the registered one, run the gate, keep it if it passed.

    `open_session` opens bytes on `device`. `keep` adds to the policy's list. Where the gate refuses, a file that an
    earlier trial left under the same recipe is refused from now on too. Raises QuantiseError, and ModelError
    (of the registered file, of `open_session` for it, or "write_failed").
    """
    data = read_verified(registry.model_path(models_dir, card.name), card)
    report = progress or (lambda _words, _fraction: None)
    policy = policy or precision.policies().get(card.name)
    if policy is None:
        raise QuantiseError("no_gate", f"No gate is set for {card.name} in precision.toml, so it stays in float32.")
    if samples.count(sets.gate) == 0 or (wanted == "int8" and samples.count(sets.calibration) == 0):
        raise QuantiseError("samples_invalid", f"There are no samples for {card.name}: no face was found.")
    report(f"converting {card.name} to {wanted}", 0.0)
    kept = tuple(sorted({*policy.keep.get(wanted, ()), *keep}))
    lower, recipe = _make(card, wanted, data, kept, sets.calibration)
    candidate = Candidate(card, wanted, proof.stem(card, wanted, recipe.as_dict()), lower)
    report("running the gate", 0.6)
    metrics, times, problem = _try(candidate, policy, data, sets.gate, open_session)
    record = proof.sign_off(
        candidate,
        recipe=recipe.as_dict(),
        device=device,
        samples=samples.digest(sets.gate),
        drawn=samples.digest(sets.drawn),
        metrics=metrics,
        limits=policy.limits,
    )
    report("writing", 0.95)
    path = _keep(models_dir, candidate, record, sets.drawn, device)
    report("done", 1.0)
    lines = tuple(accuracy.judge(metrics, policy.limits))
    return Outcome(record, lines, path, len(data), len(lower), *times, problem)


def halve(data: bytes, keep: tuple[str, ...]) -> bytes:
    """The float16 file of a float32 one. Raises QuantiseError."""
    model = onnx.load_from_string(data)
    try:
        return serialise(halving.halve(model, resolve(model, keep)))
    except halving.UnsupportedGraphError as error:
        raise QuantiseError("conversion_failed", f"The graph cannot be converted to fp16: {error}.") from error


def to_int8(data: bytes, keep: tuple[str, ...], operators: tuple[str, ...], inputs: samples.Inputs) -> bytes:
    """The int8 file of a float32 one, with ranges of values from `inputs`. Raises QuantiseError."""
    model = onnx.load_from_string(data)
    excluded = resolve(model, keep)
    for node in model.graph.node:
        node.name = halving.node_name(node)  # the quantiser knows nodes by name only
    with tempfile.TemporaryDirectory(prefix="imprimatur-int8-") as folder:
        target = Path(folder) / "int8.onnx"
        try:
            with _quiet():
                quantization.quantize_static(
                    model,
                    target,
                    _Reader(inputs),
                    quant_format=quantization.QuantFormat.QDQ,
                    op_types_to_quantize=list(operators),
                    per_channel=True,
                    activation_type=quantization.QuantType.QUInt8,
                    weight_type=quantization.QuantType.QInt8,
                    nodes_to_exclude=sorted(excluded),
                )
            return serialise(onnx.load(target))
        except Exception as error:  # the quantiser raises whatever its parts raise
            raise QuantiseError("conversion_failed", f"The graph cannot be converted to int8: {error}.") from error


def resolve(model: ModelProto, keep: tuple[str, ...]) -> frozenset[str]:
    """The names of the nodes that a keep list means; QuantiseError "unknown_node" for an entry that means none."""
    chosen: set[str] = set()
    for entry in keep:
        kind = entry.removeprefix(_OPERATOR) if entry.startswith(_OPERATOR) else None
        parts = (re.escape(part) for part in entry.split("*"))  # not fnmatch: names may hold brackets
        matches = re.compile(".*".join(parts)).fullmatch
        found = {
            halving.node_name(node)
            for node in model.graph.node
            if (node.op_type == kind if kind else any(map(matches, (node.name, *node.output))))
        }
        if not found:
            kinds = ", ".join(sorted({node.op_type for node in model.graph.node}))
            raise QuantiseError(
                "unknown_node",
                f"The graph has no node {entry!r}. Name a node by its name or its output, several by *, or all "
                f"of a type as op:TYPE; the types are {kinds}.",
            )
        chosen |= found
    return frozenset(chosen)


def check(models_dir: Path, card: ModelCard, keep: tuple[str, ...]) -> None:
    """See at once what else would fail only after the samples are made: the file and the keep list.

    Raises QuantiseError "unknown_node" and what reading the registered file raises.
    """
    resolve(onnx.load_from_string(read_verified(registry.model_path(models_dir, card.name), card)), keep)


class _Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Hands the samples to the quantiser one by one."""

    def __init__(self, inputs: samples.Inputs) -> None:
        self._rows: Iterator[dict[str, NDArray[Any]]] = (
            {name: array[index : index + 1] for name, array in inputs.items()} for index in range(samples.count(inputs))
        )

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._rows, None)


def _make(
    card: ModelCard, wanted: LowerPrecision, data: bytes, keep: tuple[str, ...], calibration: samples.Inputs
) -> tuple[bytes, Recipe]:
    if wanted == "fp16":
        return halve(data, keep), Recipe(keep)
    recipe = Recipe(
        keep,
        samples.digest(calibration),
        _HEAVY,
        libraries={"onnx": onnx.__version__, "quantiser": f"onnxruntime {onnxruntime.__version__}"},
    )
    return to_int8(data, keep, _HEAVY, calibration), recipe


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser recommends, on the root logger, a pre-processing that would rename nodes: keep lists name them."""
    root = logging.getLogger()
    handler = logging.NullHandler()  # with none at all, the first message would install one
    root.addHandler(handler)
    root.addFilter(_silent)
    try:
        yield
    finally:
        root.removeFilter(_silent)
        root.removeHandler(handler)


def _silent(_record: logging.LogRecord) -> bool:
    return False


def _try(
    candidate: Candidate, policy: PrecisionPolicy, data: bytes, inputs: samples.Inputs, open_session: OpenSession
) -> tuple[dict[str, float], tuple[float, float], str]:
    """Metrics, processor milliseconds of both files, and why there are none of these.

    A float16 file is also tried as a GPU would compute it, and the worse value of each metric counts (see
    `halving.widened`).
    """
    full = open_session(data)
    try:
        lower = open_session(candidate.data)
        metrics = precision.try_out(full, lower, candidate.card, policy.reader, inputs)
        if candidate.precision == "fp16":
            wide = open_session(serialise(halving.widened(onnx.load_from_string(candidate.data))))
            there = precision.try_out(full, wide, candidate.card, policy.reader, inputs)
            metrics = accuracy.worse(metrics, there, policy.limits)
    except ModelError as error:  # does not load, or gives no finite numbers
        return {}, (float("nan"), float("nan")), error.message
    return metrics, _times(full, lower, candidate.card, inputs), ""


def _times(full: Any, lower: Any, card: ModelCard, inputs: samples.Inputs) -> tuple[float, float]:
    """Median processor time of this thread for one run of each, in turns: what disturbs one disturbs the other."""
    names = list(card.contract.outputs)
    one = {name: array[:1] for name, array in inputs.items()}
    taken = []
    for _ in range(_TIMED_RUNS):
        begin = time.thread_time()
        full.run(names, one)
        middle = time.thread_time()
        lower.run(names, one)
        taken.append((middle - begin, time.thread_time() - middle))
    first, second = 1e3 * np.median(taken, axis=0)
    return float(first), float(second)


def _keep(
    models_dir: Path, candidate: Candidate, record: GateRecord, drawn: samples.Inputs, device: str
) -> Path | None:
    """Put file and record in place, the record last; where it did not pass, only a record that says so."""
    name = candidate.stem
    path = proof.lower_path(models_dir, name)
    try:
        with held(models_dir / builtin.LOCK_NAME):
            if not record.passed:
                builtin.write_atomically(proof.record_path(models_dir, name, device), record.sealed())
                return None
            signed = proof.record_path(models_dir, name, device)
            builtin.write_atomically(proof.samples_path(models_dir, name), samples.dump(drawn))
            builtin.write_atomically(path, candidate.data)
            builtin.write_atomically(signed, record.sealed())
            # Files by other recipes, and what other places said before: they try it again.
            for old in models_dir.glob(f"{candidate.card.name}.{candidate.precision}.*"):
                if old.name not in {path.name, signed.name, proof.samples_path(models_dir, name).name}:
                    old.unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(
            "write_failed",
            f"The file of {candidate.card.name} could not be written to {models_dir} ({error.strerror or error}). "
            "Nothing that was in use was changed. Free some space or check its permissions, then try again.",
        ) from error
    return path
