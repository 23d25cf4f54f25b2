"""The borders of an operator's graph: float32 outside whatever is inside, only the tensors of the contract, and a free
batch axis where the graph allows it.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from worker.inference.onnx_graph import ADDED, GraphWriter

LEAST_OPSET: Final = 11
BATCH: Final = "N"
_FLOATS: Final = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE}
_INTEGERS: Final = {TensorProto.INT32, TensorProto.INT64}


def check(
    model: ModelProto,
    inputs: Mapping[str, tuple[int, ...]],
    outputs: Mapping[str, tuple[int, ...]],
    constants: Mapping[str, float],
) -> None:
    """Whether the graph has these tensors (shapes without the batch axis; its own free axes fit any). ValueError."""
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < LEAST_OPSET:
        raise ValueError(f"it is of opset {opset}; export it with opset {LEAST_OPSET} or later")
    found = {value.name: value for value in _real_inputs(model)}
    if extra := set(found) - set(inputs) - set(constants):
        raise ValueError(f"it takes {', '.join(sorted(extra))}, which its contract does not know")
    _check_side(found, inputs)
    _check_side({value.name: value for value in model.graph.output}, outputs)


def adopt_names(
    model: ModelProto, inputs: Mapping[str, tuple[int, ...]], outputs: Mapping[str, tuple[int, ...]]
) -> None:
    """Give tensors of the border the names of the contract, where an exporter called them otherwise ("683").

    Only where the shape says without a doubt which is which: one tensor without a name of the contract has it, and one
    name wants it. What stays unclear is for `adopt_order`, or for `check` to refuse.
    """
    for values, wanted in ((_real_inputs(model), inputs), (list(model.graph.output), outputs)):
        free = [value for value in values if value.name not in wanted and value.type.tensor_type.shape.dim]
        absent = {name: shape for name, shape in wanted.items() if name not in {value.name for value in values}}
        for name, shape in absent.items():
            fitting = [value for value in free if _fits(value, shape)]
            if len(fitting) == 1 and list(absent.values()).count(shape) == 1:
                _rename(model, fitting[0].name, name)


def adopt_order(model: ModelProto, outputs: Mapping[str, tuple[int, ...]]) -> None:
    """Name outputs by their order where all bear other names, and give a batch axis to those exported without one.

    Only where there are as many as the contract has and every one fits: several maps of one kind cannot be told apart
    by an exporter's numbers, and where axes are free not by their shape.
    """
    values = list(model.graph.output)
    known = sum(value.name in outputs for value in values)
    if len(values) != len(outputs) or known not in (0, len(values)):
        return
    names = [value.name if known else name for value, name in zip(values, outputs, strict=True)]
    if all(_fits_alone(value, outputs[name]) for value, name in zip(values, names, strict=True)):
        found = [(value.name, value.type.tensor_type.elem_type) for value in values]
        writer = GraphWriter(f"{ADDED}batch_axis_")
        del model.graph.output[:]
        for name, (old, kind) in zip(names, found, strict=True):
            inside = f"{ADDED}single_{name}"
            _rename(model, old, inside)
            writer.apply("Reshape", inside, writer.integers(-1, *outputs[name]), output=name)
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, [1, *outputs[name]]))
        writer.write_into(model)
    elif not known and all(_fits(value, outputs[name]) for value, name in zip(values, names, strict=True)):
        for value, name in zip(values, names, strict=True):
            _rename(model, value.name, name)


def fix_constants(model: ModelProto, constants: Mapping[str, float]) -> None:
    """Turn inputs that only some exports have into weights of the given value."""
    for name, number in constants.items():
        value = next((one for one in _real_inputs(model) if one.name == name), None)
        if value is None:
            continue
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
        model.graph.initializer.insert(0, numpy_helper.from_array(np.full(shape, number, kind), name))
        model.graph.input.remove(value)


def keep_only(model: ModelProto, outputs: Mapping[str, tuple[int, ...]]) -> None:
    """Drop the outputs that are not in `outputs`, and inputs that are only weights' second names."""
    by_name = {value.name: value for value in model.graph.output}
    inputs = _real_inputs(model)
    del model.graph.output[:], model.graph.input[:]
    model.graph.output.extend(by_name[name] for name in outputs)
    model.graph.input.extend(inputs)


def widen(model: ModelProto) -> None:
    """Put a Cast behind every input and before every output that is not float32.

    Outputs may be integers, numbers of classes as an exporter's ArgMax gives them, which float32 holds exactly.
    ValueError for anything else than numbers.
    """
    before, behind = GraphWriter(f"{ADDED}in_"), GraphWriter(f"{ADDED}out_")
    for values, kinds in ((model.graph.input, _FLOATS), (model.graph.output, _FLOATS | _INTEGERS)):
        for value in values:
            if value.type.tensor_type.elem_type not in kinds:
                raise ValueError(f"its tensor {value.name} does not hold floating-point numbers")
    for value in model.graph.input:
        kind = value.type.tensor_type.elem_type
        if kind == TensorProto.FLOAT:
            continue
        value.type.tensor_type.elem_type = TensorProto.FLOAT
        inside = before.apply("Cast", value.name, to=kind)
        rename_uses(model, value.name, inside)
    for value in model.graph.output:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            continue
        value.type.tensor_type.elem_type = TensorProto.FLOAT
        inside = f"{ADDED}{value.name}"
        move_inside(model, value.name, inside)
        behind.apply("Cast", inside, to=TensorProto.FLOAT, output=value.name)
    before.write_into(model, first=True)
    behind.write_into(model)


