"""The operator's models on this machine: which file is which, whose word its SHA-256 rests on, which licence holds.

A folder holds `NAME.onnx` for each installed model and one `store.json`. A file is used only while it has the SHA-256
that is pinned for its name, and, where its licence forbids commercial use or is unknown, after the operator accepted
that licence with a reason. Both are written down and stay when a model is removed.
"""

import contextlib
import copy
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from worker.inference import downloads, gate_models, registry
from worker.inference.builtin import write_atomically
from worker.inference.file_lock import held
from worker.inference.importing import import_model
from worker.inference.packages import sha256_of
from worker.inference.registry import ModelCard, ModelSet, OperatorModel
from worker.inference.types import ModelError
from worker.model_choice import RECORD, licence_allows

log = logging.getLogger(__name__)

Progress = Callable[[str, float], None]
State = Literal["good", "absent", "altered", "not pinned", "licence not accepted"]

_LOCK: Final = "store.lock"
_PARTS: Final = ".parts"


@dataclass(frozen=True)
class Pin:
    """The SHA-256 that a model's file must have; `by` is "registry", "operator" (who named it) or "first use"."""

    sha256: str
    by: str
    source: str
    at: str


@dataclass(frozen=True)
class Acceptance:
    """The operator's word that a licence may be used here; it holds for exactly this wording of the licence's name."""

    licence: str
    reason: str
    by: str
    at: str


@dataclass
class _Record:
    pins: dict[str, Pin] = field(default_factory=dict)
    licences: dict[str, Acceptance] = field(default_factory=dict)


@dataclass(frozen=True)
class Standing:
    """How one model of an operator stands here."""

    card: ModelCard
    state: State
    pin: Pin | None
    acceptance: Acceptance | None


