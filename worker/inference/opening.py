"""Opening ONNX Runtime sessions, each proven by a run. The only file that names an execution provider.

A provider list given to ONNX Runtime is a wish: a GPU that cannot start is dropped with a log line, and single nodes
can fall to the CPU unseen. So the provider in effect is proven by a run at load, and nodes that landed on the CPU
beside a GPU are counted.
"""

import hashlib
import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime

from worker.inference import registry
from worker.inference.devices import Device, ProviderPolicy
from worker.inference.graph_cache import GraphCache
from worker.inference.registry import ModelCard
from worker.inference.types import ModelError

log = logging.getLogger(__name__)

CPU_PROVIDER: Final = "CPUExecutionProvider"
_PROVIDER_OF_DEVICE: Final[Mapping[Device, str]] = {
    "cpu": CPU_PROVIDER,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


class DeviceUnusableError(Exception):
    """The device cannot run the model; the text says why."""


class Opener:
    """Opens sessions with `threads` of their own, on the devices of `policy`; optimised graphs are kept in `cache`."""

    def __init__(self, threads: int, policy: ProviderPolicy, cache: GraphCache | None) -> None:
        self._threads = threads
        self._policy = policy
        self._cache = cache

    def open(self, card: ModelCard, data: bytes, device: Device) -> tuple[onnxruntime.InferenceSession, int]:
        """A session on `data` that ran once, and the number of nodes that ran on the CPU although a GPU leads.

        Whatever file `card` names, what is cached here goes by the bytes' own SHA-256: it must not serve another file.
        ONNX Runtime's only public account of where nodes ran is its profile, so on a GPU the proof run writes one.
        Raises DeviceUnusableError, ModelError.
        """
        card = replace(card, sha256=hashlib.sha256(data).hexdigest())
        provider = _PROVIDER_OF_DEVICE[device]
        if provider not in onnxruntime.get_available_providers():
            raise DeviceUnusableError("this build of ONNX Runtime does not contain it")
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
                    raise DeviceUnusableError("ONNX Runtime dropped it at start-up; its log says why")
                _prove_outputs(card, trial)
                fallback = _count_cpu_nodes(Path(trial.end_profiling()), provider)
            del trial  # its memory on the device is needed for the one that stays
            session = onnxruntime.InferenceSession(data, self._options(), providers=chosen)
            _prove_outputs(card, session)  # warm: the first run allocates and chooses kernels
            return session, fallback
        except (DeviceUnusableError, ModelError):
            raise
        except Exception as error:  # see sessions._typed_errors
            raise DeviceUnusableError(str(error)) from error

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
            except Exception as error:  # see sessions._typed_errors
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


def trial_session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session on the CPU for trying an operator's graph, outside of any runner. Raises what ONNX Runtime raises."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=[CPU_PROVIDER])


def _shape_profile(card: ModelCard) -> dict[str, str]:
    """TensorRT compiles for a range of shapes: this one holds every batch, so that none makes it compile again."""
    most = registry.MAX_BATCH if card.batches else 1
    sizes = {"trt_profile_min_shapes": 1, "trt_profile_opt_shapes": min(8, most), "trt_profile_max_shapes": most}
    return {
        option: ",".join(f"{name}:{'x'.join(map(str, (n, *shape)))}" for name, shape in card.contract.inputs.items())
        for option, n in sizes.items()
    }


def _prove_outputs(card: ModelCard, session: onnxruntime.InferenceSession) -> None:
    """Run once on zeros; DeviceUnusableError unless the outputs are finite and of the contract's shape."""
    contract = card.contract
    zeros = {name: np.zeros((1, *shape), contract.input_type(name)) for name, shape in contract.inputs.items()}
    results = session.run(list(contract.outputs), zeros)
    for (name, shape), array in zip(contract.outputs.items(), results, strict=True):
        if array.shape != (1, *shape) or not np.isfinite(array).all():
            raise DeviceUnusableError(f"output {name} of the test run is not finite with shape [1, {shape}]")


def _count_cpu_nodes(profile: Path, provider: str) -> int:
    """Nodes of a profile that ran on the CPU; DeviceUnusableError if none at all ran on `provider`."""
    events = json.loads(profile.read_text("utf-8"))
    where = {event["name"]: event["args"]["provider"] for event in events if event.get("args", {}).get("provider")}
    if provider not in where.values():
        raise DeviceUnusableError("not one node of the model runs on it")
    return sum(found == CPU_PROVIDER for found in where.values())
