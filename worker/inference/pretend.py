"""A pretend device: the engine with waiting instead of computing, to measure everything around a GPU without one.

It takes runs one after the other, like a device, and each takes the milliseconds that a table gives for its batch
size; the answers are constants, or numbers made from the inputs. It is a measuring tool: nothing but the engine's own
`--pretend TABLE` chooses it, no setting and no environment variable does, and the engine's status says so.
"""

import contextlib
import ctypes
import threading
import time
import tomllib
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from worker.inference import registry
from worker.inference.devices import LoadedModel
from worker.inference.frames import BatchFrame, FramePool
from worker.inference.lane import LaneShape
from worker.inference.registry import ModelCard, ModelSet
from worker.inference.types import ModelError, OutOfMemoryError
from worker.memory import give_back

DEVICE: Final = "pretend"
_SEEN: Final = 16  # numbers of an item from which its made-up outputs follow
_PR_SET_TIMERSLACK: Final = 29


@dataclass(frozen=True)
class PretendModel:
    """One model's behaviour: milliseconds by batch size, the largest batch with room, and constant outputs."""

    milliseconds: Mapping[int, float]
    largest_batch: int = registry.MAX_BATCH
    outputs: Mapping[str, NDArray[Any]] | None = None  # one item's, by name, as the contract has them

    def seconds(self, size: int) -> float:
        """Seconds of a batch: on the line between the two nearest sizes of the table, beyond its ends on the last."""
        sizes = sorted(self.milliseconds)
        if len(sizes) == 1:
            return self.milliseconds[sizes[0]] / 1000 * (size / sizes[0])
        upper = min(max(bisect_left(sizes, size), 1), len(sizes) - 1)
        low, high = sizes[upper - 1], sizes[upper]
        slope = (self.milliseconds[high] - self.milliseconds[low]) / (high - low)
        return max(0.0, self.milliseconds[low] + slope * (size - low)) / 1000


def read_table(path: Path, models: ModelSet = registry.BUILTIN) -> Mapping[str, PretendModel]:
    """Read a table: `[models.NAME]` (or `[default]`) with `milliseconds = {1 = 15.7, 8 = 28.0}`, and where wanted

    `largest_batch = 8` (a larger one runs out of memory) and `outputs = "FILE.npz"` beside the table, with one item's
    arrays by output name. Raises ValueError (also for what is no TOML), OSError.
    """
    data = tomllib.loads(path.read_text("utf-8"))
    if unknown := set(data) - {"models", "default"}:
        raise ValueError(f"{path.name} has unknown parts {sorted(unknown)}")
    given = data.get("models", {})
    if unknown := set(given) - set(models.cards()):
        raise ValueError(f"{path.name} names models that are not registered: {sorted(unknown)}")
    table = {}
    for name, card in models.cards().items():
        entry = given.get(name, data.get("default"))
        if entry is not None:
            table[name] = _model(path, card, entry)
    return table


