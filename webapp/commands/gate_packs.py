"""The actions of `manage.py gate packs`, and what they say."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings

from worker.gate.packs.outside_services import SERVICES
from worker.gate.packs.pack_store import PackStore
from worker.gate.packs.standing import Standing
from worker.inference import packs
from worker.outside_door import outside

HELP = """\
Detectors for forged faces and generated pictures. None is shipped: a pack is an ONNX file and a manifest that says what
it is, how it is fed and what its answer means (see worker/inference/detector_packs for those of known detectors, whose
weights are yours to fetch and export). A pack decides only when its file has the pinned SHA-256, its licence allows
your use or you accepted it, it was calibrated and evaluated on your own files, and the evaluation is within bounds:
BPCER at most 5 %, APCER of the worst species at most 20 %, at least 50 sources of each. Else it is advisory: recorded,
never decisive. Even then a detector only asks a person; it never refuses by itself. The packs nsfw_1, nsfw_2 and nsfw_3
look for nudity beside the built-in model: where two agree on more than a tenth of a file's pictures, it is refused.

Services that judge uploads (Reality Defender, Hive, Sensity) stand among the packs and are off: to be asked they are
sent the upload itself, which then leaves this house. `accept` with a reason turns one on, `remove` off again; its key
is REALITY_DEFENDER_API_KEY, HIVE_API_KEY or SENSITY_API_KEY (or the same with _FILE, naming a file that holds it).
What this house itself refuses for nudity or age is never sent.

  manage.py gate packs known                                  manifests that come along
  manage.py gate packs install meso4_df --model meso4_df.onnx one of them, with the file you have
  manage.py gate packs install my_detector.toml --pin         your own manifest, its model beside it
  manage.py gate packs list                                   what is installed, and what each may do and why
  manage.py gate packs accept sbi --reason "our agreement of 2026-03-01"
  manage.py gate packs accept hive_deepfake --reason "contract and notice of 2026-05-04"
  manage.py gate packs enforce my_detector                    let it decide; `relax` takes that back
  manage.py gate packs remove my_detector

Restart the workers after an install: the engine takes in models when it starts."""


def store() -> PackStore:
    """The packs of this machine."""
    return PackStore(Path(settings.GATE_PACKS_DIR))


def run(action: str, name: str, options: dict[str, Any]) -> Iterator[str]:
    """Do one action and yield what to say. Raises PackError and ModelError."""
    by = getpass.getuser()
    match action:
        case "known":
            for one in map(packs.read, packs.shipped().values()):
                yield f"{one.id:24} {one.kind:13} {one.title}. {one.licence}. Weights: {one.weights}"
            for service in SERVICES.values():
                yield f"{service.id:24} {service.kind:13} {service.title}. A service: uploads would leave this house."
        case "list":
            found = store().standings(compare=True)
            yield from map(line, found)
            if not found:
                yield "No pack is installed: forged faces and generated pictures are not screened."
        case "install":
            standing = store().install(
                name,
                model=options["model"],
                sha256=options["sha256"],
                pin=options["pin"],
                reason=options["reason"],
            )
            yield f"Installed. {line(standing)}"
            if standing.pack is not None and standing.pack.card:
                yield f"What is known of it: {standing.pack.card}"
            yield "Restart the workers to use it."
        case "remove":
            yield f"{name} {'is removed' if store().remove(name) else 'was not installed'}."
        case "accept":
            store().accept(name, options["reason"], by)
            yield line(store().standing(name))
        case "enforce":
            yield line(store().enforce(name, by))
        case "relax":
            store().relax(name)
            yield line(store().standing(name))


def line(one: Standing) -> str:
    """One pack, what it may do and why."""
    words = f"{one.id:24} {one.kind:13} {one.role:10}"
    if one.code:
        words += f" {one.detail or one.code} [{one.code}]"
    if one.service is not None:
        words += f" {leaving(one)}"
    if one.evaluation is not None:
        worst = max(one.evaluation.apcer.values(), default=float("nan"))
        words += f" (BPCER {one.evaluation.bpcer:.1%}, worst APCER {worst:.1%}, AUC {one.evaluation.auc:.3f})"
    return words


def leaving(one: Standing) -> str:
    """Where the uploads go for a service, and why that is allowed."""
    assert one.service is not None
    account = outside().accounts[one.service.provider]
    words = f"uploads leave this house, to {account.url} ({one.leaves})"
    return words if account.key else f"{words}; its key {one.service.provider.upper()}_API_KEY is not set [service_key]"
