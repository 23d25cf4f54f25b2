"""Which models carry a job out, as the engine has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from worker.inference.connection import connect
from worker.inference.registry import BUILTIN, ModelSet
from worker.model_choice import MESH
from worker.spec import JobSpec


def with_models(spec: JobSpec, engine: Callable[[], Path]) -> tuple[JobSpec, ModelSet]:
    """The specification with the id of the models that carry it out, and their cards; `engine` gives its socket.

    The engine is only asked where it matters. Raises ModelError `model_missing`, and what `engine` raises.
    """
    if spec.swapper == MESH:
        return replace(spec, model_set=BUILTIN.id()), BUILTIN
    with connect(engine()) as client:
        cards = client.installed()
    cards = cards.only(cards.neural_set(spec.swapper, spec.enhancer).names)
    return replace(spec, model_set=cards.id()), cards
