"""`manage.py bench models|batch|quality|pipeline|gate`: from options to a table, JSON and a plot."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from webapp.commands import precision_models
from webapp.commands.engine_options import SAMPLES
from webapp.commands.progress import ProgressBar
from worker.bench import plots
from worker.bench.batch import bench_batch
from worker.bench.frames import material
from worker.bench.gate import bench_gate
from worker.bench.jobs import Choice
from worker.bench.models import bench_models
from worker.bench.pipeline import bench_pipeline
from worker.bench.quality import bench_quality
from worker.bench.report import Progress, Report
from worker.bench.workspace import Workspace
from worker.faces.errors import FaceError
from worker.faces.types import Rgb
from worker.inference.quantise import QuantiseError
from worker.inference.types import ModelError
from worker.media.client import decode_image
from worker.media.errors import MediaError
from worker.pipeline.errors import PipelineError

_ROOM = 2 << 30


def run(what: str, options: dict[str, Any]) -> Iterator[str]:
    """Do what the options (see engine_options) ask for; gives the texts to print. Raises CommandError."""
    home = settings.HOME / "bench"
    _check(options)
    try:
        home.mkdir(parents=True, exist_ok=True)
        with ProgressBar(f"bench {what}") as bar:
            bar.show("importing models", 0.0)
            space = Workspace.make(home, settings.MODELS_DIR, options["models"], options["providers"])
            report = _BENCHES[what](space, options, bar.show)
        yield report.words()
        if options["json"]:
            options["json"].write_text(json.dumps(report.to_dict(), indent=1) + "\n")
            yield f"figures: {options['json']}"
        yield _plot(report, options["out"] or home)
    except (ModelError, FaceError, MediaError, PipelineError, QuantiseError) as error:
        raise CommandError(f"{error.message} [{error.code}]") from error
    except (OSError, ValueError) as error:
        raise CommandError(f"{error}. Nothing of it was written.") from error


def _plot(report: Report, folder: Path) -> str:
    if not plots.available():
        return "No plot: it needs matplotlib (pip install matplotlib)."
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{report.bench}.png"
    title = f"bench {report.bench}, {report.where['date']}, {report.where['processor']}"
    plots.bars(title, report.unit, report.stages, file)
    return f"plot: {file}"


def _models(space: Workspace, options: dict[str, Any], progress: Progress) -> Report:
    return bench_models(
        space, options["only"], seconds=options["seconds"], largest=options["largest"], progress=progress
    )


def _batch(space: Workspace, options: dict[str, Any], progress: Progress) -> Report:
    return bench_batch(space, seconds=options["seconds"], progress=progress)


def _quality(space: Workspace, options: dict[str, Any], progress: Progress) -> Report:
    return bench_quality(
        space, _pictures(options["images"], progress), precisions=options["precision"], progress=progress
    )


def _pictures(folder: Path | None, progress: Progress) -> dict[str, Rgb]:
    if folder is None:
        return {name: decode_image(SAMPLES / f"{name}.jpg") for name in ("astronaut", "grace_hopper")}
    found = precision_models.read_pictures(folder, progress)
    return {f"picture {number}": rgb for number, rgb in enumerate(found, 1)}


def _pipeline(space: Workspace, options: dict[str, Any], progress: Progress) -> Report:
    choice, size = _choice(space, options), _size(options["size"])
    with tempfile.TemporaryDirectory(prefix="pipeline-", dir=space.home) as name:
        folder = Path(name)
        progress("making clips", 0.0)
        things = material(
            folder,
            options["source"],
            options["target"],
            films=options["clip"] or (),
            seconds=options["seconds"],
            size=size,
        )
        return bench_pipeline(
            space,
            things,
            folder,
            choice=choice,
            neural_frames=tuple(options["neural_frames"]),
            progress=progress,
        )


def _gate(space: Workspace, options: dict[str, Any], progress: Progress) -> Report:
    with tempfile.TemporaryDirectory(prefix="gate-", dir=space.home) as name:
        return bench_gate(
            space,
            options["photo"],
            Path(name),
            seconds=options["seconds"],
            size=_size(options["size"]),
            entries=options["entries"],
            progress=progress,
        )


def _choice(space: Workspace, options: dict[str, Any]) -> Choice | None:
    """What --swapper and --enhancer name; the first swapper of --models, if there is one."""
    swappers = [card.name for card in space.models.extra.values() if card.role == "face_swapper"]
    swapper = options["swapper"] or next(iter(swappers), "")
    return Choice.of(space.models, swapper, options["enhancer"]) if swapper else None


def _size(text: str) -> tuple[int, int]:
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise CommandError(f"{text!r} is not a size; write it like 1920x1080.") from None
    return width, height


def _check(options: dict[str, Any]) -> None:
    """Refuse before anything is measured. Raises CommandError."""
    seconds = options.get("seconds", 1.0)
    numbers = [*(seconds if isinstance(seconds, list) else [seconds]), *options.get("neural_frames", ())]
    if min(numbers) <= 0 or options.get("largest", 1) < 1:
        raise CommandError("Lengths and sizes must be above 0. Nothing was measured.")
    first, last = options.get("neural_frames", (1, 2))
    if first >= last:
        raise CommandError("--neural-frames takes a shorter and a longer length. Nothing was measured.")
    files = [
        *(options.get("clip") or ()),
        *(options[name] for name in ("source", "target", "photo") if name in options),
    ]
    for file in files:
        if not file.is_file():
            raise CommandError(f"There is no file {file}. Nothing was measured. Check its path.")
    settings.HOME.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(settings.HOME).free < _ROOM:
        raise CommandError(f"Less than {_ROOM >> 30} GiB are free in {settings.HOME}. Nothing was measured.")


_BENCHES = {"models": _models, "batch": _batch, "quality": _quality, "pipeline": _pipeline, "gate": _gate}
