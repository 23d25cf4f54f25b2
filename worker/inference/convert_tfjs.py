"""TensorFlow.js graph model (a JSON of nodes and a file of weights) -> ONNX, for the operations of the age network.

Only what the wanted output rests on is converted; an operation that is not in the list below is refused, never
guessed at. Inside the graph pictures are NCHW, at its border NHWC as in the source; the batch axis is free. Semantics
follow the TensorFlow operator reference (tf.nn.conv2d, padding "SAME"; tf.nn.depthwise_conv2d; tf.clip_by_value), the
file's form the TensorFlow.js converter's (GraphDef as JSON, attributes' bytes in base64, `weightsManifest`).
"""

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from worker.inference.onnx_graph import GraphWriter, float32

_STORED: Final[Mapping[str, np.dtype[Any]]] = {
    "float16": np.dtype("<f2"),
    "float32": np.dtype("<f4"),
    "int32": np.dtype("<i4"),
}
_TO_NCHW: Final = (0, 3, 1, 2)


class TfjsError(ValueError):
    """The model holds something this converter does not know, or is malformed."""


def convert(graph: bytes, weights: bytes, name: str, output: str, renamed: str) -> ModelProto:
    """Convert what `output` (a node's name) rests on; it is called `renamed` in the result, the picture `image`.

    `graph` is the model's JSON, `weights` the one file of its manifest. Input float32 [N, H, W, 3]; the output float32
    [N, K]. Raises TfjsError.
    """
    try:
        return _Converter(json.loads(graph), weights).finish(name, output, renamed)
    except (KeyError, IndexError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise TfjsError(f"malformed: {error!r}") from error


class _Converter:
    def __init__(self, model: Mapping[str, Any], weights: bytes) -> None:
        self._nodes = {str(node["name"]): node for node in model["modelTopology"]["node"]}
        self._weights = _read_weights(model["weightsManifest"], weights)
        self._writer = GraphWriter()
        self._values: dict[str, str] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}  # without the batch axis, as in the source (NHWC)
        self._image: tuple[int, ...] | None = None
        self._handlers: dict[str, Callable[[str, Mapping[str, Any], list[str]], None]] = {
            "Add": self._elementwise,
            "AddV2": self._elementwise,
            "BiasAdd": self._elementwise,
            "Conv2D": self._convolution,
            "DepthwiseConv2dNative": self._convolution,
            "Identity": self._identity,
            "MatMul": self._product,
            "Maximum": self._elementwise,
            "Mean": self._mean,
            "Minimum": self._elementwise,
            "Mul": self._elementwise,
            "Placeholder": self._placeholder,
            "Relu": self._unary,
            "Relu6": self._unary,
            "Sigmoid": self._unary,
            "Softmax": self._unary,
            "_FusedConv2D": self._convolution,
            "_FusedMatMul": self._product,
        }

    def finish(self, name: str, output: str, renamed: str) -> ModelProto:
        for node in self._order(output):
            self._write(node)
        if self._image is None or len(self._shapes[output]) != 1:
            raise TfjsError(f"{output} is no row of numbers that rests on a picture")
        self._writer.apply("Identity", self._values[output], output=renamed)
        return self._writer.finish(name, {"image": self._image}, {renamed: self._shapes[output]})

    def _order(self, output: str) -> list[str]:
        """The names of the nodes `output` rests on, each after those it needs."""
        done: dict[str, None] = {}
        stack: list[tuple[str, bool]] = [(output, False)]
        open_now: set[str] = set()
        while stack:
            name, expanded = stack.pop()
            if expanded:
                open_now.discard(name)
                done[name] = None
            elif name in open_now:
                raise TfjsError(f"the graph goes in a circle at {name}")
            elif name not in done:
                if name not in self._nodes:
                    raise TfjsError(f"there is no node {name}")
                open_now.add(name)
                stack.append((name, True))
                # A node is only entered again by a circle: what is done is not put on the stack.
                stack += [(one, False) for one in reversed(_inputs(self._nodes[name])) if one not in done]
        return list(done)

    def _write(self, name: str) -> None:
        node = self._nodes[name]
        kind = str(node["op"])
        if kind == "Const":
            return  # taken as a weight where it is used
        handler = self._handlers.get(kind)
        if handler is None:
            raise TfjsError(f"operation {kind} is not supported")
        handler(name, node, _inputs(node))

    def _set(self, name: str, value: str, shape: Sequence[int]) -> None:
        self._values[name], self._shapes[name] = value, tuple(shape)

    def _weight(self, name: str) -> NDArray[Any]:
        if name not in self._weights:
            raise TfjsError(f"{name} should be a stored weight")
        return self._weights[name]

    def _placeholder(self, name: str, node: Mapping[str, Any], _inputs: list[str]) -> None:
        sizes = [int(one["size"]) for one in node["attr"]["shape"]["shape"]["dim"]]
        if self._image is not None or len(sizes) != 4 or sizes[0] != -1 or min(sizes[1:]) < 1:
            raise TfjsError("one picture with a free batch is expected as the input")
        self._image = tuple(sizes[1:])
        self._set(name, self._writer.apply("Transpose", "image", perm=_TO_NCHW), self._image)

    def _identity(self, name: str, _node: Mapping[str, Any], inputs: list[str]) -> None:
        self._set(name, self._values[inputs[0]], self._shapes[inputs[0]])

    def _unary(self, name: str, node: Mapping[str, Any], inputs: list[str]) -> None:
        value, shape = self._values[inputs[0]], self._shapes[inputs[0]]
        self._set(name, self._activated(value, str(node["op"]), shape), shape)

    def _activated(self, value: str, kind: str, shape: Sequence[int]) -> str:
        match kind:
            case "Relu" | "Sigmoid":
                return self._writer.apply(kind, value)
            case "Relu6":
                return self._writer.apply("Clip", value, self._writer.constant(0.0), self._writer.constant(6.0))
            case "Softmax" if len(shape) == 1:
                return self._writer.apply("Softmax", value, axis=-1)
        raise TfjsError(f"operation {kind} is not supported here")

    def _elementwise(self, name: str, node: Mapping[str, Any], inputs: list[str]) -> None:
        operator = {"AddV2": "Add", "BiasAdd": "Add", "Minimum": "Min", "Maximum": "Max"}.get(node["op"], node["op"])
        computed = [one for one in inputs if one in self._shapes]
        if len(inputs) != 2 or not computed:
            raise TfjsError(f"{operator} of {inputs} is not supported")
        shape = self._shapes[computed[0]]
        if len(computed) == 2 and self._shapes[computed[1]] != shape:
            raise TfjsError(f"{operator} of unequal shapes is not supported")
        values = [self._values[one] if one in self._shapes else self._row(one, shape) for one in inputs]
        self._set(name, self._writer.apply(operator, *values), shape)

    def _row(self, name: str, shape: Sequence[int]) -> str:
        """A weight that is one number, or one for each channel, so that it lines up with a value of `shape`."""
        weight = float32(self._weight(name))
        if weight.size == 1:
            return self._writer.constant(weight.reshape(()))
        if weight.size != shape[-1]:
            raise TfjsError(f"{name} is neither one number nor one for each channel")
        return self._writer.constant(weight.reshape((-1, 1, 1) if len(shape) == 3 else (-1,)))

    def _convolution(self, name: str, node: Mapping[str, Any], inputs: list[str]) -> None:
        attributes = node["attr"]
        strides, dilations = (_four(attributes, key) for key in ("strides", "dilations"))
        if _text(attributes, "data_format", "NHWC") != "NHWC" or strides[0] != 1 or dilations != [1, 1, 1, 1]:
            raise TfjsError("only plain convolutions of NHWC pictures are supported")
        height, width, channels = self._shapes[inputs[0]]
        weight = float32(self._weight(inputs[1]))  # [height, width, in, out], depthwise [height, width, in, factor]
        depthwise = node["op"] == "DepthwiseConv2dNative"
        if weight.ndim != 4 or weight.shape[2] != channels or (depthwise and weight.shape[3] != 1):
            raise TfjsError(f"the weights of {name} do not fit")
        kernel = weight.shape[:2]
        moved = weight.transpose(2, 3, 0, 1) if depthwise else weight.transpose(3, 2, 0, 1)
        pads, size = _pads(_text(attributes, "padding"), (height, width), kernel, strides[1:3])
        bias, activation = self._fused(node, inputs[2:])
        result = self._writer.apply(
            "Conv",
            self._values[inputs[0]],
            self._writer.constant(moved),
            *([self._writer.constant(bias)] if bias is not None else []),
            kernel_shape=kernel,
            strides=strides[1:3],
            group=channels if depthwise else 1,
            pads=pads,
        )
        shape = (*size, moved.shape[0])
        self._set(name, self._activated(result, activation, shape) if activation else result, shape)

    def _product(self, name: str, node: Mapping[str, Any], inputs: list[str]) -> None:
        attributes = node["attr"]
        if any(attributes.get(key, {}).get("b") for key in ("transpose_a", "transpose_b")):
            raise TfjsError("products of turned matrices are not supported")
        weight = float32(self._weight(inputs[1]))
        if weight.ndim != 2 or self._shapes[inputs[0]] != weight.shape[:1]:
            raise TfjsError(f"the weights of {name} do not fit")
        result = self._writer.apply("MatMul", self._values[inputs[0]], self._writer.constant(weight))
        bias, activation = self._fused(node, inputs[2:])
        if bias is not None:
            result = self._writer.apply("Add", result, self._writer.constant(bias))
        shape = weight.shape[1:]
        self._set(name, self._activated(result, activation, shape) if activation else result, shape)

    def _fused(self, node: Mapping[str, Any], rest: list[str]) -> tuple[NDArray[np.float32] | None, str]:
        """What is done to a fused operation's result: (bias or None, activation or "")."""
        listed = node["attr"].get("fused_ops", {}).get("list", {}).get("s", [])
        steps = [base64.b64decode(one).decode("ascii") for one in listed]
        bias = None
        if steps[:1] == ["BiasAdd"]:
            bias = float32(self._weight(rest[0])).ravel()
            steps, rest = steps[1:], rest[1:]
        if len(steps) > 1 or rest:
            raise TfjsError(f"fused operations {steps} are not supported")
        return bias, steps[0] if steps else ""

    def _mean(self, name: str, node: Mapping[str, Any], inputs: list[str]) -> None:
        shape = self._shapes[inputs[0]]
        axes = sorted(int(one) for one in self._weight(inputs[1]).ravel())
        if len(shape) != 3 or axes != [1, 2] or node["attr"].get("keep_dims", {}).get("b"):
            raise TfjsError("only the mean over a picture's height and width is supported")
        result = self._writer.apply("ReduceMean", self._values[inputs[0]], self._writer.integers(2, 3), keepdims=0)
        self._set(name, result, shape[2:])


