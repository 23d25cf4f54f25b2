"""The models of this process: loaded once each, verified, proven (see `opening`), run, and freed when unused.

The policy says which devices are tried (`require` or `prefer`); which one it became, and how many nodes fell to the CPU
beside a GPU, is kept of each and reported.
"""

import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from worker.inference import registry
from worker.inference.devices import LoadedModel, ProviderPolicy
from worker.inference.frames import BatchFrame, FramePool
from worker.inference.graph_cache import GraphCache
from worker.inference.lane import LaneShape
from worker.inference.opening import DeviceUnusableError, Opener
from worker.inference.precision import PrecisionPolicy, choose
from worker.inference.registry import ModelCard, ModelSet
from worker.inference.types import Done, ModelError, OutOfMemoryError, Pending
from worker.memory import give_back

__all__ = ["LoadedModel", "LocalRunner", "ProviderPolicy", "is_out_of_memory", "read_verified"]

log = logging.getLogger(__name__)

# What the runtime's arenas, the C++ library, CUDA and its libraries say when memory runs out.
_OUT_OF_MEMORY: Final = (
    "failed to allocate memory",
    "available memory of",  # "... is smaller than requested bytes of": the arena's limit
    "bad_alloc",
    "bad allocation",
    "out of memory",
    "cudaerrormemoryallocation",
    "alloc_failed",
)


class _Session:
    """A loaded model with its memory, and when it was used last."""

    def __init__(
        self, card: ModelCard, session: onnxruntime.InferenceSession, loaded: LoadedModel, *, kept: int, bind: bool
    ) -> None:
        self.loaded: Final = loaded
        self.last_use = time.monotonic()
        self.frames: Final = FramePool(card.contract, kept=kept, outputs=bind, pinned=loaded.device != "cpu")
        self._card = card
        self._session = session
        self._bind = bind
        self._outputs = list(card.contract.outputs)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run; the outputs are the caller's own."""
        self.last_use = time.monotonic()
        with _typed_errors(self._card.name):
            return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs)), strict=True))

    def run_frame(self, frame: BatchFrame, size: int) -> dict[str, NDArray[Any]]:
        """Run the first `size` items of a frame; the outputs may lie in it.

        A GPU copies straight from and to the frame's page-locked memory. On the CPU the runtime reads the inputs where
        they are and hands its own outputs over without a copy: binding was measured there and saves nothing.
        """
        inputs = {name: array[:size] for name, array in frame.inputs.items()}
        if not self._bind:
            return self.run(inputs)
        self.last_use = time.monotonic()
        outputs = {name: array[:size] for name, array in frame.outputs.items()}
        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for name, array in outputs.items():
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        with _typed_errors(self._card.name):
            self._session.run_with_iobinding(binding)
        return outputs


