"""What `prepare` and `models` do and say about the models of the gate that are made at set-up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from worker.inference import gate_models
from worker.inference.gate_models import LeftOut, build, check
from worker.model_choice import accepted_licence, licence_allows

__all__ = ["build", "check", "listing", "notes"]

LOOKS_FOR = {"nsfw": "nudity", "age": "age"}


def notes(left_out: Sequence[LeftOut]) -> Iterator[str]:
    """A line for each model that could not be made."""
    for one in left_out:
        yield (
            f"Note: uploads will not be screened for {LOOKS_FOR[one.role]}, which is recorded with each: "
            f"{one.problem.message} [{one.problem.code}] Everything else works."
        )


def listing(models_dir: Path, operator_models: Path) -> Iterator[str]:
    """A line for each: role, size, licence, whether it is here and may be used outside an evaluation."""
    there = gate_models.present(models_dir).gate
    for card in gate_models.cards().values():
        accepted = accepted_licence(operator_models, card.name)
        if card.name not in there:
            state = "not made"
        elif licence_allows(card.licence, card.commercial_use, accepted):
            state = "here"
        else:
            state = f"evaluation only, until `models licence accept {card.name}`"
        yield f"{card.name:16} {card.role:15} {card.size / 1e6:5.1f} MB  {card.licence} ({state})  {card.licence_url}"
