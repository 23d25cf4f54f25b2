"""A small ONNX graph writer for the converters and for the edits that are made to operators' graphs.

The files it writes are byte-for-byte reproducible, because the registry pins their SHA-256: every message is filled
field by field here (not through `onnx.helper`, whose habits change between versions), names come from one counter,
attributes are sorted, weights are raw little-endian bytes, and protobuf writes known fields in the order of their
numbers. Nothing that names a producer or a version of a tool goes in.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto

OPSET: Final = 18
IR_VERSION: Final = 9
ADDED: Final = "imported_"  # how every name begins that is added to an operator's graph

AttributeValue = int | float | str | Sequence[int]
_DATA_TYPES: Final = {np.dtype("<f4"): TensorProto.FLOAT, np.dtype("<i8"): TensorProto.INT64}


class GraphWriter:
    """Collects nodes and weights; values are referred to by name."""

    def __init__(self, prefix: str = "") -> None:
        """`prefix` goes before every name, for nodes that are added to a graph that has names of its own."""
        self._prefix = prefix
        self._nodes: list[NodeProto] = []
        self._weights: dict[str, TensorProto] = {}
        self._weight_names: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._count = 0

    def constant(self, values: Any, dtype: type[np.float32] | type[np.int64] = np.float32) -> str:
        """Store an array (float32 or int64) as a weight and give its name; equal arrays are stored once."""
        array = np.asarray(values, dtype=dtype)
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(array.shape)
        key = (little.dtype.str, little.shape, little.tobytes())
        if key not in self._weight_names:
            name = self._fresh("w")
            tensor = TensorProto()
            tensor.name = name
            tensor.data_type = _DATA_TYPES[little.dtype]
            tensor.dims.extend(little.shape)
            tensor.raw_data = little.tobytes()
            self._weights[name] = tensor
            self._weight_names[key] = name
        return self._weight_names[key]

    def integers(self, *values: int) -> str:
        """A one-dimensional int64 constant."""
        return self.constant(values, np.int64)

    def apply(self, operator: str, *inputs: str, output: str | None = None, **attributes: AttributeValue) -> str:
        """Add one node with one output and give that output's name; an empty input name means "left out"."""
        name = output or self._fresh("x")
        self._nodes.append(make_node(operator, inputs, name, attributes))
        return name

    def top(self, value: str, count: int) -> tuple[str, str]:
        """The `count` largest along the last axis, largest first, and their int64 indices."""
        values = self.apply("TopK", value, self.integers(count))
        indices = self._fresh("x")
        self._nodes[-1].output.append(indices)
        return values, indices

    def prelu(self, value: str, slope: str) -> str:
        """relu(x) + slope * (x - relu(x)): the same numbers as PRelu, whose own kernel in ONNX Runtime is slow."""
        positive = self.apply("Relu", value)
        negative = self.apply("Sub", value, positive)
        return self.apply("Add", positive, self.apply("Mul", negative, slope))

    def finish(
        self, name: str, inputs: Mapping[str, Sequence[int]], outputs: Mapping[str, Sequence[int]]
    ) -> ModelProto:
        """Close the graph. `inputs` and `outputs` give float32 shapes without the batch axis, which stays free."""
        model = ModelProto()
        model.ir_version = IR_VERSION
        opset = model.opset_import.add()
        opset.version = OPSET
        model.graph.name = name
        model.graph.node.extend(self._nodes)
        model.graph.initializer.extend(self._weights.values())
        for listed, values in ((inputs, model.graph.input), (outputs, model.graph.output)):
            for value_name, shape in listed.items():
                value = values.add()
                value.name = value_name
                value.type.tensor_type.elem_type = TensorProto.FLOAT
                value.type.tensor_type.shape.dim.add().dim_param = "N"
                for size in shape:
                    value.type.tensor_type.shape.dim.add().dim_value = size
        onnx.checker.check_model(model, full_check=True)
        return model

    def write_into(self, model: ModelProto, *, first: bool = False) -> None:
        """Add the collected nodes and weights to an existing graph, behind its own nodes or before them."""
        nodes = [*self._nodes, *model.graph.node] if first else [*model.graph.node, *self._nodes]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(self._weights.values())

    def _fresh(self, prefix: str) -> str:
        self._count += 1
        return f"{self._prefix}{prefix}{self._count}"


def make_node(operator: str, inputs: Sequence[str], output: str, attributes: Mapping[str, AttributeValue]) -> NodeProto:
    """One node with one output, attributes sorted by name."""
    node = NodeProto()
    node.op_type = operator
    node.input.extend(inputs)
    node.output.append(output)
    for key in sorted(attributes):
        node.attribute.append(_attribute(key, attributes[key]))
    return node


def serialise(model: ModelProto) -> bytes:
    """The bytes that are written, hashed and pinned."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _attribute(name: str, value: AttributeValue) -> AttributeProto:
    attribute = AttributeProto()
    attribute.name = name
    match value:
        case int():
            attribute.type = AttributeProto.INT
            attribute.i = value
        case float():
            attribute.type = AttributeProto.FLOAT
            attribute.f = value
        case str():
            attribute.type = AttributeProto.STRING
            attribute.s = value.encode("ascii")
        case _:
            attribute.type = AttributeProto.INTS
            attribute.ints.extend(value)
    return attribute


def float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """Widen stored half floats; exact."""
    return array.astype(np.float32)
