"""A whole video through the whole pipeline: where the processor time of a frame goes, held against what is required."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from worker.bench import jobs, neural
from worker.bench.frames import CORES, Frames, Material, host_rows, memory_row, parts_table, passes_table, steady
from worker.bench.jobs import Choice, Measured, NoFaceError
from worker.bench.report import Progress, Report, Row, Table
from worker.bench.steps import host_milliseconds
from worker.bench.workspace import Workspace

FAST: Final = "built-in swap, frames per second that the processor time of a job allows 2 cores"
_STEPS: Final = (
    "what our code does round a neural frame with one face, alone: processor milliseconds, with which other runs on "
    "this machine can be compared"
)


def bench_pipeline(
    space: Workspace,
    things: Material,
    folder: Path,
    *,
    choice: Choice | None = None,
    neural_frames: tuple[int, int] = (8, 24),
    progress: Progress,
) -> Report:
    """Swap with the built-in models and, given a `choice`, with neural ones, and measure.

    `folder` is for what is made on the way; with real neural models two films of `neural_frames` are swapped. Raises
    MediaError, FaceError, ModelError, PipelineError; NoFaceError for a photo without a face.
    """
    report = Report("pipeline", unit="processor milliseconds a frame")
    _built_in(report, space, things, folder, progress)
    if choice is None:
        report.rows += neural.rows_without("needs --models with a detector, landmarks, an embedding and a swapper")
    else:
        neural.with_models(report, space, things, folder, choice, frames=neural_frames, progress=progress)
        neural.pretending(report, space, things, folder, choice, progress=progress)
    lines = tuple(host_milliseconds(60, choice.swapper if choice else "hyperswap_1a_256").items())
    report.tables.append(Table(_STEPS, ("step", "ms"), lines))
    return report


def _built_in(report: Report, space: Workspace, things: Material, folder: Path, progress: Progress) -> None:
    progress("warming up", 0.0)
    runs = []
    with space.engine() as engine:
        # Loads the models, and everything a media child has from its start.
        warm = jobs.run(things.target, things.source, folder / "warm", engine)
        photo = jobs.run(things.target, things.source, folder / "photo", engine)
        try:
            for index, (clip, name) in enumerate(zip(things.clips, things.names, strict=True)):
                progress(f"built-in swap, {name}", 0.1 + 0.3 * index / len(things.clips))
                runs.append(jobs.run(clip, things.source, folder / f"built-in-{index}", engine))
        except NoFaceError:
            # Stand-ins of neural models see a face in any film; the built-in ones do not.
            report.rows.append(Row(FAST, None, required=20.0, more_is_better=True, note="the film shows no face"))
            return
    frames = steady(runs, folder)
    report.rows += _mesh_rows(things, runs, frames, photo, warm)
    report.stages["built-in swap"] = {name: value for name, value in frames.parts().items() if value >= 0.005}
    report.tables.append(parts_table("built-in swap", frames))
    report.tables.append(passes_table("built-in swap", things.names, runs))


def _mesh_rows(
    things: Material, runs: Sequence[Measured], frames: Frames, photo: Measured, warm: Measured
) -> list[Row]:
    last = runs[-1]
    used = last.job.used
    milliseconds = frames.per_frame(frames.job.total)
    rows = [
        Row(
            FAST,
            round(1000 * CORES / milliseconds, 2),
            required=20.0,
            more_is_better=True,
            note=f"decode to encode, mark and label included, models too: {milliseconds:.1f} ms a frame",
        ),
        Row(
            "built-in swap, frames per second of a whole job by the clock",
            round(last.job.frames / used.wall, 2),
            note=f"with its start; other programs left {used.cores_left:.1f} of {used.cores} cores",
        ),
        *host_rows("built-in swap", frames),
        Row("one photo, warm worker", round(1000 * photo.both.total), "ms", note="analysis and job, all processes"),
        Row("one photo, cold worker", round(1000 * warm.both.total), "ms", note="models loaded, libraries imported"),
        memory_row("built-in swap", things.names, runs),
    ]  # fmt: skip
    return rows
