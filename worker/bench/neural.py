"""The neural part of `bench pipeline`: real models for what the whole costs, a pretend device for the host's share.

On a pretend device nothing is computed, so all processor time is the host's and is measured without the models' noise;
and what the device was busy says whether the host kept up with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from worker.bench import jobs
from worker.bench.batch import TABLE, pretend_table
from worker.bench.frames import (
    CORES,
    Frames,
    Material,
    host_rows,
    memory_row,
    of_whole_film,
    parts_table,
    passes_table,
    steady,
)
from worker.bench.jobs import Choice, Cost, Measured
from worker.bench.meter import Gpu
from worker.bench.report import Progress, Report, Row
from worker.bench.workspace import Workspace, made_inputs
from worker.faces.analyse import analyse_image
from worker.faces.neural.photo import PhotoLooker
from worker.faces.neural.track import NeuralModels
from worker.inference.sessions import LocalRunner
from worker.inference.types import Done, Pending
from worker.media.client import decode_image, sample_frames
from worker.media.sample_clip import repeat_clip

HOST: Final = "neural set, Python and numpy a frame, codecs and mark excluded, crossing included"
ALL_HOST: Final = "neural set, all host a frame, x264 veryfast included, mark excluded"
FACTOR: Final = "neural set, total over inference, steady state"
PHOTO: Final = "neural set, one photo on a warm worker over inference"
KEEPS_UP: Final = "pretend device, frames per second over min(1000 / device ms, 2000 / host ms)"
_JUDGED: Final = {
    row.name: row
    for row in (
        Row(HOST, None, "ms", required=15, goal=10),
        Row(ALL_HOST, None, "ms", required=45, goal=36),
        Row(FACTOR, None, required=1.04, goal=1.03),
        Row(PHOTO, None, required=1.3, goal=1.1),
        Row(KEEPS_UP, None, required=0.75, goal=0.9, more_is_better=True),
    )
}
_SHARES: Final[Mapping[str, float]] = {"face_detector": 4.17, "face_landmarks": 25.24, "face_swapper": 31.84}
"""How the pretend device's milliseconds of a frame are divided: multiplications of the stand-ins, in 10⁹."""


def rows_without(reason: str) -> list[Row]:
    """The rows that cannot be measured, and why."""
    return [replace(row, note=reason) for row in _JUDGED.values()]


def _judged(name: str, measured: float | None, note: str) -> Row:
    """The row `name`, with what is required of it."""
    return replace(_JUDGED[name], measured=measured, note=note)


def with_models(
    report: Report,
    space: Workspace,
    things: Material,
    folder: Path,
    choice: Choice,
    *,
    frames: tuple[int, int],
    progress: Progress,
) -> None:
    """The real models: what a frame and a photo cost over what is spent inside the models."""
    gpu = Gpu.find()
    runs: list[Measured] = []
    with space.engine() as engine:
        progress("neural set, warming up", 0.4)
        jobs.run(things.target, things.source, folder / "neural-warm", engine, choice)
        photo = jobs.run(things.target, things.source, folder / "neural-photo", engine, choice).both
        energy = gpu.joules() if gpu is not None else None
        for index, count in enumerate(frames):
            progress(f"neural set, {count} frames", 0.5 + 0.1 * index)
            clip = folder / f"neural-{count}.mp4"
            repeat_clip(things.clips[-1], clip, count)  # the longest: where a film begins anew, its tracks end
            runs.append(jobs.run(clip, things.source, folder / f"neural-{index}", engine, choice))
        spent = gpu.joules() if gpu is not None else None
    cost = runs[1].both.minus(runs[0].both)
    name = f"neural set ({choice.swapper}{', ' + choice.enhancer if choice.enhancer else ''})"
    per_frame = steady(runs, folder)
    rows = [*model_rows(cost, photo, runs[-1].both), _without_mark(per_frame, cost)]
    report.rows += [of_whole_film(row, runs) if row.name.startswith(FACTOR) else row for row in rows]
    if energy is not None and spent is not None:
        report.rows.append(Row("neural set, energy of the GPU", round((spent - energy) / sum(frames), 2), "J a frame"))
    report.tables.append(parts_table(name, per_frame))
    report.tables.append(passes_table(name, [f"{count} frames" for count in frames], runs))


def pretending(
    report: Report, space: Workspace, things: Material, folder: Path, choice: Choice, *, progress: Progress
) -> None:
    """The pretend device: the host's share, and whether the device is kept busy."""
    progress("making answers for the pretend device", 0.7)
    table = device(space, things, folder, choice)
    with space.engine(pretend=table) as engine:
        jobs.run(things.target, things.source, folder / "pretend-warm", engine, choice)
        runs = []
        for index, (clip, name) in enumerate(zip(things.clips, things.names, strict=True)):
            progress(f"pretend device, {name}", 0.75 + 0.2 * index / len(things.clips))
            runs.append(jobs.run(clip, things.source, folder / f"pretend-{index}", engine, choice))
    frames = steady(runs, folder)
    report.rows += [
        *(of_whole_film(row, runs) for row in host_rows_required(frames, runs[-1].both.used.cores_left)),
        *host_rows("neural set", frames),
        memory_row("neural set on the pretend device", things.names, runs),
    ]
    report.stages["neural set, host"] = {name: value for name, value in frames.parts().items() if value >= 0.005}
    report.tables.append(parts_table("neural set on the pretend device", frames))
    report.tables.append(passes_table("neural set on the pretend device", things.names, runs))