def _inputs(node: Mapping[str, Any]) -> list[str]:
    names = [str(one) for one in node.get("input", [])]
    if any(one.startswith("^") or (":" in one and not one.endswith(":0")) for one in names):
        raise TfjsError(f"{node['name']} takes more than first results")
    return [one.removesuffix(":0") for one in names]


def _read_weights(manifest: Sequence[Mapping[str, Any]], data: bytes) -> dict[str, NDArray[Any]]:
    if len(manifest) != 1 or len(manifest[0]["paths"]) != 1:
        raise TfjsError("the weights should lie in one file")
    found: dict[str, NDArray[Any]] = {}
    at = 0
    for entry in manifest[0]["weights"]:
        quantised = entry.get("quantization", {})
        kind = str(quantised.get("dtype", entry["dtype"]))
        if kind not in _STORED or {"scale", "min"} & set(quantised):
            raise TfjsError(f"weights stored as {kind} are not supported")
        shape = tuple(int(size) for size in entry["shape"])
        end = at + _STORED[kind].itemsize * math.prod(shape)
        if end > len(data):
            raise TfjsError("the file of weights is too short")
        found[str(entry["name"])] = np.frombuffer(data[at:end], _STORED[kind]).reshape(shape)
        at = end
    if at != len(data):
        raise TfjsError("the file of weights is too long")
    return found


def _pads(
    padding: str, size: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> tuple[list[int], tuple[int, int]]:
    """Explicit pads and the size of the result: an odd total of SAME puts the extra pixel at the bottom and right."""
    if padding not in ("SAME", "VALID"):
        raise TfjsError(f"padding {padding} is not supported")
    before, after, result = [], [], []
    for length, extent, stride in zip(size, kernel, strides, strict=True):
        steps = -(-length // stride) if padding == "SAME" else (length - extent) // stride + 1
        total = max((steps - 1) * stride + extent - length, 0) if padding == "SAME" else 0
        before.append(total // 2)
        after.append(total - total // 2)
        result.append(steps)
    return before + after, (result[0], result[1])


def _four(attributes: Mapping[str, Any], key: str) -> list[int]:
    values = [int(one) for one in attributes.get(key, {}).get("list", {}).get("i", [1, 1, 1, 1])]
    if len(values) != 4:
        raise TfjsError(f"{key} of {values} are not supported")
    return values


def _text(attributes: Mapping[str, Any], key: str, default: str = "") -> str:
    return base64.b64decode(attributes[key]["s"]).decode("ascii") if key in attributes else default
