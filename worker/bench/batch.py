"""How well the engine fills a device: a pretend one, whose milliseconds are known, and more and more open runs."""

from __future__ import annotations

import math
import tempfile
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.bench.meter import Meter
from worker.bench.report import Progress, Report, Row, Table
from worker.bench.workspace import Workspace, made_inputs
from worker.inference.client import EngineClient, connect
from worker.inference.connection import EngineRun
from worker.inference.pretend import PretendModel

MODEL: Final = "face_mesh"
TABLE: Final[Mapping[int, float]] = {1: 15.7, 8: 28.0}
"""Milliseconds by batch size: one frame 15.7, eight 3.5 each, a large GPU as the baseline assumes it."""
OPEN_RUNS: Final = (1, 2, 4, 8, 16, 32)
_BUSY_REQUIRED, _BUSY_GOAL = 0.75, 0.9
_GAIN_REQUIRED, _GAIN_GOAL = 0.75, 0.9


@dataclass(frozen=True)
class Filled:
    """With so many `runs` open: items per second and busy share by the clock, items of a batch on average."""

    runs: int
    per_second: float
    busy: float
    batch: float
    cores_left: float


def bench_batch(space: Workspace, *, seconds: float = 3.0, progress: Progress) -> Report:
    """Keep 1 to 32 runs of one model open on a pretend device, `seconds` long each. Raises ModelError."""
    found = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        table = Path(folder) / "device.toml"
        table.write_text(pretend_table({MODEL: TABLE}))
        with space.engine(pretend=table) as engine, connect(engine, "offline", space.models) as client:
            for index, runs in enumerate(OPEN_RUNS):
                progress(f"{runs} open runs", index / len(OPEN_RUNS))
                found.append(_filled(client, engine, space, runs, seconds))
    report = Report("batch", unit="items per second")
    report.rows = list(_rows(found))
    report.tables.append(
        Table(
            f"pretend device, {', '.join(f'{took} ms at batch {size}' for size, took in TABLE.items())}",
            ("open runs", "items/s", "busy share", "items a batch", "cores left by others"),
            tuple((str(one.runs), one.per_second, one.busy, one.batch, one.cores_left) for one in found),
        )
    )
    report.stages = {"items per second": {f"{one.runs} open runs": one.per_second for one in found}}
    return report


def pretend_table(models: Mapping[str, Mapping[int, float]], outputs: Mapping[str, str] | None = None) -> str:
    """The table of a pretend device as text: milliseconds by batch size for each model, and files of answers."""
    parts = []
    for name, milliseconds in models.items():
        sizes = ", ".join(f"{size} = {took!r}" for size, took in milliseconds.items())
        parts.append(f'[models."{name}"]\nmilliseconds = {{ {sizes} }}\n')
        if outputs and name in outputs:
            parts.append(f'outputs = "{outputs[name]}"\n')
    return "".join(parts)


def _filled(client: EngineClient, engine: Path, space: Workspace, runs: int, seconds: float) -> Filled:
    inputs = made_inputs(space.models.card(MODEL), 1)
    waiting: deque[EngineRun] = deque(client.submit(MODEL, inputs) for _ in range(runs))
    for _ in range(2 * runs + 4):  # until the sizes of batches have settled
        waiting.popleft().result()
        waiting.append(client.submit(MODEL, inputs))
    before, meter, items = client.status()["pretend"], Meter(engine), 0
    while meter.elapsed < seconds:
        waiting.popleft().result()
        waiting.append(client.submit(MODEL, inputs))
        items += 1
    used, after = meter.read(), client.status()["pretend"]
    for run in waiting:
        run.result()
    batches = after["runs"] - before["runs"]
    return Filled(
        runs=runs,
        per_second=round(items / used.wall, 2),
        busy=round(min(1.0, (after["busy_seconds"] - before["busy_seconds"]) / used.wall), 4),
        batch=round(items / batches, 2) if batches else math.nan,
        cores_left=round(used.cores_left, 2),
    )


def _rows(found: list[Filled]) -> list[Row]:
    by_runs = {one.runs: one for one in found}
    model = PretendModel(TABLE)
    possible = 8 * model.seconds(1) / model.seconds(8)
    gain = by_runs[8].per_second / by_runs[1].per_second
    note = (
        "by the clock, for waiting is what is measured; "
        f"other programs left {min(one.cores_left for one in found):.1f} of the machine's cores at the least"
    )
    return [
        Row(
            "busy share of the pretend device, 16 open runs",
            by_runs[16].busy,
            required=_BUSY_REQUIRED,
            goal=_BUSY_GOAL,
            more_is_better=True,
            note=note,
        ),
        Row(
            "gain from 1 to 8 open runs, over what the table allows",
            round(gain / possible, 3),
            required=_GAIN_REQUIRED,
            goal=_GAIN_GOAL,
            more_is_better=True,
            note=f"{gain:.2f} of {possible:.2f}",
        ),
    ]
