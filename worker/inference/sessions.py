"""ONNX Runtime sessions in this process. The only file that names an execution provider.

A provider list given to ONNX Runtime is a wish: a GPU that cannot start is dropped with a log line, and single nodes
can fall to the CPU unseen. So the policy here is explicit (`require` or `prefer`), the provider in effect is proven by
a run at load, and nodes that landed on the CPU beside a GPU are counted and reported.
"""

import contextlib
import hashlib
import json
import logging
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from worker.inference import registry
from worker.inference.devices import Device, LoadedModel, ProviderPolicy
from worker.inference.frames import BatchFrame, FramePool
from worker.inference.graph_cache import GraphCache
from worker.inference.lane import LaneShape
from worker.inference.precision import PrecisionPolicy, choose
from worker.inference.registry import ModelCard, ModelSet
from worker.inference.types import Done, ModelError, OutOfMemoryError, Pending

__all__ = ["LoadedModel", "LocalRunner", "ProviderPolicy", "is_out_of_memory", "read_verified", "trial_session"]

log = logging.getLogger(__name__)

CPU_PROVIDER: Final = "CPUExecutionProvider"
_PROVIDER_OF_DEVICE: Final[Mapping[Device, str]] = {
    "cpu": CPU_PROVIDER,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
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
            binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        for name, array in outputs.items():
            binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
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
        self._threads = threads
        self._policy = providers or ProviderPolicy()
        self._cache = cache
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
                    lambda trial, device=device: self._prove_bytes(card, trial, device)[0],  # type: ignore[misc]
                    policies=self._precisions,
                )
                session, fallback = self._prove_bytes(card, chosen.data, device)
            except _DeviceUnusableError as error:
                problem = str(error)
                log.warning("model %s does not run on %s: %s", card.name, device, error)
                continue
            loaded = LoadedModel(card.name, device, fallback, time.monotonic() - started, chosen.precision)
            log.info(
                "model %s on %s in %s, %d CPU nodes, %.2f s",
                *(card.name, device, chosen.precision, fallback, loaded.load_seconds),
            )
            kept = self.lane(device).threads
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
            return self._prove_bytes(card, data, self._policy.devices[0])[0]
        except _DeviceUnusableError as error:
            raise ModelError("provider_unavailable", f"The file does not run: {error}") from error

    def _prove_bytes(self, card: ModelCard, data: bytes, device: Device) -> tuple[onnxruntime.InferenceSession, int]:
        """As `_prove`, with the bytes' own SHA-256 on the card: what is cached by it must not serve another file."""
        return self._prove(replace(card, sha256=hashlib.sha256(data).hexdigest()), data, device)

    def _prove(self, card: ModelCard, data: bytes, device: Device) -> tuple[onnxruntime.InferenceSession, int]:
        """Open a session and run it once; gives it with the number of nodes that ran on the CPU although a GPU leads.

        ONNX Runtime's only public account of where nodes ran is its profile, so on a GPU the proof run writes one.
        """
        provider = _PROVIDER_OF_DEVICE[device]
        if provider not in onnxruntime.get_available_providers():
            raise _DeviceUnusableError("this build of ONNX Runtime does not contain it")
        try:
            if device == "cpu":
                return self._open_on_cpu(card, data), 0
            # CUDA libraries that came as Python packages are not on the loader's path; this loads them.
            onnxruntime.preload_dlls()
            chosen = [(provider, self._provider_options(card, device)), CPU_PROVIDER]
            with tempfile.TemporaryDirectory(prefix="imprimatur-profile-") as folder:
                options = self._options()
                options.enable_profiling = True
                options.profile_file_prefix = str(Path(folder) / "profile")
                trial = onnxruntime.InferenceSession(data, options, providers=chosen)
                if trial.get_providers()[0] != provider:
                    raise _DeviceUnusableError("ONNX Runtime dropped it at start-up; its log says why")
                _prove_outputs(card, trial)
                fallback = _count_cpu_nodes(Path(trial.end_profiling()), provider)
            del trial  # its memory on the device is needed for the one that stays
            session = onnxruntime.InferenceSession(data, self._options(), providers=chosen)
            _prove_outputs(card, session)  # warm: the first run allocates and chooses kernels
            return session, fallback
        except (_DeviceUnusableError, ModelError):
            raise
        except Exception as error:  # see _typed_errors
            raise _DeviceUnusableError(str(error)) from error

    def _open_on_cpu(self, card: ModelCard, data: bytes) -> onnxruntime.InferenceSession:
        """A proven session, from the optimised graph on disk where there is one that still works."""
        if self._cache is None:
            session = onnxruntime.InferenceSession(data, self._options(), providers=[CPU_PROVIDER])
            _prove_outputs(card, session)
            return session
        key = self._cache.key(card.sha256, "cpu", onnxruntime.__version__, {"level": "all"})
        optimised = self._cache.read(key)
        if optimised is not None:
            options = self._options()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it is optimised
            try:
                session = onnxruntime.InferenceSession(optimised, options, providers=[CPU_PROVIDER])
                _prove_outputs(card, session)
                return session
            except Exception as error:  # see _typed_errors
                log.warning("the optimised graph of %s is of no use and is made again: %s", card.name, error)
                self._cache.drop(key)
        with tempfile.TemporaryDirectory(prefix="imprimatur-graph-") as folder:
            options = self._options()
            options.optimized_model_filepath = str(Path(folder) / "graph.onnx")
            session = onnxruntime.InferenceSession(data, options, providers=[CPU_PROVIDER])
            _prove_outputs(card, session)
            self._cache.write(key, Path(options.optimized_model_filepath))
        return session

    def _provider_options(self, card: ModelCard, device: Device) -> dict[str, str]:
        options = {"device_id": str(self._policy.device_id)}
        if device == "cuda":
            options["use_tf32"] = "0"  # its 10-bit products move landmarks by visible fractions of a pixel
            # Growing by powers of two would take up to twice what is needed from the other models of the device.
            options["arena_extend_strategy"] = "kSameAsRequested"
            # An exhaustive search would be made again for every batch size that turns up.
            options["cudnn_conv_algo_search"] = "HEURISTIC"
            if self._policy.memory_limit is not None:
                options["gpu_mem_limit"] = str(self._policy.memory_limit)
        if device == "tensorrt":
            options |= _shape_profile(card)
            if self._policy.memory_limit is not None:
                options["trt_max_workspace_size"] = str(self._policy.memory_limit)
            if self._cache is not None:
                key = self._cache.key(card.sha256, device, onnxruntime.__version__, options)
                folder = str(self._cache.folder(key))
                options |= {
                    "trt_engine_cache_enable": "1",
                    "trt_engine_cache_path": folder,
                    "trt_timing_cache_enable": "1",
                    "trt_timing_cache_path": folder,
                }
        return options

    def _options(self) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        if self._threads > 1:
            # Idle threads that spin would take the cores from decoding and encoding beside them.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options


