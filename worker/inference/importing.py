"""Importing an operator's models: from a folder of published ONNX files to files that the engine runs.

A file `NAME.onnx`, where NAME is one of `registry.operator_models()`, is checked against its contract, its borders are
made float32, detectors get their decoding and all models the scaling of their picture inside (`graft`), and a graph
exported for a batch of 1 is freed where it then gives the same as one by one. The result is kept in a cache folder
under the SHA-256 of the original, so that this is done once; importers take turns by a file lock, and an entry appears
complete or not at all.
"""

import hashlib
import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from worker.inference import registry
from worker.inference.file_lock import held
from worker.inference.packages import sha256_of
from worker.inference.registry import ModelCard, ModelSet, OperatorModel
from worker.inference.types import ModelError

log = logging.getLogger(__name__)

IMPORTER_VERSION: Final = 4  # part of every cache entry's name: raise it when an edit changes
PARITY: Final = 1e-4  # of the largest value: as far as a batch may differ from its items alone
_PARITY_BATCH: Final = 3
_LARGE: Final = 1 << 20  # numbers in an input from which two items must do: the activations would fill the memory
_LOCK: Final = ".import.lock"
_TEMPORARY: Final = ".new-"


def cache_of(models_dir: Path) -> Path:
    """The cache folder that goes with a folder of built-in models."""
    return models_dir / "imported"


def import_folder(folder: Path, cache: Path, *, threads: int = 1) -> ModelSet:
    """The built-in models and those of `folder`, imported where the cache does not hold them yet.

    Files of other names are left alone. Raises ModelError "model_unfit" for a file that is not what its name says,
    "write_failed" if the cache cannot be written, "model_missing" if the folder cannot be read.
    """
    if not folder.is_dir():
        raise ModelError(
            "model_missing",
            f"The folder of additional models {folder.name} is not there. Nothing was changed. Check its path.",
        )
    cards: dict[str, ModelCard] = {}
    files: dict[str, Path] = {}
    for name, known in registry.operator_models().items():
        path = folder / f"{name}.onnx"
        if path.is_file():
            cards[name], files[name] = import_model(known, path, cache, threads=threads)
    return ModelSet.of_operator(cards, files)


def import_model(known: OperatorModel, path: Path, cache: Path, *, threads: int = 1) -> tuple[ModelCard, Path]:
    """The card and the file to run of one operator model at `path`. Errors as `import_folder`."""
    try:
        original = sha256_of(path)
    except OSError as error:
        raise ModelError(
            "model_missing",
            f"The model file {path.name} cannot be read ({error.strerror}). Check its permissions.",
        ) from error
    entry = cache / f"{known.card.name}-{original[:24]}-{_recipe(known)}.json"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        if (found := _cached(known, entry)) is not None:
            return found, entry.with_suffix(".onnx")
        with held(cache / _LOCK):
            if (found := _cached(known, entry)) is None:  # another importer may have been quicker
                found = _make(known, path, original, entry, threads)
        return found, entry.with_suffix(".onnx")
    except OSError as error:
        raise ModelError(
            "write_failed",
            f"The imported model {known.card.name} could not be written ({error.strerror or error}). No half-made file "
            "was left. Free some space (twice the model's size) or check the folder's permissions, then try again.",
        ) from error


def _recipe(known: OperatorModel) -> str:
    """A short name for what an import makes of a file: version of the importer, contract and edits."""
    edits = [[edit.kind, dict(edit.options)] for edit in known.edits]
    described = [IMPORTER_VERSION, registry.card_entry(known.card), edits, dict(known.constants)]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:8]


def _cached(known: OperatorModel, entry: Path) -> ModelCard | None:
    """The card of a complete entry. The engine compares the file with the card's SHA-256 whenever it loads it."""
    try:
        facts = json.loads(entry.read_bytes())
        if entry.with_suffix(".onnx").stat().st_size != facts["size"]:
            return None
        return replace(
            known.card, **{key: facts[key] for key in ("sha256", "size", "batches", "precision", "original")}
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _make(known: OperatorModel, path: Path, original: str, entry: Path, threads: int) -> ModelCard:
    # Imported here: an engine whose models are all imported needs neither.
    import onnx

    from worker.inference.onnx_graph import serialise

    for leftover in entry.parent.glob(f"{_TEMPORARY}*"):  # of an importer that was killed: we hold its lock now
        shutil.rmtree(leftover)
    name = known.card.name
    log.info("importing %s", name)
    with tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=entry.parent) as scratch:
        try:
            plain = onnx.load(path)
            onnx.checker.check_model(plain)
            model, batches, precision = _edit(known, plain, Path(scratch), threads)
            data = serialise(model)
        except Exception as error:  # protobuf, onnx and ONNX Runtime each raise classes of their own here
            if isinstance(error, (OSError, ModelError)):
                raise
            raise ModelError(
                "model_unfit",
                f"The file {path.name} cannot be used as the model {name}: {error}. Nothing was changed. Put the "
                "published file of that name there.",
            ) from error
        facts: dict[str, Any] = {
            "original": original,
            "sha256": hashlib.sha256(data).hexdigest(),
            "size": len(data),
            "batches": batches,
            "precision": precision,
        }
        # The model first: an entry counts from the moment its facts appear.
        _put(entry.with_suffix(".onnx"), data, Path(scratch))
        _put(entry, json.dumps(facts, indent=2).encode("ascii"), Path(scratch))
    log.info("imported %s: %s, %s", name, precision, "any batch" if batches else "singly")
    return replace(known.card, **facts)


