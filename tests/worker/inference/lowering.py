"""A small picture-to-picture model with a registry entry and a policy, for tests of lower precisions."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx

from worker.inference import accuracy, registry
from worker.inference.contracts import ModelContract
from worker.inference.onnx_graph import GraphWriter, serialise
from worker.inference.precision import PrecisionPolicy
from worker.inference.quantise import SampleSet
from worker.inference.sessions import LocalRunner

NAME = "painter"
SHAPE = (3, 16, 16)


def build(gain: float = 1.0, seed: int = 7) -> onnx.ModelProto:
    """Two convolutions; between them values are multiplied by `gain` and divided by it again."""
    noise = np.random.default_rng(seed)
    writer = GraphWriter()
    first = writer.constant(noise.normal(0, 0.3, (8, 3, 3, 3)))
    second = writer.constant(noise.normal(0, 0.1, (3, 8, 3, 3)))
    value = writer.apply("Conv", "image", first, output="felt", pads=(1, 1, 1, 1))
    value = writer.apply("Relu", value, output="lit")
    value = writer.apply("Mul", value, writer.constant([gain]), output="loud")
    value = writer.apply("Mul", value, writer.constant([1 / gain]), output="calm")
    writer.apply("Conv", value, second, output="picture", pads=(1, 1, 1, 1))
    return writer.finish(NAME, {"image": SHAPE}, {"picture": SHAPE})


def put(folder: Path, monkeypatch: Any, model: onnx.ModelProto) -> registry.ModelCard:
    """Write the model into the folder and register it as exactly that file."""
    data = serialise(model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{NAME}.onnx").write_bytes(data)
    contract = ModelContract({"image": SHAPE}, {"picture": SHAPE}, "noise", "noise")
    card = dataclasses.replace(
        registry.card("face_mesh"),
        name=NAME,
        role="painter",
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        contract=contract,
    )
    monkeypatch.setattr(registry, "_CARDS", MappingProxyType({**registry.cards(), NAME: card}))
    return card


def policy(**changes: Any) -> PrecisionPolicy:
    """Float16 wanted on the CPU, 40 dB asked for."""
    given = PrecisionPolicy(
        model=NAME,
        gate="image",
        mode="prefer",
        wanted={"cpu": "fp16"},
        keep={},
        reader=accuracy.ImageReader("picture", -1.0, 1.0),
        limits=accuracy.Limits({}, {"samples": 8, "psnr_worst_db": 40.0}),
    )
    return dataclasses.replace(given, **changes)


def sample_set(seed: int = 1) -> SampleSet:
    """Noise: 12 rows to calibrate, 12 others to judge."""
    noise = np.random.default_rng(seed)
    learn, judge = ({"image": noise.uniform(-1, 1, (12, *SHAPE)).astype(np.float32)} for _ in range(2))
    return SampleSet(learn, judge, judge)


def runner(folder: Path, policies: Mapping[str, PrecisionPolicy]) -> LocalRunner:
    """A runner on the CPU with these policies only."""
    return LocalRunner(folder, precisions=policies)