def set_shapes(
    model: ModelProto,
    inputs: Mapping[str, tuple[int, ...]],
    outputs: Mapping[str, tuple[int, ...]],
    batch: int | str,
) -> None:
    """State the shapes of the contract; what the export said of the tensors inside no longer holds and is dropped."""
    for values, shapes in ((model.graph.input, inputs), (model.graph.output, outputs)):
        for value in values:
            dims = value.type.tensor_type.shape
            dims.Clear()
            for size in (batch, *shapes[value.name]):
                dim = dims.dim.add()
                if isinstance(size, int):
                    dim.dim_value = size
                else:
                    dim.dim_param = size
    del model.graph.value_info[:]


def free_batch(model: ModelProto) -> None:
    """Let every Reshape that writes a batch of 1 into its target take over the batch it finds.

    Only where the data comes from an input: a weight that is reshaped has no batch. Whether the graph then computes the
    same for several items as for each alone is for a run to show.
    """
    moving = {value.name for value in model.graph.input}
    for node in model.graph.node:
        if moving.intersection(node.input):
            moving.update(node.output)
    weights = {one.name: one for one in model.graph.initializer}
    constants = {node.output[0]: node for node in model.graph.node if node.op_type == "Constant"}
    writer = GraphWriter(f"{ADDED}batch_")
    for node in model.graph.node:
        if node.op_type != "Reshape" or node.input[0] not in moving or _allows_zero(node):
            continue
        target = _integers(node.input[1], weights, constants)
        if target is not None and target.size > 1 and target[0] == 1:
            node.input[1] = writer.integers(0, *target[1:].tolist())
    writer.write_into(model, first=True)


def precision_of(model: ModelProto) -> str:
    """ "int8", "fp16" or "fp32": by quantising nodes, else by what most weights are stored in."""
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear", "QLinearConv") for node in model.graph.node):
        return "int8"
    numbers: dict[int, int] = {}
    for weight in model.graph.initializer:
        numbers[weight.data_type] = numbers.get(weight.data_type, 0) + int(np.prod(weight.dims))
    half = numbers.get(TensorProto.FLOAT16, 0)
    return "fp16" if half > numbers.get(TensorProto.FLOAT, 0) else "fp32"


def _real_inputs(model: ModelProto) -> list[ValueInfoProto]:
    """Old exports list every weight among the inputs."""
    weights = {one.name for one in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def _check_side(found: Mapping[str, ValueInfoProto], wanted: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in wanted.items():
        if name not in found:
            raise ValueError(f"it has no tensor {name} but {', '.join(sorted(found))}")
        sizes = _sizes(found[name])
        if sizes and not _fits(found[name], shape):  # an export may say nothing at all of an output
            raise ValueError(f"its tensor {name} has the shape {sizes} and not [1, {', '.join(map(str, shape))}]")


def _sizes(value: ValueInfoProto) -> list[int | None]:
    return [dim.dim_value or None for dim in value.type.tensor_type.shape.dim]


def _fits(value: ValueInfoProto, shape: tuple[int, ...]) -> bool:
    """Whether a tensor has `shape` behind a batch of 1; an axis of free size fits any."""
    sizes = _sizes(value)
    if len(sizes) != len(shape) + 1 or sizes[0] not in (1, None):
        return False
    return all(size in (other, None) for size, other in zip(sizes[1:], shape, strict=True))


def _fits_alone(value: ValueInfoProto, shape: tuple[int, ...]) -> bool:
    """Whether a tensor has `shape` without a batch axis."""
    sizes = _sizes(value)
    return len(sizes) == len(shape) and all(size in (other, None) for size, other in zip(sizes, shape, strict=True))


def _rename(model: ModelProto, old: str, new: str) -> None:
    """Call the tensor `old` of the main graph `new`; another one inside that bears the name gets a name of ours."""
    inner = f"{ADDED}was_{new}"
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [{old: new, new: inner}.get(name, name) for name in names]
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        value.name = {old: new, new: inner}.get(value.name, value.name)


def rename_uses(model: ModelProto, old: str, new: str) -> None:
    """Let every node that reads the tensor `old` read `new`."""
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


def move_inside(model: ModelProto, output: str, inside: str) -> None:
    """Call the tensor behind an output `inside`, so that new nodes can make that output of it."""
    for node in model.graph.node:
        node.output[:] = [inside if name == output else name for name in node.output]
    rename_uses(model, output, inside)


def _allows_zero(node: NodeProto) -> bool:
    return any(attribute.name == "allowzero" and attribute.i for attribute in node.attribute)


def _integers(name: str, weights: Mapping[str, TensorProto], constants: Mapping[str, NodeProto]) -> np.ndarray | None:
    if name in weights:
        return np.atleast_1d(numpy_helper.to_array(weights[name]))
    if name in constants:
        for attribute in constants[name].attribute:
            if attribute.type == AttributeProto.TENSOR:
                return np.atleast_1d(numpy_helper.to_array(attribute.t))
    return None
