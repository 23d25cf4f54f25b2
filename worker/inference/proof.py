"""Records of passed gates: which lower file was tried, made from what, where, and what came out.

A record carries a checksum over itself. It shows an edit or a torn write; it is no signature. Whoever can write to the
models folder can forge a file and its record, which the registered float32 files, pinned in the program, do not allow:
keep the folder read-only to everything but set-up where a lower precision is wanted.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import onnxruntime

from worker.inference import accuracy
from worker.inference.registry import ModelCard

LowerPrecision = Literal["fp16", "int8"]
AGAIN: Final = "Run `manage.py models quantise` for this model again."


class UnprovenError(Exception):
    """No lower file may be used; the message says why and what to do."""


@dataclass(frozen=True)
class Candidate:
    """A lower file: what it claims to be by its place and name, and its bytes."""

    card: ModelCard
    precision: LowerPrecision
    stem: str
    data: bytes


@dataclass(frozen=True)
class GateRecord:
    """What a gate found; `place` is the processor and the runtime, `samples` the digest of the inputs it used.

    `drawn` is the digest of those that are kept for trials at other places.
    """

    model: str
    precision: LowerPrecision
    source_sha256: str
    file_sha256: str
    recipe: Mapping[str, Any]
    place: str
    samples: str
    drawn: str
    metrics: Mapping[str, float]
    at_most: Mapping[str, float]
    at_least: Mapping[str, float]
    passed: bool
    made_at: str

    def sealed(self) -> bytes:
        """The file's content: the record and a checksum over it, as JSON."""
        return (json.dumps({"record": asdict(self), "checksum": _checksum(asdict(self))}, indent=2) + "\n").encode()


def sign_off(
    candidate: Candidate,
    *,
    recipe: Mapping[str, Any],
    device: str,
    samples: str,
    drawn: str,
    metrics: Mapping[str, float],
    limits: accuracy.Limits,
) -> GateRecord:
    """The record of a trial on the samples with these digests; `passed` is what the limits say."""
    return GateRecord(
        model=candidate.card.name,
        precision=candidate.precision,
        source_sha256=candidate.card.sha256,
        file_sha256=hashlib.sha256(candidate.data).hexdigest(),
        recipe=dict(recipe),
        place=place(device),
        samples=samples,
        drawn=drawn,
        metrics=dict(metrics),
        at_most=dict(limits.at_most),
        at_least=dict(limits.at_least),
        passed=accuracy.passes(metrics, limits),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def read_record(path: Path) -> GateRecord:
    """A record from its file; UnprovenError if it is not there, was edited, or is no record."""
    try:
        content = json.loads(path.read_text("utf-8"))
        record = GateRecord(**content["record"])
        sealed = content["checksum"] == _checksum(content["record"])
        if not (isinstance(record.recipe, dict) and all(isinstance(v, int | float) for v in record.metrics.values())):
            raise TypeError("its recipe or its metrics are of another type")
    except OSError as error:
        raise UnprovenError(f"The record {path.name} cannot be read ({error.strerror}).") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnprovenError(f"The record {path.name} is damaged. {AGAIN}") from error
    if not sealed:
        raise UnprovenError(f"The record {path.name} was edited. {AGAIN}")
    return record


def hold(record: GateRecord, candidate: Candidate, limits: accuracy.Limits, device: str | None) -> None:
    """UnprovenError unless the record says that exactly this file passed, and keeps `limits`.

    On `device` of this machine with this runtime, or anywhere where `device` is None.
    """
    card = candidate.card
    claimed = (record.model, record.precision, record.source_sha256)
    if claimed != (card.name, candidate.precision, card.sha256):
        raise UnprovenError(f"Its record is that of another model or of another version of it. {AGAIN}")
    name = stem(card, candidate.precision, record.recipe)
    if record.file_sha256 != hashlib.sha256(candidate.data).hexdigest() or name != candidate.stem:
        raise UnprovenError(f"Its record is that of another file. {AGAIN}")
    if device is not None and record.place != place(device):
        raise UnprovenError(f"Its record is that of another processor or runtime. {AGAIN}")
    failed = [line.words() for line in accuracy.judge(record.metrics, limits) if not line.passed]
    if failed:
        raise UnprovenError(f"The gate refused it: {', '.join(failed)}.")
    if not record.passed:
        raise UnprovenError(f"The gate refused it under other limits. {AGAIN}")


def stem(card: ModelCard, precision: LowerPrecision, recipe: Mapping[str, Any]) -> str:
    """The name, without an ending, of the file made from a card's registered file by a recipe."""
    key = hashlib.sha256(_canonical({"source": card.sha256, "precision": precision, "recipe": dict(recipe)}))
    return f"{card.name}.{precision}.{key.hexdigest()[:16]}"


def lower_path(models_dir: Path, stem: str) -> Path:
    """Where a lower file lies."""
    return models_dir / f"{stem}.onnx"


def samples_path(models_dir: Path, stem: str) -> Path:
    """Where the samples lie with which a lower file is tried on another device; drawn faces only, of nobody."""
    return models_dir / f"{stem}.samples.npz"


def record_path(models_dir: Path, stem: str, device: str) -> Path:
    """Where the record of a lower file lies for this processor and runtime."""
    return models_dir / f"{stem}.{device}-{hashlib.sha256(place(device).encode()).hexdigest()[:8]}.json"


def place(device: str) -> str:
    """The processor and the runtime: kernels differ between both, so a proof holds for one pair only."""
    names = []
    if device == "cpu":
        names = _lines_of(Path("/proc/cpuinfo"), "model name", "flags")
    else:
        for information in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
            names += _lines_of(information, "Model")
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
    return f"{device} {platform.machine()} {digest} onnxruntime {onnxruntime.__version__}"


def _lines_of(path: Path, *names: str) -> list[str]:
    """The values of the first `name: value` line of each name; empty where the file is missing."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    values: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        values.setdefault(key.strip(), value.strip())
    return [values[name] for name in names if name in values]


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _checksum(content: Any) -> str:
    return hashlib.sha256(_canonical(content)).hexdigest()