@dataclass(frozen=True)
class BoundFrame:
    """A frame together with the session it was taken from, which may have been evicted since."""

    session: _Session
    memory: BatchFrame

    @property
    def inputs(self) -> Mapping[str, NDArray[np.float32]]:
        """See `batcher.Frame`."""
        return self.memory.inputs


class _DeviceUnusableError(Exception):
    pass


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


def trial_session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session on the CPU for trying an operator's graph, outside of any runner. Raises what ONNX Runtime raises."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=[CPU_PROVIDER])


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


def _shape_profile(card: ModelCard) -> dict[str, str]:
    """TensorRT compiles for a range of shapes: this one holds every batch, so that none makes it compile again."""
    most = registry.MAX_BATCH if card.batches else 1
    sizes = {"trt_profile_min_shapes": 1, "trt_profile_opt_shapes": min(8, most), "trt_profile_max_shapes": most}
    return {
        option: ",".join(f"{name}:{'x'.join(map(str, (n, *shape)))}" for name, shape in card.contract.inputs.items())
        for option, n in sizes.items()
    }


def _prove_outputs(card: ModelCard, session: onnxruntime.InferenceSession) -> None:
    """Run once on zeros; _DeviceUnusableError unless the outputs are finite and of the contract's shape."""
    zeros = {name: np.zeros((1, *shape), np.float32) for name, shape in card.contract.inputs.items()}
    results = session.run(list(card.contract.outputs), zeros)
    for (name, shape), array in zip(card.contract.outputs.items(), results, strict=True):
        if array.shape != (1, *shape) or not np.isfinite(array).all():
            raise _DeviceUnusableError(f"output {name} of the test run is not finite with shape [1, {shape}]")


def _count_cpu_nodes(profile: Path, provider: str) -> int:
    """Nodes of a profile that ran on the CPU; _DeviceUnusableError if none at all ran on `provider`."""
    events = json.loads(profile.read_text("utf-8"))
    where = {event["name"]: event["args"]["provider"] for event in events if event.get("args", {}).get("provider")}
    if provider not in where.values():
        raise _DeviceUnusableError("not one node of the model runs on it")
    return sum(found == CPU_PROVIDER for found in where.values())
