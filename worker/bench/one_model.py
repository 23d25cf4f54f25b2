"""One model alone in a process of its own: load, latency, items per second, memory. `worker.bench.models` starts it."""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Final

from worker.bench.meter import Gpu, peak_bytes
from worker.bench.workspace import made_inputs
from worker.inference.devices import ProviderPolicy
from worker.inference.importing import cache_of, import_folder
from worker.inference.registry import BUILTIN, MAX_BATCH
from worker.inference.sessions import LocalRunner, read_verified

SIZES: Final = (1, 2, 4, 8, 16, 32)
_LONGEST: Final = 6.0
"""Seconds: a batch that would take longer is left out."""


def measure(
    name: str, *, models_dir: Path, extra: Path | None, providers: str, seconds: float, largest: int
) -> dict[str, Any]:
    """Load the model and run it directly, without the engine, `seconds` long at every batch size up to `largest`.

    Gives plain values: device, cpu_nodes, precision, load_seconds, peak_bytes, gpu_bytes, and by batch size the median
    milliseconds by the clock ("wall_ms"), of processor time ("cpu_ms"), "per_second" items and "joules" an item.
    """
    models = BUILTIN if extra is None else import_folder(extra, cache_of(models_dir))
    card = models.card(name)
    policy = ProviderPolicy.parse(providers)
    runner = LocalRunner(models_dir, providers=policy, models=models)
    gpu = Gpu.find()
    held = gpu.memory() if gpu is not None else None
    before = _resident()
    loaded = runner.load(name)
    runner.evict(0.0)  # one session at a time: the next is the one that is measured
    device = loaded.device
    direct = LocalRunner(models_dir, providers=ProviderPolicy("require", (device,)), models=models)  # type: ignore[arg-type]
    session = direct.open_trial(card, read_verified(models.path(models_dir, name), card))
    sizes: dict[str, dict[str, float]] = {}
    for size in SIZES if card.batches else SIZES[:1]:
        expected = sizes[str(size // 2)]["wall_ms"] / 500 if size > 1 else 0.0
        if size > min(largest, MAX_BATCH) or expected > _LONGEST:
            break
        sizes[str(size)] = _timed(session, list(card.contract.outputs), made_inputs(card, size), seconds, gpu)
    now = gpu.memory() if gpu is not None else None
    return {
        "model": name,
        "device": device,
        "cpu_nodes": loaded.cpu_fallback_nodes,
        "precision": loaded.precision,
        "load_seconds": round(loaded.load_seconds, 3),
        "peak_bytes": max(0, peak_bytes(os.getpid()) - before),
        "gpu_bytes": max(0, now - held) if now is not None and held is not None else None,
        "sizes": sizes,
    }


def _timed(
    session: Any, outputs: list[str], inputs: dict[str, Any], seconds: float, gpu: Gpu | None
) -> dict[str, float]:
    size = len(next(iter(inputs.values())))
    session.run(outputs, inputs)  # the first run of a size allocates, and chooses kernels on a GPU
    took: list[float] = []
    used, energy = time.process_time(), gpu.joules() if gpu is not None else None
    begin = time.perf_counter()
    while not took or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        session.run(outputs, inputs)
        took.append(time.perf_counter() - start)
    used = time.process_time() - used
    middle = statistics.median(took)
    found = {
        "wall_ms": round(1000 * middle, 3),
        "cpu_ms": round(1000 * used / len(took), 3),
        "per_second": round(size / middle, 2),
    }
    spent = gpu.joules() if gpu is not None else None
    if energy is not None and spent is not None:
        found["joules"] = round((spent - energy) / (size * len(took)), 4)
    return found


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    found = measure(
        order["name"],
        models_dir=Path(order["models_dir"]),
        extra=Path(order["extra"]) if order["extra"] else None,
        providers=order["providers"],
        seconds=order["seconds"],
        largest=order["largest"],
    )
    sys.stdout.write(json.dumps(found) + "\n")