def model_rows(cost: Cost, photo: Cost, whole: Cost) -> list[Row]:
    """What the whole costs over what is spent inside the models: of a frame in the steady state, and of one photo.

    `whole` is a run with its start, for what is told by the clock: the difference of two would be that of two loads.
    """
    per, used = 1000 / cost.frames, whole.used
    return [
        _judged(
            FACTOR,
            _over(cost),
            f"{per * cost.total:.0f} ms of processor time a frame, {per * cost.inference:.0f} of it inside the "
            f"models, as the engine's threads count it; {_counted(cost.items, cost.frames)}",
        ),
        _judged(
            PHOTO,
            _over(photo),
            f"analysis and job: {1000 * photo.total:.0f} ms, {1000 * photo.inference:.0f} inside the models; "
            f"{_counted(photo.items, 1)}",
        ),
        Row(
            "neural set, frames per second by the clock",
            round(whole.frames / used.wall, 2),
            note=f"analysis and job, start included; other programs left {used.cores_left:.1f} of {used.cores} cores",
        ),
        Row(
            f"neural set, busy share of {' and '.join(whole.devices)}",
            round(min(1.0, whole.busy / used.wall), 3),
            note="by the clock, analysis and job, start included",
        ),
    ]


def _without_mark(frames: Frames, cost: Cost) -> Row:
    """The factor of a frame less the mark and its grain: what a swap without a mark would be compared with."""
    marked = (frames.marking + frames.encode - frames.encode_unmarked) / 1000 * cost.frames
    return Row(
        f"{FACTOR}, mark excluded",
        round((cost.total - marked) / cost.inference, 4) if cost.devices == ("cpu",) and cost.inference > 0 else None,
        note=f"less {1000 * marked / cost.frames:.0f} ms a frame of the mark and of encoding its grain, measured alone",
    )


def _over(cost: Cost) -> float | None:
    """All processor time over that inside the models; None where the noise of two runs is larger than the models, and

    where a GPU runs them, whose time is no processor time.
    """
    if cost.devices != ("cpu",):
        return None
    factor = cost.total / cost.inference if cost.inference > 0 else 0.0
    return round(factor, 4) if factor >= 1 else None


def host_rows_required(frames: Frames, cores_left: float) -> list[Row]:
    """The host's share of a frame, and how fast that was against what device and host allow.

    `cores_left` is how much of the machine other programs left to the longest run.
    """
    used = frames.both.used
    per_second = frames.both.frames / used.wall
    bound = min(8 * 1000 / TABLE[8], 1000 * CORES / frames.host)
    return [
        _judged(HOST, round(frames.python, 2), "analysis and job together"),
        _judged(
            ALL_HOST,
            round(frames.unmarked, 2),
            f"decoded for analysis and job: {2 * frames.decode:.1f} ms; encode {frames.encode_unmarked:.1f}, "
            f"left out {frames.encode - frames.encode_unmarked:.1f} more for the grain of the mark",
        ),
        _judged(
            KEEPS_UP,
            round(per_second / bound, 3),
            f"{per_second:.1f} of {bound:.1f} frames per second by the clock: an idle machine is needed; other "
            f"programs left {cores_left:.1f} of {used.cores} cores; if they come and go, it tells nothing",
        ),
    ]


def device(space: Workspace, things: Material, folder: Path, choice: Choice) -> Path:
    """The table of a pretend device that answers as the models of `choice` do on the film and the donor's photo.

    A frame takes `batch.TABLE`, divided among detector, landmarks and swapper; the built-in models take no time.
    """
    seen = _Recorder(LocalRunner(space.models_dir, models=space.models))
    analyse_image(decode_image(things.source), seen)
    names = choice.cards.neural_set(choice.swapper, choice.enhancer)
    picture = next(rgb for _, rgb in sample_frames(things.clips[0], count=1))
    PhotoLooker(seen, space.models, NeuralModels((names.detector,), names.landmarks, names.embedding)).faces(picture)
    for name in filter(None, (choice.swapper, choice.enhancer)):
        seen.run(name, made_inputs(space.models.card(name), 1))
    whole = sum(_SHARES.values())
    times: dict[str, Mapping[int, float]] = {}
    files = {}
    for name, outputs in seen.best.items():
        share = _SHARES.get(space.models.card(name).role, 0.0) / whole if name in choice.cards.extra else 0.0
        times[name] = {size: round(took * share, 4) for size, took in TABLE.items()}
        files[name] = f"{name}.npz"
        np.savez(folder / files[name], **outputs)  # type: ignore[arg-type]
    table = folder / "device.toml"
    table.write_text(pretend_table(times, files))
    return table


class _Recorder:
    """A runner that keeps of each model the answer for the item it was surest of."""

    def __init__(self, runner: LocalRunner) -> None:
        self._runner = runner
        self._sure: dict[str, float] = {}
        self.best: dict[str, dict[str, NDArray[np.float32]]] = {}

    def run(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        outputs = self._runner.run(model, inputs)
        told = next(
            (outputs[name] for name in ("classificators", "presence", "scores", "peaks") if name in outputs), None
        )
        for item in range(len(next(iter(inputs.values())))):
            sure = 0.0 if told is None else float(told[item].max())
            if model not in self.best or sure > self._sure[model]:
                self._sure[model] = sure
                self.best[model] = {name: np.array(array[item], np.float32) for name, array in outputs.items()}
        return outputs

    def submit(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> Pending:
        return Done(self.run(model, inputs))


def _counted(items: Mapping[str, int], frames: int) -> str:
    return "runs: " + ", ".join(f"{name} {count / frames:.3g}" for name, count in items.items() if count)