class LocalRunner:
    """Runs registered models in this process. Thread-safe; a model is loaded, verified and proven at its first use.

    Implements `ModelRunner` for callers and `Executor` for the batcher.
    """

    def __init__(
        self,
        models_dir: Path,
        *,
        threads: int = 1,
        providers: ProviderPolicy | None = None,
        cache: GraphCache | None = None,
        slots: int = 1,
        bind: bool = False,
        models: ModelSet = registry.BUILTIN,
        precisions: Mapping[str, PrecisionPolicy] | None = None,
    ) -> None:
        """`models` says which there are, `precisions` in which precision they run, the shipped ones if not given.

        `threads` is the number of threads one run may use, `slots` how many runs a CPU takes at once.

        `bind` binds memory on the CPU as on a GPU, where it is always done.
        """
        self._models_dir = models_dir
        self.models = models
        self._policy = providers or ProviderPolicy()
        self._opener = Opener(threads, self._policy, cache)
        self._slots = slots
        self._bind = bind
        self._precisions = precisions
        self._sessions: dict[str, _Session] = {}
        self._pinned: set[str] = set()
        self._lock = threading.Lock()
        self._load_locks: dict[str, threading.Lock] = {}

    def run(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See `ModelRunner.run`. The batch may hold 1 to `registry.MAX_BATCH` items."""
        card = self.models.card(model)
        batch = registry.check_inputs(card, inputs)
        session = self._session(card)
        try:
            if card.batches or batch == 1:
                return session.run(inputs)
            single = [session.run({n: a[i : i + 1] for n, a in inputs.items()}) for i in range(batch)]
            return {name: np.concatenate([outputs[name] for outputs in single]) for name in card.contract.outputs}
        except OutOfMemoryError as error:
            raise _failed(model, error) from error

    def submit(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> Pending:
        """See `ModelRunner.submit`; runs at once."""
        return Done(self.run(model, inputs))

    def load(self, model: str, *, pin: bool = False) -> LoadedModel:
        """Load a model now instead of at its first use; a pinned one is never evicted. Raises ModelError."""
        if pin:
            self._pinned.add(model)
        return self._session(self.models.card(model)).loaded

    def loaded(self) -> list[LoadedModel]:
        """The models loaded so far."""
        return [session.loaded for session in list(self._sessions.values())]

    def evict(self, unused_for: float) -> list[str]:
        """Free the models that were not used for so many seconds and are not pinned; a run that is open ends first."""
        limit = time.monotonic() - unused_for
        with self._lock:
            names = [n for n, s in self._sessions.items() if n not in self._pinned and s.last_use <= limit]
            for name in names:
                del self._sessions[name]  # whoever runs it holds it until then
        for name in names:
            log.info("model %s unloaded, not used for %.0f s", name, unused_for)
        return names

    def let_go(self, unused_for: float) -> None:
        """Free the memory of batches of models that no batch ran through for so many seconds; they stay loaded."""
        if sum(session.frames.let_go(unused_for) for session in list(self._sessions.values())):
            give_back()

    def device(self, model: str) -> str | None:
        """See `Executor.device`."""
        session = self._sessions.get(model)
        return session.loaded.device if session else None

    def lane(self, device: str) -> LaneShape:
        """See `Executor.lane`: more runs at once than cores only make each of them slower."""
        return LaneShape(self._slots, serial=False) if device == "cpu" else LaneShape(2, serial=True)

    def frame(self, model: str, size: int) -> "BoundFrame":
        """See `Executor.frame`. Raises ModelError."""
        session = self._session(self.models.card(model))
        return BoundFrame(session, session.frames.take(size))

    def execute(self, model: str, frame: "BoundFrame", size: int) -> dict[str, NDArray[Any]]:
        """See `Executor.execute`."""
        return frame.session.run_frame(frame.memory, size)

    def release(self, model: str, frame: "BoundFrame") -> None:
        """See `Executor.release`."""
        frame.session.frames.give_back(frame.memory)

    def _session(self, card: ModelCard) -> _Session:
        session = self._sessions.get(card.name)
        if session is not None:
            return session
        with self._lock:
            lock = self._load_locks.setdefault(card.name, threading.Lock())
        with lock:  # of this model only: others load and run meanwhile
            session = self._sessions.get(card.name)
            if session is None:
                session = self._open(card)
                with self._lock:
                    self._sessions[card.name] = session
            return session

    def _open(self, card: ModelCard) -> _Session:
        data = read_verified(self.models.path(self._models_dir, card.name), card)
        devices = self._policy.devices[:1] if self._policy.mode == "require" else self._policy.devices
        if self._policy.mode == "prefer" and "cpu" not in devices:
            devices = (*devices, "cpu")
        problem = ""
        for device in devices:
            started = time.monotonic()
            try:
                chosen = choose(
                    self._models_dir,
                    card,
                    data,
                    device,
                    lambda trial, device=device: self._opener.open(card, trial, device)[0],  # type: ignore[misc]
                    policies=self._precisions,
                )
                session, fallback = self._opener.open(card, chosen.data, device)
            except DeviceUnusableError as error:
                problem = str(error)
                log.warning("model %s does not run on %s: %s", card.name, device, error)
                continue
            loaded = LoadedModel(card.name, device, fallback, time.monotonic() - started, chosen.precision)
            log.info(
                "model %s on %s in %s, %d CPU nodes, %.2f s",
                *(card.name, device, chosen.precision, fallback, loaded.load_seconds),
            )
            kept = self.lane(device).width
            return _Session(card, session, loaded, kept=kept, bind=self._bind or device != "cpu")
        raise ModelError(
            "provider_unavailable",
            f"The model {card.name} does not run on {', '.join(devices)}: {problem}. No job was touched. "
            "Install the driver and the extra `cuda`, or set the inference policy to prefer:cpu.",
        )

    def open_trial(self, card: ModelCard, data: bytes) -> onnxruntime.InferenceSession:
        """A session on other bytes than the registered file's, on the first device of the policy, for a gate only.

        ModelError "provider_unavailable" if they do not run there.
        """
        try:
            return self._opener.open(card, data, self._policy.devices[0])[0]
        except DeviceUnusableError as error:
            raise ModelError("provider_unavailable", f"The file does not run: {error}") from error


@dataclass(frozen=True)
class BoundFrame:
    """A frame together with the session it was taken from, which may have been evicted since."""

    session: _Session
    memory: BatchFrame

    @property
    def inputs(self) -> Mapping[str, NDArray[Any]]:
        """See `executor.Frame`."""
        return self.memory.inputs


def read_verified(path: Path, card: ModelCard) -> bytes:
    """The bytes of a model file, only if they are the registered or imported ones. Raises ModelError."""
    remedy = (
        "Put its file into the folder of additional models"
        if card.original
        else "Run `manage.py models build` to make it"
    )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(
            "model_missing",
            f"The model file {path.name} cannot be read ({error.strerror}). Nothing was lost. {remedy}.",
        ) from error
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise ModelError(
            "model_hash_mismatch",
            f"The model file {path.name} is not the registered one, so it is not used. Nothing was lost. "
            f"{remedy} anew.",
        )
    return data


def is_out_of_memory(text: str) -> bool:
    """Whether an error of ONNX Runtime, which has no type for it, says that memory ran out."""
    return any(sign in text.lower() for sign in _OUT_OF_MEMORY)


@contextlib.contextmanager
def _typed_errors(model: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # ONNX Runtime raises its own pybind classes, which share no base but Exception
        if is_out_of_memory(str(error)):
            raise OutOfMemoryError(str(error)) from error
        raise _failed(model, error) from error


def _failed(model: str, error: Exception) -> ModelError:
    return ModelError(
        "engine_failed", f"The model {model} failed while running; nothing was lost, try again. ({error})"
    )
