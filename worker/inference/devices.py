"""The words for devices: which ones there are, which one an operator wants, and which one a model got."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from worker.inference.registry import Precision

Device = Literal["cpu", "cuda", "tensorrt"]


@dataclass(frozen=True)
class ProviderPolicy:
    """Which device runs the models.

    mode "require": the first device must work, anything else is ModelError "provider_unavailable".
    mode "prefer": devices are tried in order, the CPU last; a device that fails is logged and skipped.
    """

    mode: Literal["require", "prefer"] = "prefer"
    devices: tuple[Device, ...] = ("cpu",)
    device_id: int = 0
    memory_limit: int | None = None  # bytes of the device's memory that one model's arena may take

    @classmethod
    def parse(cls, text: str) -> "ProviderPolicy":
        """Read "auto", "require:cuda" or "prefer:tensorrt,cuda" (the form of the setting); ValueError if malformed.

        "auto" prefers CUDA where the machine has an NVIDIA device, else it is "prefer:cpu".
        """
        if text == "auto":
            return cls("prefer", ("cuda", "cpu") if Path("/dev/nvidiactl").exists() else ("cpu",))
        mode, _, listed = text.partition(":")
        devices = tuple(name.strip() for name in listed.split(",") if name.strip())
        if mode not in ("require", "prefer") or not devices or not set(devices) <= set(get_args(Device)):
            raise ValueError(f"{text!r} is not a provider policy; write for example prefer:cuda or require:cpu")
        return cls(mode, devices)  # type: ignore[arg-type]


@dataclass(frozen=True)
class LoadedModel:
    """What is true of a loaded model: the device that really runs it, and how many nodes are not on it."""

    name: str
    device: str  # a `Device`, or "pretend"
    cpu_fallback_nodes: int
    load_seconds: float
    precision: Precision = "fp32"