def _edit(known: OperatorModel, plain: Any, scratch: Path, threads: int) -> tuple[Any, bool, str]:
    """The edited graph, whether it takes batches, and its precision. ValueError and ONNX Runtime's errors if unfit."""
    import onnx

    from worker.inference import borders, graft

    borders.adopt_names(plain, known.inputs, known.outputs)
    borders.adopt_order(plain, known.outputs)
    borders.check(plain, known.inputs, known.outputs, known.constants)
    borders.fix_constants(plain, known.constants)
    borders.keep_only(plain, known.outputs)
    borders.widen(plain)
    borders.set_shapes(plain, known.inputs, known.outputs, 1)
    model = onnx.ModelProto()
    model.CopyFrom(plain)
    borders.free_batch(model)
    borders.set_shapes(model, known.inputs, known.outputs, borders.BATCH)
    batches = _same_in_batches(known, plain, model, scratch, threads)
    if not batches:
        model = plain
    for edit in known.edits:
        graft.EDITS[edit.kind](model, **edit.options)
    contract = known.card.contract
    if contract.image is not None and contract.image.as_bytes:
        graft.picture_from_bytes(model, contract.image)
        if contract.image.output:
            graft.picture_to_bytes(model, contract.image)
    borders.keep_only(model, contract.outputs)
    borders.set_shapes(model, contract.inputs, contract.outputs, borders.BATCH if batches else 1)
    del model.metadata_props[:]
    onnx.checker.check_model(model)
    _prove(known, model, scratch, threads)
    return model, batches, borders.precision_of(plain)


def _same_in_batches(known: OperatorModel, plain: Any, freed: Any, scratch: Path, threads: int) -> bool:
    """Whether the freed graph gives for a batch what the plain one gives for each item of it alone.

    ValueError where the plain one gives what is no finite number: behind `picture_to_bytes` that would no longer show.
    """
    count = 2 if max(math.prod(shape) for shape in known.inputs.values()) > _LARGE else _PARITY_BATCH
    inputs = _noise(known.inputs, known.card, count)
    alone = [{key: array[index : index + 1] for key, array in inputs.items()} for index in range(count)]
    answers = _run(plain, scratch, threads, alone)
    for key in answers[0]:
        if not all(np.isfinite(answer[key]).all() for answer in answers):
            raise ValueError(f"its output {key} is not finite")
    try:
        together, single = _run(freed, scratch, threads, [inputs, alone[0]])
    except Exception as error:  # see _make; the graph has a batch of 1 somewhere that cannot be freed
        log.info("%s is run singly: %s", known.card.name, error)
        return False
    for index, expected in enumerate(answers):
        for key, values in expected.items():
            if together[key].shape != (count, *values.shape[1:]) or single[key].shape != values.shape:
                log.info("%s is run singly: %s does not grow with the batch", known.card.name, key)
                return False
            apart = float(np.abs(together[key][index] - values[0]).max(initial=0.0))
            if not apart <= PARITY * max(1.0, float(np.abs(values).max(initial=0.0))):
                log.info("%s is run singly: %s differs by %g in a batch", known.card.name, key, apart)
                return False
    return True


def _prove(known: OperatorModel, model: Any, scratch: Path, threads: int) -> None:
    """Run the finished graph once; ValueError if it does not keep its contract."""
    contract = known.card.contract
    results = _run(model, scratch, threads, [_noise(contract.inputs, known.card, 1, sent=True)])[0]
    for name, shape in contract.outputs.items():
        if results[name].shape != (1, *shape) or not np.isfinite(results[name]).all():
            raise ValueError(f"its output {name} is not finite with the shape [1, {', '.join(map(str, shape))}]")


def _run(
    model: Any, scratch: Path, threads: int, batches: list[dict[str, NDArray[Any]]]
) -> list[dict[str, NDArray[Any]]]:
    """Run a graph on the CPU, through a file: the runtime reads large ones without a second copy in memory."""
    import onnx

    from worker.inference.opening import trial_session

    path = scratch / "trial.onnx"
    onnx.save(model, path)
    session = trial_session(path, threads)
    names = [output.name for output in model.graph.output]
    return [dict(zip(names, session.run(names, inputs), strict=True)) for inputs in batches]


def _noise(
    shapes: Mapping[str, tuple[int, ...]], card: ModelCard, batch: int, *, sent: bool = False
) -> dict[str, NDArray[Any]]:
    """Seeded inputs in the model's range: pixels for pictures, a vector of length 1 for the rest.

    All float32, as the operator's file takes them; with `sent` as the imported one does, pictures as bytes.
    """
    generator = np.random.default_rng(IMPORTER_VERSION)
    pictures = {image.input: image for image in (card.contract.image, card.contract.source) if image is not None}
    inputs: dict[str, NDArray[Any]] = {}
    for name, shape in shapes.items():
        if (image := pictures.get(name)) is not None:
            scale, shift = image.scaling()
            pixels = generator.random((batch, *shape), np.float32) * np.float32(255)
            inputs[name] = pixels.astype(np.uint8) if sent and image.as_bytes else scale * pixels + shift
        else:
            vectors = generator.standard_normal((batch, *shape))
            flat = vectors.reshape(batch, -1)
            inputs[name] = (
                (flat / np.linalg.norm(flat, axis=1, keepdims=True)).reshape(vectors.shape).astype(np.float32)
            )
    return inputs


def _put(path: Path, data: bytes, scratch: Path) -> None:
    """Write aside, flush to disk, rename: a reader sees all or nothing, also after a power cut."""
    aside = scratch / path.name
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