class PretendDevice:
    """An `Executor` of the pretend device."""

    def __init__(
        self,
        table: Mapping[str, PretendModel],
        *,
        models: ModelSet = registry.BUILTIN,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        # Nothing is computed, so no graph forbids a batch: the table alone says what one takes.
        self.models = replace(models, extra={name: replace(card, batches=True) for name, card in models.extra.items()})
        self._table = table
        self._clock = clock
        self._sleep = sleep
        self._pools: dict[str, FramePool] = {}
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._busy = 0.0
        self._late = 0.0
        self._runs = 0
        _wake_punctually()

    def device(self, model: str) -> str | None:
        """See `Executor.device`."""
        return DEVICE if model in self._pools else None

    def lane(self, device: str) -> LaneShape:
        """See `Executor.lane`: the shape of a GPU."""
        return LaneShape(2, serial=True)

    def load(self, model: str, *, pin: bool = False) -> LoadedModel:
        """See `Executor.load`."""
        card = self.models.card(model)
        if model not in self._table:
            raise ModelError("model_missing", f"The table of the pretend device has no model {model!r} and no default.")
        with self._lock:
            if model not in self._pools:
                self._pools[model] = FramePool(card.contract, kept=self.lane(DEVICE).width, outputs=True, pinned=False)
        return LoadedModel(model, DEVICE, 0, 0.0)

    def loaded(self) -> list[LoadedModel]:
        """The models used so far."""
        return [LoadedModel(model, DEVICE, 0, 0.0) for model in list(self._pools)]

    def evict(self, unused_for: float) -> list[str]:
        """Nothing is held that would have to be freed."""
        return []

    def let_go(self, unused_for: float) -> None:
        """As of real models: the memory of batches is real here too."""
        if sum(pool.let_go(unused_for) for pool in list(self._pools.values())):
            give_back()

    def frame(self, model: str, size: int) -> BatchFrame:
        """See `Executor.frame`."""
        return self._pools[model].take(size)

    def release(self, model: str, frame: BatchFrame) -> None:
        """See `Executor.release`."""
        self._pools[model].give_back(frame)

    def execute(self, model: str, frame: BatchFrame, size: int) -> dict[str, NDArray[Any]]:
        """Wait until the device would have done it. A run that was handed in before the last one ended begins with

        that end and not when this thread woke up, as on a device with a queue; so oversleeping delays an answer, but
        takes nothing of the device's time.
        """
        pretend = self._table[model]
        if size > pretend.largest_batch:
            raise OutOfMemoryError(f"pretending that {size} items of {model} have no room")
        with self._lock:
            handed_in = self._clock()
            seconds = pretend.seconds(size)
            end = self._free_at = max(handed_in, self._free_at) + seconds
            self._busy += seconds
            self._runs += 1
        outputs = {name: array[:size] for name, array in frame.outputs.items()}
        self._fill(pretend, frame, outputs, size)
        while (left := end - self._clock()) > 0:
            self._sleep(left)
        with self._lock:
            self._late += self._clock() - end
        return outputs

    def status(self) -> dict[str, Any]:
        """Runs, the seconds the device was busy, and by how many seconds answers came late in all."""
        with self._lock:
            return {"runs": self._runs, "busy_seconds": round(self._busy, 6), "late_seconds": round(self._late, 6)}

    def _fill(self, pretend: PretendModel, frame: BatchFrame, outputs: Mapping[str, NDArray[Any]], size: int) -> None:
        if pretend.outputs is not None:
            for name, array in outputs.items():
                array[:] = pretend.outputs[name]
            return
        seen = sum(made_from(array[:size]) for array in frame.inputs.values())
        for array in outputs.values():
            numbers = np.reshape(seen, (size, *[1] * (array.ndim - 1)))
            array[:] = numbers if array.dtype == np.float32 else numbers % 256


def made_from(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 [n]: the number that the outputs of each item are filled with, from the first values of its input."""
    sums: NDArray[np.float32] = array.reshape(len(array), -1)[:, :_SEEN].sum(axis=1, dtype=np.float32)
    return sums


def _model(path: Path, card: ModelCard, entry: Mapping[str, Any]) -> PretendModel:
    if unknown := set(entry) - {"milliseconds", "largest_batch", "outputs"}:
        raise ValueError(f"{path.name} has unknown settings {sorted(unknown)} for {card.name}")
    milliseconds = {int(size): float(took) for size, took in entry["milliseconds"].items()}
    if not milliseconds or min(milliseconds) < 1 or min(milliseconds.values()) < 0:
        raise ValueError(f"{path.name} gives {card.name} no milliseconds, or negative ones")
    outputs = None
    if "outputs" in entry:
        with np.load(path.parent / entry["outputs"]) as arrays:
            outputs = {name: arrays[name].astype(card.contract.output_type(name)) for name in card.contract.outputs}
        for name, shape in card.contract.outputs.items():
            if outputs[name].shape != shape:
                raise ValueError(f"{entry['outputs']}: {name} of {card.name} is not {list(shape)}")
    return PretendModel(milliseconds, int(entry.get("largest_batch", registry.MAX_BATCH)), outputs)


def _wake_punctually() -> None:
    """Ask the kernel not to gather this thread's timers (and those of threads it starts) into groups of 50 us."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