class ModelStore:
    """The folder of an operator's models. Methods that change it take turns between processes by a file lock."""

    def __init__(self, folder: Path, cache: Path) -> None:
        """`folder` need not exist yet; `cache` is where imports are kept (see `importing.cache_of`)."""
        self.folder = folder
        self._cache = cache

    def standings(self) -> list[Standing]:
        """All models that an operator may add, in the order of the registry; each file is read whole."""
        record = self._read()
        return [self._standing(known, record) for known in registry.operator_models().values()]

    def models(self, *, threads: int = 1) -> ModelSet:
        """The built-in models and every good one of this folder, imported; the log tells which was left out.

        Raises ModelError "record_unreadable".
        """
        record = self._read()
        found = {}
        for name, known in registry.operator_models().items():
            if self._standing(known, record, compare=False).state != "good":
                continue
            try:
                card, path = import_model(known, self._path(name), self._cache, threads=threads)
            except ModelError as error:  # the others still work
                log.error("%s is not used: %s", name, error)
                continue
            if card.original == record.pins[name].sha256:
                found[name] = card, path
            else:
                log.error("%s is not used: its file is not the pinned one", name)
        return ModelSet.of_operator(
            {name: card for name, (card, _) in found.items()}, {name: path for name, (_, path) in found.items()}
        )

    def install(
        self,
        name: str,
        progress: Progress,
        *,
        mirror: str = "",
        folder: Path | None = None,
        sha256: str = "",
        pin: bool = False,
    ) -> Standing:
        """Fetch a model, prove that it is the right file and keeps its contract, and put it in place.

        From `folder` (an air-gapped machine) if one is given, else from `mirror` (a URL that holds the published file
        names) or the published addresses. A file of unknown hash needs `sha256`, or `pin` as the operator's word.
        Raises ModelError "licence_not_accepted", "source_unavailable", "hash_unknown", "model_hash_mismatch",
        "model_unfit" or "write_failed"; whatever was installed before stays as it was.
        """
        known = _known(name)
        self._demand_licence(known)
        if folder is not None:
            path = next((p for p in (folder / f"{name}.onnx", folder / known.file) if p.is_file()), None)
            if path is None:
                raise ModelError(
                    "source_unavailable",
                    f"Neither {name}.onnx nor {known.file} lies in {folder}. Nothing was changed. Put it there.",
                )
            return self._add(known, path, str(path), progress, sha256=sha256, pin=pin)
        urls = [f"{mirror.rstrip('/')}/{known.file}"] if mirror else list(known.urls)
        part = self._part(name)
        with self._turn(f"{name}.lock"):  # of this model only: downloads are long
            standing = self._standing(known, self._read())
            if standing.state == "good":
                return standing
            url = downloads.fetch(urls, part, progress)
            try:
                standing = self._add(known, part, url, progress, sha256=sha256, pin=pin)
            except ModelError as error:
                if error.code in ("model_hash_mismatch", "model_unfit"):
                    downloads.discard(part)  # what is wrong must not be gone on with
                raise
            downloads.discard(part)
            return standing

    def add_file(self, path: Path, wanted: str, progress: Progress, *, sha256: str = "", pin: bool = False) -> Standing:
        """Install from one file; `wanted` is a model's name, or a role that only one model with such a graph has.

        Raises as `install`, and "model_unknown" if `wanted` names nothing or more than one.
        """
        known = _known(wanted) if wanted in registry.operator_models() else _by_role(path, wanted)
        self._demand_licence(known)
        return self._add(known, path, str(path), progress, sha256=sha256, pin=pin)

    def remove(self, name: str) -> bool:
        """Take a model's file away; whether one was there. Its pin and the word about its licence stay."""
        _known(name)
        with self._turn(_LOCK):
            there = self._path(name).is_file()
            self._path(name).unlink(missing_ok=True)
            downloads.discard(self._part(name))
            return there

    def accept_licence(self, name: str, reason: str, by: str) -> Acceptance:
        """Write down that the operator may use `name` under its licence, and why. ModelError "input_invalid"."""
        card = gate_models.cards().get(name) or _known(name).card
        if not reason.strip():
            raise ModelError(
                "input_invalid",
                f"Accepting {card.licence} for {name} needs a reason (your written licence, your use). Nothing "
                'was changed. Give it with --reason "…".',
            )
        with self._turn(_LOCK):
            record = self._read()
            record.licences[name] = accepted = Acceptance(card.licence, reason.strip(), by, _now())
            self._write(record)
        return accepted

    def acceptance(self, name: str) -> Acceptance | None:
        """The operator's word about a model's licence, if it was given. ModelError "record_unreadable"."""
        return self._read().licences.get(name)

    def _add(
        self, known: OperatorModel, path: Path, source: str, progress: Progress, *, sha256: str, pin: bool
    ) -> Standing:
        name = known.card.name
        progress("comparing", 0.0)
        try:
            found = sha256_of(path)
        except OSError as error:
            raise ModelError(
                "source_unavailable",
                f"The file {path} cannot be read ({error.strerror or error}). Nothing was changed. Check its path and "
                "permissions.",
            ) from error
        self._compare(known, found, self._read().pins.get(name), sha256.lower(), pin)
        progress("checking what the graph takes and gives", 0.5)
        import_model(known, path, self._cache)
        with self._turn(_LOCK):
            record = self._read()
            held_by = record.pins.get(name)  # another installer may have been quicker
            self._compare(known, found, held_by, sha256.lower(), pin)
            aside = self._part(name).with_suffix(".put")
            try:
                shutil.copyfile(path, aside)
                with aside.open("rb") as file:
                    os.fsync(file.fileno())
                if sha256_of(aside) != found:  # the file may change under us: it is somebody else's
                    raise ModelError(
                        "model_hash_mismatch",
                        f"The file for {name} changed while it was read. It was not installed. Try again.",
                    )
                if held_by is None:
                    by = "registry" if known.card.sha256 else "operator" if sha256 else "first use"
                    record.pins[name] = Pin(found, by, source, _now())
                    self._write(record)
                aside.replace(self._path(name))
            finally:
                aside.unlink(missing_ok=True)
            progress("installed", 1.0)
            return self._standing(known, record, compare=False)  # what was put there was read a moment ago

    def _compare(self, known: OperatorModel, found: str, held_by: Pin | None, named: str, pin: bool) -> None:
        """Whether a file with this SHA-256 may be installed. ModelError "model_hash_mismatch" or "hash_unknown"."""
        name = known.card.name
        for wanted, whose in (
            (known.card.sha256, "that of the registry"),
            (held_by.sha256 if held_by else "", "the one pinned here"),
            (named, "the one you named"),
        ):
            if wanted and wanted != found:
                raise ModelError(
                    "model_hash_mismatch",
                    f"The file for {name} has the SHA-256 {found}, not {whose} ({wanted}). It was not installed and "
                    "nothing was changed. Fetch it again. If its publisher replaced it and you trust that, run "
                    f"`models remove {name} --forget` first.",
                )
        if not (known.card.sha256 or held_by or named or pin):
            raise ModelError(
                "hash_unknown",
                f"The SHA-256 of {name} is not known here yet; this file has {found}. It was not installed. Compare "
                f"that with its publisher's and run the same command with --sha256 {found}, or take it on trust with "
                "--pin; every later copy must equal it.",
            )

    def forget(self, name: str) -> None:
        """Drop the pin of a model that is not installed: another file may be pinned. ModelError "input_invalid"."""
        _known(name)
        with self._turn(_LOCK):
            if self._path(name).exists():
                raise ModelError("input_invalid", f"{name} is still installed. Nothing was changed. Remove it first.")
            record = self._read()
            record.pins.pop(name, None)
            self._write(record)

    def _standing(self, known: OperatorModel, record: _Record, *, compare: bool = True) -> Standing:
        name = known.card.name
        pin, acceptance = record.pins.get(name), record.licences.get(name)
        path = self._path(name)
        state: State = "good"
        if not path.is_file():
            state = "absent"
        elif pin is None:
            state = "not pinned"
        elif compare and sha256_of(path) != pin.sha256:
            state = "altered"
        elif not _allowed(known, acceptance):
            state = "licence not accepted"
        return Standing(known.card, state, pin, acceptance)

    def _demand_licence(self, known: OperatorModel) -> None:
        name = known.card.name
        if not _allowed(known, self._read().licences.get(name)):
            raise ModelError(
                "licence_not_accepted",
                f"The licence of {name} is {known.card.licence} ({known.card.licence_url}): commercial use is not "
                "allowed or nobody knows. Nothing was fetched or changed. If you may use it, say so with "
                f'`models licence accept {name} --reason "…"`.',
            )

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.onnx"

    def _part(self, name: str) -> Path:
        return self.folder / _PARTS / f"{name}.onnx"

    @contextlib.contextmanager
    def _turn(self, lock: str) -> Iterator[None]:
        """Hold a lock of this folder, which is made where it is missing; what cannot be written becomes ModelError."""
        try:
            (self.folder / _PARTS).mkdir(parents=True, exist_ok=True)
            with held(self.folder / _PARTS / lock):
                yield
        except OSError as error:
            raise ModelError(
                "write_failed",
                f"The folder of models {self.folder} cannot be written ({error.strerror or error}). Nothing was "
                "installed or removed. Free some space or check its permissions, then try again.",
            ) from error

    def _read(self) -> _Record:
        try:
            data = json.loads((self.folder / RECORD).read_bytes())
            return _Record(
                {name: Pin(**entry) for name, entry in data["pins"].items()},
                {name: Acceptance(**entry) for name, entry in data["licences"].items()},
            )
        except FileNotFoundError:
            return _Record()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                "record_unreadable",
                f"The record of installed models {self.folder / RECORD} cannot be read ({error}). No model of this "
                "folder is used until then. Restore the file, or move it away and install the models again.",
            ) from error

    def _write(self, record: _Record) -> None:
        write_atomically(self.folder / RECORD, json.dumps(asdict(record), indent=2).encode())


