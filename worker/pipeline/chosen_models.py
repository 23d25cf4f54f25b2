"""Which models carry a job out, as the engine has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from worker.inference.connection import connect
from worker.inference.registry import BUILTIN, ModelSet
from worker.inference.types import ModelError
from worker.model_choice import MESH, ModelsMissingError, mask_models, mask_types
from worker.spec import JobSpec, Masking


def with_models(spec: JobSpec, engine: Callable[[], Path]) -> tuple[JobSpec, ModelSet]:
    """The specification with its masks and the id of the models that carry it out, and their cards.

    `engine` gives its socket; it is only asked where it matters. Raises ModelError `model_missing`, and what `engine`
    raises.
    """
    if spec.swapper == MESH and not spec.upscaler:
        return replace(spec, model_set=BUILTIN.id()), BUILTIN
    with connect(engine()) as client:
        there = client.installed()
    names: set[str] = set()
    if spec.swapper != MESH:
        spec = replace(spec, masking=_masking(spec.masking, there))
        names.update(there.neural_set(spec.swapper, spec.enhancer).names, spec.masking.models)
    if spec.upscaler:
        names.add(there.card(spec.upscaler).name)
    cards = there.only(names)
    return replace(spec, model_set=cards.id()), cards


def _masking(wanted: Masking, there: ModelSet) -> Masking:
    """The masks that are meant, of models that are `there`, by name. Raises ModelError `model_missing`."""
    types = mask_types(wanted.types, there.extra)
    try:
        return replace(wanted, types=types, models=mask_models(types, wanted.models, there.extra))
    except ModelsMissingError as error:
        raise ModelError("model_missing", error.message) from error
