"""ONNX Runtime sessions in this process. The only file that names an execution provider.

A provider list given to ONNX Runtime is a wish: a GPU that cannot start is dropped with a log line, and single nodes
can fall to the CPU unseen. So the policy here is explicit (`require` or `prefer`), the provider in effect is proven by
a run at load, and nodes that landed on the CPU beside a GPU are counted and reported.
"""

import hashlib
import json
import logging
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from worker.inference import registry
from worker.inference.precision import Precision, PrecisionPolicy, choose
from worker.inference.registry import ModelCard
from worker.inference.types import ModelError

log = logging.getLogger(__name__)

Device = Literal["cpu", "cuda", "tensorrt"]
CPU_PROVIDER: Final = "CPUExecutionProvider"
_PROVIDER_OF_DEVICE: Final[Mapping[Device, str]] = {
    "cpu": CPU_PROVIDER,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


@dataclass(frozen=True)
class ProviderPolicy:
    """Which device runs the models.

    mode "require": the first device must work, anything else is ModelError "provider_unavailable".
    mode "prefer": devices are tried in order, the CPU last; a device that fails is logged and skipped.
    """

    mode: Literal["require", "prefer"] = "prefer"
    devices: tuple[Device, ...] = ("cpu",)
    device_id: int = 0

    @classmethod
    def parse(cls, text: str) -> "ProviderPolicy":
        """Read "auto", "require:cuda" or "prefer:tensorrt,cuda" (the form of the setting); ValueError if malformed.

        "auto" prefers CUDA where the machine has an NVIDIA device, else it is "prefer:cpu".
        """
        if text == "auto":
            return cls("prefer", ("cuda", "cpu") if Path("/dev/nvidiactl").exists() else ("cpu",))
        mode, _, listed = text.partition(":")
        devices = tuple(name.strip() for name in listed.split(",") if name.strip())
        if mode not in ("require", "prefer") or not devices or any(name not in _PROVIDER_OF_DEVICE for name in devices):
            raise ValueError(f"{text!r} is not a provider policy; write for example prefer:cuda or require:cpu")
        return cls(mode, devices)  # type: ignore[arg-type]


@dataclass(frozen=True)
class LoadedModel:
    """What is true of a loaded model: the device that really runs it, and how many nodes are not on it."""

    name: str
    device: Device
    cpu_fallback_nodes: int
    load_seconds: float
    precision: Precision = "fp32"


class LocalRunner:
    """Runs registered models in this process. Thread-safe; a model is loaded, verified and proven at its first use."""

    def __init__(
        self,
        models_dir: Path,
        *,
        threads: int = 1,
        providers: ProviderPolicy | None = None,
        precisions: Mapping[str, PrecisionPolicy] | None = None,
    ) -> None:
        """`threads` is the number of threads one run may use; `precisions` are the shipped ones if not given."""
        self._models_dir = models_dir
        self._threads = threads
        self._policy = providers or ProviderPolicy()
        self._precisions = precisions
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}
        self._loaded: dict[str, LoadedModel] = {}
        self._locks = {name: threading.Lock() for name in registry.cards()}

    def run(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See `ModelRunner.run`. The batch may hold 1 to `registry.MAX_BATCH` items."""
        card = registry.card(model)
        registry.check_inputs(card, inputs)
        session = self._session(card)
        names = list(card.contract.outputs)
        try:
            results = session.run(names, dict(inputs))
        except Exception as error:  # ONNX Runtime raises its own pybind classes, which share no base but Exception
            raise ModelError(
                "engine_failed", f"The model {model} failed while running; nothing was lost, try again. ({error})"
            ) from error
        return dict(zip(names, results, strict=True))

    def load(self, model: str) -> LoadedModel:
        """Load a model now instead of at its first use. Raises ModelError."""
        self._session(registry.card(model))
        return self._loaded[model]

    def loaded(self) -> list[LoadedModel]:
        """The models loaded so far."""
        return list(self._loaded.values())

    def _session(self, card: ModelCard) -> onnxruntime.InferenceSession:
        with self._locks[card.name]:
            if card.name not in self._sessions:
                session, self._loaded[card.name] = self._open(card)
                self._sessions[card.name] = session
            return self._sessions[card.name]

    def _open(self, card: ModelCard) -> tuple[onnxruntime.InferenceSession, LoadedModel]:
        data = read_verified(self._models_dir, card)
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
            return session, loaded
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
        zeros = {name: np.zeros((1, *shape), np.float32) for name, shape in card.contract.inputs.items()}
        outputs = list(card.contract.outputs)
        try:
            if device == "cpu":
                session = onnxruntime.InferenceSession(data, self._options(), providers=[CPU_PROVIDER])
                _prove_outputs(card, session.run(outputs, zeros))
                return session, 0
            # CUDA libraries that came as Python packages are not on the loader's path; this loads them.
            onnxruntime.preload_dlls()
            chosen = [(provider, self._provider_options(device)), CPU_PROVIDER]
            with tempfile.TemporaryDirectory(prefix="imprimatur-profile-") as folder:
                options = self._options()
                options.enable_profiling = True
                options.profile_file_prefix = str(Path(folder) / "profile")
                trial = onnxruntime.InferenceSession(data, options, providers=chosen)
                if trial.get_providers()[0] != provider:
                    raise _DeviceUnusableError("ONNX Runtime dropped it at start-up; its log says why")
                _prove_outputs(card, trial.run(outputs, zeros))
                fallback = _count_cpu_nodes(Path(trial.end_profiling()), provider)
            return onnxruntime.InferenceSession(data, self._options(), providers=chosen), fallback
        except (_DeviceUnusableError, ModelError):
            raise
        except Exception as error:  # see run()
            raise _DeviceUnusableError(str(error)) from error

    def _provider_options(self, device: Device) -> dict[str, str]:
        options = {"device_id": str(self._policy.device_id)}
        if device == "cuda":
            options["use_tf32"] = "0"  # its 10-bit products move landmarks by visible fractions of a pixel
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


class _DeviceUnusableError(Exception):
    pass


def read_verified(models_dir: Path, card: ModelCard) -> bytes:
    """The bytes of a model file, only if they are the registered ones. Raises ModelError."""
    path = registry.model_path(models_dir, card.name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(
            "model_missing",
            f"The model file {path.name} cannot be read ({error.strerror}). "
            "Nothing was lost. Run `manage.py models build` to make it.",
        ) from error
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise ModelError(
            "model_hash_mismatch",
            f"The model file {path.name} is not the registered one, so it is not used. "
            "Nothing was lost. Run `manage.py models build` to make it anew.",
        )
    return data


def _prove_outputs(card: ModelCard, results: list[NDArray[Any]]) -> None:
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
