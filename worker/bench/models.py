"""Each model by itself, and through the engine: what it costs, and what the way to the engine costs on top."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from worker.bench.meter import Meter
from worker.bench.report import Progress, Report, Table
from worker.bench.workspace import Workspace, made_inputs
from worker.inference.client import EngineClient, connect
from worker.inference.types import ModelError

_ROOT: Final = Path(__file__).resolve().parents[2]
_MOST_SECONDS: Final = 600.0
_CROSSINGS: Final = 200
_CROSSING_SECONDS: Final = 4.0


@dataclass(frozen=True)
class Crossing:
    """Processor time that one run through the engine takes beyond the model itself, in microseconds.

    `caller_us`: writing the request, copying inputs and results; `engine_us`: reading it, queue, batch, answer.
    """

    caller_us: float
    engine_us: float


def bench_models(
    space: Workspace,
    names: Sequence[str] = (),
    *,
    seconds: float = 1.0,
    largest: int = 32,
    progress: Progress,
) -> Report:
    """Measure the models `names` (all of the workspace, if none), one after the other, and then through an engine.

    Raises ModelError.
    """
    names = list(names) or list(space.models.cards())
    for name in names:
        space.models.card(name)  # an unknown one is said before an hour of work
    report = Report("models")
    found = []
    for index, name in enumerate(names):
        progress(f"{name} alone", 0.8 * index / len(names))
        found.append(_alone(space, name, seconds, largest))
    crossings = {}
    with space.engine() as engine, connect(engine, "interactive", space.models) as client:
        for index, name in enumerate(names):
            progress(f"{name} through the engine", 0.8 + 0.2 * index / len(names))
            crossings[name] = crossing(client, engine, space, name)
    report.tables = list(_tables(found, crossings))
    report.stages = {
        "directly, batch 1": {one["model"]: one["sizes"]["1"]["cpu_ms"] for one in found},
        "on the way to the engine": {n: round((c.caller_us + c.engine_us) / 1000, 3) for n, c in crossings.items()},
    }
    fallen = {one["model"]: one["cpu_nodes"] for one in found if one["cpu_nodes"]}
    if fallen:
        listed = ", ".join(f"{name} {count}" for name, count in fallen.items())
        report.notes.append(f"nodes that run on the CPU beside a GPU: {listed}")
    singly = [name for name in names if not space.models.card(name).batches]
    if singly:
        report.notes.append(f"run singly, for their graph cannot be freed of its batch of 1: {', '.join(singly)}")
    return report


def crossing(client: EngineClient, engine: Path, space: Workspace, name: str) -> Crossing:
    """What the way to the engine and back costs for one item of a model. Raises ModelError.

    The engine's own account of the thread that ran the model is taken off, so that the model's time, a thousand times
    as long, does not come in with its noise.
    """
    inputs = made_inputs(space.models.card(name), 1)
    client.run(name, inputs)
    meter = Meter(engine)
    client.run(name, inputs)
    runs = max(5, min(_CROSSINGS, int(_CROSSING_SECONDS / max(meter.read().wall, 1e-4))))
    before = _inference_seconds(client, name)
    meter = Meter(engine)
    for _ in range(runs):
        client.run(name, inputs)
    used = meter.read()
    inside = _inference_seconds(client, name) - before
    return Crossing(
        caller_us=round(1e6 * used.caller / runs, 1), engine_us=round(1e6 * max(0.0, used.engine - inside) / runs, 1)
    )


def _inference_seconds(client: EngineClient, name: str) -> float:
    return next((float(one["cpu_seconds"]) for one in client.status()["models"] if one["name"] == name), 0.0)


def _alone(space: Workspace, name: str, seconds: float, largest: int) -> dict[str, Any]:
    order = {
        "name": name,
        "models_dir": str(space.models_dir),
        "extra": str(space.extra) if space.extra else None,
        "providers": space.providers,
        "seconds": seconds,
        "largest": largest,
    }
    command = [sys.executable, "-m", "worker.bench.one_model", json.dumps(order)]
    try:
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=_MOST_SECONDS, check=True)
    except subprocess.TimeoutExpired:
        raise ModelError("engine_failed", f"The model {name} was not measured within {_MOST_SECONDS:g} s.") from None
    except subprocess.CalledProcessError as error:
        tail = error.stderr.strip().splitlines()[-1:] or ["without a word"]
        raise ModelError("engine_failed", f"The model {name} could not be measured: {tail[0]}.") from error
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _tables(found: Sequence[dict[str, Any]], crossings: dict[str, Crossing]) -> list[Table]:
    first = Table(
        "one at a time",
        ("model", "device", "CPU nodes", "precision", "load s", "memory MiB", "GPU MiB", "ms", "CPU ms", "way there µs",
         "in the engine µs"),
        tuple(
            (
                one["model"],
                one["device"],
                str(one["cpu_nodes"]),
                one["precision"],
                one["load_seconds"],
                round(one["peak_bytes"] / 2**20),
                None if one["gpu_bytes"] is None else round(one["gpu_bytes"] / 2**20),
                one["sizes"]["1"]["wall_ms"],
                one["sizes"]["1"]["cpu_ms"],
                crossings[one["model"]].caller_us,
                crossings[one["model"]].engine_us,
            )
            for one in found
        ),
    )  # fmt: skip
    sizes = sorted({int(size) for one in found for size in one["sizes"]})
    second = Table(
        "items per second by the clock, by batch size, and what 8 gain over 1",
        ("model", *map(str, sizes), "gain"),
        tuple(
            (one["model"], *(one["sizes"].get(str(size), {}).get("per_second") for size in sizes), _gain(one))
            for one in found
        ),
    )
    tables = [first, second]
    if any("joules" in values for one in found for values in one["sizes"].values()):
        lines = tuple((one["model"], *(one["sizes"].get(str(n), {}).get("joules") for n in sizes)) for one in found)
        tables.append(Table("joules per item, by batch size", ("model", *map(str, sizes)), lines))
    return tables


def _gain(one: dict[str, Any]) -> float | None:
    sizes = one["sizes"]
    return round(sizes["8"]["per_second"] / sizes["1"]["per_second"], 2) if "8" in sizes else None