def _known(name: str) -> OperatorModel:
    known = registry.operator_models().get(name)
    if known is None:
        raise ModelError(
            "model_unknown",
            f"No model named {name!r} can be installed. Nothing was changed. Known are: "
            f"{', '.join(registry.operator_models())}.",
        )
    return known


def _allowed(known: OperatorModel, acceptance: Acceptance | None) -> bool:
    card = known.card
    return licence_allows(card.licence, card.commercial_use, acceptance.licence if acceptance is not None else None)


def _by_role(path: Path, role: str) -> OperatorModel:
    """The one model of `role` whose published file has the tensors of the file at `path`."""
    import onnx

    models = [one for one in registry.operator_models().values() if one.card.role == role]
    if not models:
        roles = sorted({one.card.role for one in registry.operator_models().values()})
        raise ModelError(
            "model_unknown",
            f"{role!r} is neither a model's name nor a role. Nothing was changed. Roles are: {', '.join(roles)}.",
        )
    try:
        graph = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own classes
        raise ModelError(
            "model_unfit", f"The file {path.name} is no ONNX model that can be read ({error}). Nothing was changed."
        ) from error
    fitting = [one for one in models if _fits(graph, one)]
    if len(fitting) != 1:
        among = ", ".join(one.card.name for one in fitting or models)
        raise ModelError(
            "model_unknown",
            f"The graph in {path.name} fits {len(fitting) or 'none'} of the models of the role {role}. Nothing was "
            f"changed. Name the model with --as NAME, one of: {among}.",
        )
    return fitting[0]


def _fits(graph: Any, known: OperatorModel) -> bool:
    from worker.inference import borders

    renamed = copy.deepcopy(graph)
    try:
        borders.adopt_names(renamed, known.inputs, known.outputs)
        borders.check(renamed, known.inputs, known.outputs, known.constants)
    except ValueError:
        return False
    return True


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
