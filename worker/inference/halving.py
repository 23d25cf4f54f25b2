"""float32 graph -> float16 graph with a float32 border, own pass.

ONNX Runtime's own converter rounds what two neighbouring kept nodes say to each other through float16, and rounds a
weight that a kept node shares with another; a node is kept exactly because it cannot bear that. Here kept nodes speak
float32 among themselves and hold float32 weights, and a Cast stands only where the two kinds meet.
"""

from collections.abc import Collection
from typing import Final

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from worker.inference.onnx_graph import AttributeValue, make_node

# Operators that ONNX defines for float32 alone, or that make values whose type an attribute fixes.
_ALWAYS_FLOAT32: Final = frozenset(
    {
        "ConstantOfShape",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "EyeLike",
        "NonMaxSuppression",
        "QuantizeLinear",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Range",
    }
)
# Inputs whose type is float32 whatever the type of the others.
_FLOAT32_INPUTS: Final = {"Resize": (1, 2), "Upsample": (1,)}
_LARGEST: Final = float(np.finfo(np.float16).max)
_TO_HALF: Final = "/half"
_TO_SINGLE: Final = "/single"
_LOWERED: Final = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT8, TensorProto.UINT8})


class UnsupportedGraphError(ValueError):
    """The graph holds something that the pass does not understand; the message says what."""


def node_name(node: NodeProto) -> str:
    """What a keep list calls a node: its name, or that of its first output where it has none."""
    return node.name or node.output[0]


def halve(model: ModelProto, keep: Collection[str] = ()) -> ModelProto:
    """A copy of `model` that computes in float16, except in the nodes that `keep` names (see `node_name`).

    Inputs and outputs stay what they are. Weights beyond float16's range are cut to it. Raises UnsupportedGraphError.
    """
    floats = _float_values(model)
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    del graph.value_info[:]
    pass_ = _Pass(graph, floats, frozenset(keep))
    nodes = pass_.rewrite()
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    weights = [weight for weight in graph.initializer if weight.name in used]
    del graph.initializer[:]
    graph.initializer.extend([*weights, *pass_.weights])
    _check(result)
    return result


