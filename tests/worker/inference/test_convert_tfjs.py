"""TensorFlow.js graphs become ONNX that computes the same, or nothing at all."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from worker.inference.convert_tfjs import TfjsError, convert
from worker.inference.onnx_graph import serialise

SIDE = 7


class Net:
    """A small net of the age network's kind: nodes as the TensorFlow.js converter writes them, and weights."""

    def __init__(self) -> None:
        draw = np.random.default_rng(3)
        self.weights: dict[str, NDArray[Any]] = {
            "k1": draw.normal(size=(3, 3, 3, 4)),
            "b1": draw.normal(size=(4,)),
            "six": np.array(6.0),
            "zero": np.array(0.0),
            "k2": draw.normal(size=(3, 3, 4, 1)),
            "m2": draw.normal(size=(4,)),
            "k3": draw.normal(size=(4, 5)),
            "b3": draw.normal(size=(5,)),
            "k4": draw.normal(size=(5, 3)),
            "b4": draw.normal(size=(3,)),
        }
        self.weights = {name: value.astype(np.float16).astype(np.float32) for name, value in self.weights.items()}
        self.weights["axes"] = np.array([1, 2], np.int32)
        shape = {"dim": [{"size": str(size)} for size in (-1, SIDE, SIDE, 3)]}
        self.nodes: list[dict[str, Any]] = [
            {"name": "in", "op": "Placeholder", "attr": {"shape": {"shape": shape}}},
            *({"name": name, "op": "Const", "attr": {}} for name in self.weights),
            {"name": "c1", "op": "Conv2D", "input": ["in", "k1"], "attr": window(2, "SAME")},
            {"name": "a1", "op": "Add", "input": ["c1", "b1"], "attr": {}},
            {"name": "r1", "op": "Relu", "input": ["a1"], "attr": {}},
            {"name": "n1", "op": "Minimum", "input": ["r1", "six"], "attr": {}},
            {"name": "x1", "op": "Maximum", "input": ["n1", "zero"], "attr": {}},
            {"name": "d2", "op": "DepthwiseConv2dNative", "input": ["x1", "k2"], "attr": window(1, "SAME")},
            {"name": "m2o", "op": "Mul", "input": ["d2", "m2"], "attr": {}},
            {"name": "g", "op": "Mean", "input": ["m2o", "axes"], "attr": {"keep_dims": {"b": False}}},
            {"name": "f3", "op": "_FusedMatMul", "input": ["g", "k3", "b3"], "attr": fused("BiasAdd", "Relu")},
            {"name": "f4", "op": "_FusedMatMul", "input": ["f3", "k4", "b4"], "attr": fused("BiasAdd")},
            {"name": "out", "op": "Softmax", "input": ["f4"], "attr": {}},
            {"name": "other", "op": "Unheard", "input": ["f3"], "attr": {}},
        ]

    def node(self, name: str) -> dict[str, Any]:
        return next(node for node in self.nodes if node["name"] == name)

    def files(self) -> tuple[bytes, bytes]:
        entries, data = [], b""
        for name, value in self.weights.items():
            whole = value.dtype == np.int32
            stored = value if whole else value.astype("<f2")
            entry: dict[str, Any] = {"name": name, "shape": list(value.shape), "dtype": "int32" if whole else "float32"}
            if not whole:
                entry["quantization"] = {"dtype": "float16", "original_dtype": "float32"}
            entries.append(entry)
            data += stored.tobytes()
        model = {
            "modelTopology": {"node": self.nodes},
            "weightsManifest": [{"paths": ["net.bin"], "weights": entries}],
        }
        return json.dumps(model).encode(), data

    def convert(self, output: str = "out") -> Any:
        graph, data = self.files()
        return convert(graph, data, "net", output, "age")


def window(stride: int, padding: str) -> dict[str, Any]:
    return {
        "strides": {"list": {"i": ["1", str(stride), str(stride), "1"]}},
        "dilations": {"list": {"i": ["1", "1", "1", "1"]}},
        "padding": {"s": text(padding)},
        "data_format": {"s": text("NHWC")},
    }


def fused(*steps: str) -> dict[str, Any]:
    return {"fused_ops": {"list": {"s": [text(step) for step in steps]}}}


def text(words: str) -> str:
    return base64.b64encode(words.encode()).decode()


