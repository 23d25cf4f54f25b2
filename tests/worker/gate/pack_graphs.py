"""Tiny detectors for tests: ONNX files with known answers, and the manifests that go with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 16


def write_graph(
    path: Path, *, gain: float = 1.0, bias: float = 0.0, steps: int = 0, nan: bool = False, batch: int | str = "N"
) -> Path:
    """A detector whose logit is `gain` times the mean of its input, plus `bias`.

    `steps` lets it turn a large matrix that many times first, which takes long; `nan` makes it answer with none.
    """
    weights = {"gain": np.array(gain, np.float32), "bias": np.array(bias, np.float32), "axes": np.array([1, 2, 3])}
    nodes = [
        helper.make_node("ReduceMean", ["picture", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "gain"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["flat" if not (nan or steps) else "before"]),
    ]
    if nan:
        # The logarithm of a number below zero, for every real picture; noise around zero gets an answer.
        weights["far"] = np.array(-0.45, np.float32)
        nodes += [
            helper.make_node("Add", ["mean", "far"], ["shifted"]),
            helper.make_node("Neg", ["shifted"], ["turned"]),
            helper.make_node("Log", ["turned"], ["logarithm"]),
            helper.make_node("Add", ["before", "logarithm"], ["flat"]),
        ]
    if steps:
        weights |= {"matrix": np.eye(512, dtype=np.float32), "zero": np.array(0.0, np.float32)}
        weights |= {"count": np.array(steps), "go": np.array(True), "all": np.array([0, 1])}
        body = helper.make_graph(
            [
                helper.make_node("MatMul", ["state", "state"], ["next"]),
                helper.make_node("And", ["going", "going"], ["on"]),
            ],
            "body",
            [
                helper.make_tensor_value_info("number", TensorProto.INT64, []),
                helper.make_tensor_value_info("going", TensorProto.BOOL, []),
                helper.make_tensor_value_info("state", TensorProto.FLOAT, [512, 512]),
            ],
            [
                helper.make_tensor_value_info("on", TensorProto.BOOL, []),
                helper.make_tensor_value_info("next", TensorProto.FLOAT, [512, 512]),
            ],
        )
        nodes += [
            helper.make_node("Loop", ["count", "go", "matrix"], ["turned_often"], body=body),
            helper.make_node("ReduceMean", ["turned_often", "all"], ["slow"], keepdims=0),
            helper.make_node("Mul", ["slow", "zero"], ["nothing"]),
            helper.make_node("Add", ["before", "nothing"], ["flat"]),
        ]
    weights["shape"] = np.array([-1, 1])
    nodes.append(helper.make_node("Reshape", ["flat", "shape"], ["logit"]))
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logit", TensorProto.FLOAT, [batch, 1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def write_manifest(path: Path, *, kind: str = "face_forgery", extra: str = "", **changes: str) -> Path:
    """A manifest for `write_graph`; `changes` replace lines of its head, "" leaves one out, `extra` goes to the end."""
    framing = "whole" if kind == "ai_image" else "face"
    head = {
        "format": "1",
        "id": f'"{path.stem}"',
        "kind": f'"{kind}"',
        "species": '["drawn"]',
        "licence": '"MIT"',
        "licence_url": '"https://example.org/licence"',
        "commercial_use": "true",
        "file": f'"{path.stem}.onnx"',
        **changes,
    }
    lines = [f"{key} = {value}" for key, value in head.items() if value]
    lines += ["[input]", 'name = "picture"', f"side = {SIDE}", f'framing = "{framing}"']
    lines += ["[output]", 'name = "logit"', "values = 1", 'form = "logit"', extra]
    path.write_text("\n".join(lines))
    return path