def widened(halved: ModelProto) -> ModelProto:
    """A float32 graph that gives what a float16 graph gives on a device that really holds values in float16.

    ONNX Runtime has few float16 kernels on the CPU: it computes in float32 there and leaves out the rounding between
    nodes, so neither lost digits nor an overflow show. Here every value passes through float16 and back, by casts that
    it may not leave out. Sums inside a node stay float32, as they do on a GPU's matrix units. Raises
    UnsupportedGraphError.
    """
    result = ModelProto()
    result.CopyFrom(halved)
    graph = result.graph
    half = {name for name, kind in _types(halved).items() if kind == TensorProto.FLOAT16}
    for weight in graph.initializer:
        if weight.name in half:
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float32), weight.name))
    made: list[NodeProto] = []
    for original in halved.graph.node:
        node = NodeProto()
        node.CopyFrom(original)
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT16:
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float32)))
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
        made.append(node)
        for index, name in enumerate(node.output):
            if name in half:
                wide, between = name + "/wide", name + "/narrow"
                node.output[index] = wide
                made.append(_cast(wide, between, TensorProto.FLOAT16))
                made.append(_cast(between, name, TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(made)
    del graph.value_info[:]
    _check(result)
    return result


class _Pass:
    """One walk over the nodes, which ONNX lists in an order in which each value is made before it is used."""

    def __init__(self, graph: GraphProto, floats: Collection[str], keep: Collection[str]) -> None:
        self._nodes = graph.node
        self._floats = floats
        self._keep = keep
        self._outputs = {value.name for value in graph.output}
        self._initializers = {weight.name: weight for weight in graph.initializer}
        self._half: set[str] = set()  # values that a half node makes, by the name they have now
        self._renamed: dict[str, str] = {}
        self._cast: dict[tuple[str, bool], str] = {}
        self._made: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def rewrite(self) -> list[NodeProto]:
        for original in self._nodes:
            node = NodeProto()
            node.CopyFrom(original)
            half = _goes_half(node, self._keep)
            fixed = _FLOAT32_INPUTS.get(node.op_type, ())
            for index, name in enumerate(node.input):
                if name in self._floats:
                    node.input[index] = self._as(name, half=half and index not in fixed)
            if half:
                _halve_attributes(node)
            self._made.append(node)
            for index, name in enumerate(node.output):
                if half and name in self._floats:
                    self._name_output(node, index, name)
        return self._made

    def _name_output(self, node: NodeProto, index: int, name: str) -> None:
        if name not in self._outputs:
            self._half.add(name)
            return
        inner = name + _TO_HALF
        node.output[index] = inner
        self._renamed[name] = inner
        self._half.add(inner)
        self._made.append(_cast(inner, name, TensorProto.FLOAT))
        self._cast[inner, False] = name

    def _as(self, name: str, *, half: bool) -> str:
        """The name under which a value is to be had in one of the two types, made if nobody has asked yet."""
        now = self._renamed.get(name, name)
        if (now in self._half) == half:
            return now
        if (now, half) not in self._cast:
            wanted = now + (_TO_HALF if half else _TO_SINGLE)
            if now in self._initializers:
                self.weights.append(_half_tensor(self._initializers[now], wanted))
            else:
                self._made.append(_cast(now, wanted, TensorProto.FLOAT16 if half else TensorProto.FLOAT))
            self._cast[now, half] = wanted
        return self._cast[now, half]


def _float_values(model: ModelProto) -> set[str]:
    """Names of all float32 values; UnsupportedGraphError for a graph that the pass does not understand."""
    if any(attribute.HasField("g") or attribute.graphs for node in model.graph.node for attribute in node.attribute):
        raise UnsupportedGraphError("the graph has branches or loops (nodes with graphs inside)")
    types = _types(model)
    unknown = [name for node in model.graph.node for name in node.output if name and not types.get(name)]
    if unknown:
        raise UnsupportedGraphError(f"the type of the value {unknown[0]} cannot be told")
    pictures = {value.name for value in (*model.graph.input, *model.graph.output)}  # may cross as bytes
    if lowered := _LOWERED & {kind for name, kind in types.items() if name not in pictures}:
        raise UnsupportedGraphError(f"it already holds {', '.join(TensorProto.DataType.Name(t) for t in lowered)}")
    return {name for name, kind in types.items() if kind == TensorProto.FLOAT}


def _types(model: ModelProto) -> dict[str, int]:
    """The element type of each value by name."""
    try:
        graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise UnsupportedGraphError(f"the types of its values cannot be told ({error})") from error
    values: list[ValueInfoProto] = [*graph.input, *graph.output, *graph.value_info]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {weight.name: weight.data_type for weight in graph.initializer}


def _check(model: ModelProto) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise UnsupportedGraphError(f"what came out is no valid graph ({error})") from error


def _goes_half(node: NodeProto, keep: Collection[str]) -> bool:
    return not (node_name(node) in keep or node.op_type in _ALWAYS_FLOAT32 or node.domain)


def _halve_attributes(node: NodeProto) -> None:
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        elif node.op_type == "Constant":
            if attribute.name != "value" and attribute.name.startswith("value_float"):
                raise UnsupportedGraphError(f"the constant {node_name(node)} is not a tensor")
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(_half_tensor(attribute.t, attribute.t.name))


def _half_tensor(tensor: TensorProto, name: str) -> TensorProto:
    values = np.clip(numpy_helper.to_array(tensor), -_LARGEST, _LARGEST)
    half: TensorProto = numpy_helper.from_array(values.astype(np.float16), name)
    return half


def _cast(source: str, target: str, kind: int) -> NodeProto:
    attributes: dict[str, AttributeValue] = {"to": kind}
    return make_node("Cast", [source], target, attributes)