def convolved(
    picture: NDArray[np.float64], kernel: NDArray[Any], stride: int, padding: str, depthwise: bool
) -> NDArray[np.float64]:
    """tf.nn.conv2d and tf.nn.depthwise_conv2d of [H, W, C], written from the reference, loop by loop."""
    height, width, channels = picture.shape
    tall, wide = kernel.shape[:2]
    if padding == "SAME":
        rows, columns = math.ceil(height / stride), math.ceil(width / stride)
        down, across = max((rows - 1) * stride + tall - height, 0), max((columns - 1) * stride + wide - width, 0)
    else:
        rows, columns, down, across = (height - tall) // stride + 1, (width - wide) // stride + 1, 0, 0
    padded = np.pad(picture, ((down // 2, down - down // 2), (across // 2, across - across // 2), (0, 0)))
    out = np.zeros((rows, columns, channels if depthwise else kernel.shape[3]))
    for row in range(rows):
        for column in range(columns):
            part = padded[row * stride : row * stride + tall, column * stride : column * stride + wide]
            if depthwise:
                out[row, column] = (part * kernel[:, :, :, 0]).sum(axis=(0, 1))
            else:
                out[row, column] = np.tensordot(part, kernel, axes=3)
    return out


def reference(net: Net, picture: NDArray[np.float64], padding: str = "SAME", stride: int = 2) -> NDArray[np.float64]:
    w = net.weights
    x = convolved(picture, w["k1"], stride, padding, depthwise=False) + w["b1"]
    x = np.clip(np.maximum(x, 0), 0, 6)
    x = convolved(x, w["k2"], 1, "SAME", depthwise=True) * w["m2"]
    x = np.maximum(x.mean(axis=(0, 1)) @ w["k3"] + w["b3"], 0) @ w["k4"] + w["b4"]
    exponents = np.exp(x - x.max())
    return exponents / exponents.sum()


@pytest.mark.parametrize(("stride", "padding"), [(2, "SAME"), (1, "SAME"), (2, "VALID"), (3, "SAME")])
def test_a_converted_net_computes_what_the_reference_says(stride: int, padding: str) -> None:
    net = Net()
    net.node("c1")["attr"] = window(stride, padding)
    session = onnxruntime.InferenceSession(serialise(net.convert()))
    pictures = np.random.default_rng(4).normal(size=(3, SIDE, SIDE, 3))
    (found,) = session.run(["age"], {"image": pictures.astype(np.float32)})
    expected = np.stack([reference(net, one, padding, stride) for one in pictures])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_only_what_the_output_rests_on_is_converted_and_always_to_the_same_bytes() -> None:
    net = Net()
    assert serialise(net.convert()) == serialise(net.convert())
    with pytest.raises(TfjsError, match="Unheard"):
        net.convert("other")


def change(net: Net, name: str, **fields: Any) -> None:
    net.node(name).update(fields)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda net: change(net, "r1", op="Elu"), "Elu is not supported"),
        (
            lambda net: change(net, "c1", attr={**window(1, "SAME"), "dilations": {"list": {"i": [1, 2, 2, 1]}}}),
            "plain",
        ),
        (lambda net: change(net, "c1", attr={**window(1, "SAME"), "data_format": {"s": text("NCHW")}}), "plain"),
        (lambda net: change(net, "c1", attr=window(1, "EXPLICIT")), "padding"),
        (lambda net: change(net, "f3", attr=fused("BiasAdd", "Elu")), "Elu"),
        (lambda net: change(net, "g", input=["m2o", "b1"]), "mean"),
        (lambda net: change(net, "a1", input=["c1", "nowhere"]), "no node"),
        (lambda net: change(net, "r1", input=["x1"]), "circle"),
        (lambda net: change(net, "r1", input=["a1:1"]), "first results"),
        (lambda net: net.weights.update(b1=np.zeros(3, np.float32)), "each channel"),
        (lambda net: net.weights.update(k1=np.zeros((3, 3, 2, 4), np.float32)), "do not fit"),
        (lambda net: net.nodes.pop(0), "no node"),
        (lambda net: change(net, "in", attr={}), "malformed"),
    ],
)
def test_what_it_does_not_know_is_refused(harm: Any, words: str) -> None:
    net = Net()
    harm(net)
    with pytest.raises(TfjsError, match=words):
        net.convert()


def test_weights_that_are_too_few_or_too_many_are_refused() -> None:
    graph, data = Net().files()
    for wrong, words in ((data[:-1], "too short"), (data + b"x", "too long")):
        with pytest.raises(TfjsError, match=words):
            convert(graph, wrong, "net", "out", "age")
    with pytest.raises(TfjsError, match="malformed"):
        convert(b"{", data, "net", "out", "age")
