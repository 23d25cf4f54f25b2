"""The actions of `manage.py models` that change or show an operator's own models."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from webapp.commands.progress import ProgressBar
from worker.inference import gate_models
from worker.inference.importing import cache_of
from worker.inference.store import ModelStore, Standing

HELP = """\
Your own models. The registry knows models of the field by name: what their published files take and give, and their
licences. None is fetched unasked. `install` resumes after a cut, and puts a file in place only when its SHA-256 and
its graph are right. We have not seen the published files, so the first install wants your word: --sha256 HASH, as the
publisher states it, or --pin for "the first I get"; every later copy must equal it. A model whose licence forbids
commercial use, or is unknown, is refused until you accept that licence with a reason, which is written down.

  manage.py models install yunet --pin     from the published address (IMPRIMATUR_MODEL_MIRROR names another)
  manage.py models install yunet --from FOLDER --sha256 HASH       on a machine without network
  manage.py models import FILE --as face_swapper --pin             a file you have; --as takes a role or a name
  manage.py models licence                 the licence of each, and whose word allows its use
  manage.py models licence accept inswapper_128 --reason "our written licence of 2026-03-01"
  manage.py models remove yunet [--forget] take the file away; --forget drops its pinned SHA-256 as well

Restart the workers afterwards: the engine takes in models when it starts."""


def store() -> ModelStore:
    """The store of this machine."""
    return ModelStore(Path(settings.OPERATOR_MODELS_DIR), cache_of(Path(settings.MODELS_DIR)))


def run(action: str, names: list[str], options: dict[str, Any]) -> Iterator[str]:
    """Do one of install, import, remove, licence; yields what to say. Raises CommandError and ModelError."""
    match action, names:
        case "licence", []:
            yield from _licences()
        case "licence", ["accept", name]:
            accepted = store().accept_licence(name, options["reason"], getpass.getuser())
            yield f"{name}: {accepted.licence} accepted by {accepted.by} at {accepted.at}, because: {accepted.reason}"
        case "install", [name]:
            with ProgressBar(f"install {name}") as bar:
                standing = store().install(
                    name,
                    bar.show,
                    mirror=settings.MODEL_MIRROR,
                    folder=options["from"],
                    sha256=options["sha256"],
                    pin=options["pin"],
                )
            yield _installed(standing)
        case "import", [path]:
            if not options["as"]:
                raise CommandError("Say with --as which model or role it is; `models list` shows both.")
            with ProgressBar(f"import {Path(path).name}") as bar:
                standing = store().add_file(
                    Path(path), options["as"], bar.show, sha256=options["sha256"], pin=options["pin"]
                )
            yield _installed(standing)
        case "remove", [name]:
            there = store().remove(name)
            if options["forget"]:
                store().forget(name)
            yield f"{name} {'is removed' if there else 'was not installed'}."
        case _:
            raise CommandError(f"`models {action}` takes other words. See `manage.py models --help`.")


def listing() -> Iterator[str]:
    """One line for each model that an operator may add."""
    for standing in store().standings():
        card = standing.card
        use = "commercial use allowed" if card.commercial_use else "NO commercial use"
        yield f"{card.name:24} {card.role:15} {_state(standing):22} {card.licence} ({use})  {card.licence_url}"


def problems() -> Iterator[str]:
    """One line for each installed model that is not used as it is."""
    for standing in store().standings():
        if standing.state not in ("good", "absent"):
            yield f"{standing.card.name:18} {standing.state}"


def _state(standing: Standing) -> str:
    if standing.state == "absent":
        return "not installed"
    if standing.state == "good" and standing.pin is not None:
        return {"first use": "pinned on first use", "operator": "pinned by you"}.get(standing.pin.by, "pinned")
    return standing.state


def _licences() -> Iterator[str]:
    known = store()
    words = [(card, known.acceptance(card.name)) for card in gate_models.cards().values()]
    for card, word in [*words, *((standing.card, standing.acceptance) for standing in known.standings())]:
        if card.commercial_use:
            allowed = "may be used"
        elif word is not None and word.licence == card.licence:
            allowed = f"accepted by {word.by} at {word.at}: {word.reason}"
        else:
            allowed = f"REFUSED until `models licence accept {card.name} --reason …`"
        yield f"{card.name:24} {card.licence:15} {allowed}"


def _installed(standing: Standing) -> str:
    assert standing.pin is not None
    return (
        f"{standing.card.name} is installed ({standing.card.role}, {_state(standing)}, SHA-256 {standing.pin.sha256}). "
        "Restart the workers to use it."
    )
