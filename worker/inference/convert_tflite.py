"""TensorFlow Lite flatbuffer -> ONNX, for the operations that MediaPipe's face networks use.

Inside the graph pictures are NCHW (what ONNX Runtime's kernels want), at its borders NHWC as in the source; the batch
axis is free. No TensorFlow is involved: the file is read with the schema package `tflite`. Operation semantics follow
the TensorFlow Lite operator reference; numeric equality with the original interpreter is kept by golden tests.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
import tflite
from numpy.typing import NDArray
from onnx import ModelProto

from worker.inference.onnx_graph import GraphWriter, float32
from worker.inference.tflite_sparse import densify

Layout = Literal["nchw", "nhwc"]

_NUMPY_TYPES: Final[Mapping[int, type[np.generic]]] = {
    tflite.TensorType.FLOAT32: np.float32,
    tflite.TensorType.FLOAT16: np.float16,
    tflite.TensorType.INT32: np.int32,
}
_BUILTIN_NAMES: Final = {value: key for key, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}
_TO_NCHW: Final = (0, 3, 1, 2)
_TO_NHWC: Final = (0, 2, 3, 1)
_NO_BATCH = "an operation works on the batch axis, which must stay free"


class ConversionError(ValueError):
    """The file holds something this converter does not know."""


class TfliteConverter:
    """Reads one model and writes its graph. Subclasses add custom operations and shape the outputs."""

    def __init__(self, data: bytes) -> None:
        self._model = tflite.Model.GetRootAsModel(data, 0)
        self._graph = self._model.Subgraphs(0)
        self.writer = GraphWriter()
        self._constants: dict[int, NDArray[Any]] = {}
        self._values: dict[tuple[int, Layout], str] = {}
        self._handlers: dict[str, Callable[[Any, list[int], list[int]], None]] = {
            "ADD": self._add,
            "CONCATENATION": self._concatenation,
            "CONV_2D": self._convolution,
            "DENSIFY": self._densify,
            "DEPTHWISE_CONV_2D": self._depthwise_convolution,
            "DEPTH_TO_SPACE": self._depth_to_space,
            "DEQUANTIZE": self._dequantise,
            "MAX_POOL_2D": self._max_pool,
            "MUL": self._multiply,
            "PAD": self._pad,
            "PRELU": self._prelu,
            "RELU": self._relu,
            "RESHAPE": self._reshape,
            "RESIZE_BILINEAR": self._resize_bilinear,
            "STRIDED_SLICE": self._strided_slice,
        }

    def add_handler(self, operation: str, handler: Callable[[Any, list[int], list[int]], None]) -> None:
        """Teach a (custom) operation; the handler gets the flatbuffer operator, its input and output tensor numbers."""
        self._handlers[operation] = handler

    def convert_body(self, image_input: str) -> dict[str, int]:
        """Write all nodes, the only input under the name `image_input`; gives output names to tensor numbers.

        Raises ConversionError on anything unknown.
        """
        if self._graph.InputsLength() != 1:
            raise ConversionError("expected exactly one input")
        self._values[self._graph.Inputs(0), "nhwc"] = image_input
        for index in range(self._graph.OperatorsLength()):
            operator = self._graph.Operators(index)
            name = self._operation_name(operator)
            handler = self._handlers.get(name)
            if handler is None:
                raise ConversionError(f"operation {name} is not supported")
            inputs = [operator.Inputs(k) for k in range(operator.InputsLength())]
            outputs = [operator.Outputs(k) for k in range(operator.OutputsLength())]
            handler(operator, inputs, outputs)
        numbers = [self._graph.Outputs(k) for k in range(self._graph.OutputsLength())]
        return {self._graph.Tensors(number).Name().decode(): number for number in numbers}

    @property
    def image_shape(self) -> list[int]:
        """Height, width, channels of the input."""
        return self.shape(self._graph.Inputs(0))[1:]

    def shape(self, tensor: int) -> list[int]:
        """The stored shape of a tensor, batch axis (always 1 in the file) included."""
        stored = self._graph.Tensors(tensor)
        return [int(size) for size in stored.ShapeAsNumpy()] if stored.ShapeLength() else []

    def value(self, tensor: int, layout: Layout = "nchw") -> str:
        """The graph name of a tensor in a layout; four-dimensional tensors are transposed where needed, once."""
        key = (tensor, layout)
        if key in self._values:
            return self._values[key]
        constant = self.constant(tensor)
        if constant is not None:
            moved = constant.transpose(_TO_NCHW) if layout == "nchw" and constant.ndim == 4 else constant
            self._values[key] = self.writer.constant(moved)
        else:
            other = self._values[tensor, "nhwc" if layout == "nchw" else "nchw"]
            if len(self.shape(tensor)) == 4:
                axes = _TO_NCHW if layout == "nchw" else _TO_NHWC
                self._values[key] = self.writer.apply("Transpose", other, perm=axes)
            else:
                self._values[key] = other
        return self._values[key]

    def constant(self, tensor: int) -> NDArray[Any] | None:
        """A stored weight as an array in the file's own layout, or None if the tensor is computed."""
        if tensor in self._constants:
            return self._constants[tensor]
        stored = self._graph.Tensors(tensor)
        buffer = self._model.Buffers(stored.Buffer())
        if buffer.DataLength() == 0:
            return None
        flat = np.frombuffer(buffer.DataAsNumpy().tobytes(), _NUMPY_TYPES[stored.Type()])
        sparsity = stored.Sparsity()
        array = flat.reshape(self.shape(tensor)) if sparsity is None else densify(sparsity, flat, self.shape(tensor))
        self._constants[tensor] = array
        return array

    def weight(self, tensor: int) -> NDArray[np.float32]:
        """A stored weight as float32; ConversionError if it is computed at run time."""
        array = self.constant(tensor)
        if array is None:
            raise ConversionError(f"tensor {tensor} should be a stored weight")
        return float32(array)

    def integers(self, tensor: int) -> list[int]:
        """A stored one-dimensional integer parameter."""
        array = self.constant(tensor)
        if array is None or array.dtype != np.int32:
            raise ConversionError(f"tensor {tensor} should be stored integers")
        return [int(number) for number in array.ravel()]

    def set_value(self, tensor: int, name: str, layout: Layout = "nchw", activation: int = 0) -> None:
        """Record where a tensor's value is found, after applying a fused activation."""
        match activation:
            case tflite.ActivationFunctionType.NONE:
                pass
            case tflite.ActivationFunctionType.RELU:
                name = self.writer.apply("Relu", name)
            case _:
                raise ConversionError(f"fused activation {activation} is not supported")
        self._values[tensor, layout] = name

    def _operation_name(self, operator: Any) -> str:
        stored = self._model.OperatorCodes(operator.OpcodeIndex())
        # Files older than schema 3a keep the code in the deprecated field only; the larger one is the real code.
        code = max(stored.BuiltinCode(), stored.DeprecatedBuiltinCode())
        if code == tflite.BuiltinOperator.CUSTOM:
            return str(stored.CustomCode().decode())
        return _BUILTIN_NAMES[code]

    def _dequantise(self, _operator: Any, inputs: list[int], outputs: list[int]) -> None:
        # Half-precision weights widened at load time in the original; here once, at conversion.
        self._constants[outputs[0]] = self.weight(inputs[0])

    def _densify(self, _operator: Any, inputs: list[int], outputs: list[int]) -> None:
        array = self.constant(inputs[0])
        if array is None:
            raise ConversionError("only stored sparse weights can be made dense")
        self._constants[outputs[0]] = array

    def _convolution(self, operator: Any, inputs: list[int], outputs: list[int]) -> None:
        options = _options(operator, tflite.Conv2DOptions)
        weight = self.weight(inputs[1])  # [out, height, width, in]
        dilation = (options.DilationHFactor(), options.DilationWFactor())
        self._write_convolution(options, inputs, outputs, weight.transpose(0, 3, 1, 2), dilation=dilation, groups=1)

    def _depthwise_convolution(self, operator: Any, inputs: list[int], outputs: list[int]) -> None:
        options = _options(operator, tflite.DepthwiseConv2DOptions)
        weight = self.weight(inputs[1])  # [1, height, width, channels]
        dilation = (options.DilationHFactor(), options.DilationWFactor())
        channels = self.shape(inputs[0])[3]
        self._write_convolution(
            options, inputs, outputs, weight.transpose(3, 0, 1, 2), dilation=dilation, groups=channels
        )

    def _write_convolution(
        self,
        options: Any,
        inputs: list[int],
        outputs: list[int],
        weight: NDArray[np.float32],
        *,
        dilation: tuple[int, int],
        groups: int,
    ) -> None:
        kernel = (weight.shape[2], weight.shape[3])
        stride = (options.StrideH(), options.StrideW())
        result = self.writer.apply(
            "Conv",
            self.value(inputs[0]),
            self.writer.constant(weight),
            self.writer.constant(self.weight(inputs[2])),
            kernel_shape=kernel,
            strides=stride,
            dilations=dilation,
            group=groups,
            pads=self._pads(options, inputs[0], kernel, stride, dilation),
        )
        self.set_value(outputs[0], result, activation=options.FusedActivationFunction())

    def _pads(
        self,
        options: Any,
        tensor: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int] = (1, 1),
    ) -> list[int]:
        """TensorFlow's SAME padding made explicit: an odd total puts the extra pixel at the bottom and right."""
        if options.Padding() == tflite.Padding.VALID:
            return [0, 0, 0, 0]
        before, after = [], []
        for axis in (0, 1):
            size = self.shape(tensor)[1 + axis]
            extent = (kernel[axis] - 1) * dilation[axis] + 1
            steps = -(-size // stride[axis])
            total = max((steps - 1) * stride[axis] + extent - size, 0)
            before.append(total // 2)
            after.append(total - total // 2)
        return before + after

    def _max_pool(self, operator: Any, inputs: list[int], outputs: list[int]) -> None:
        options = _options(operator, tflite.Pool2DOptions)
        kernel = (options.FilterHeight(), options.FilterWidth())
        stride = (options.StrideH(), options.StrideW())
        pads = self._pads(options, inputs[0], kernel, stride)
        result = self.writer.apply("MaxPool", self.value(inputs[0]), kernel_shape=kernel, strides=stride, pads=pads)
        self.set_value(outputs[0], result, activation=options.FusedActivationFunction())

    def _prelu(self, _operator: Any, inputs: list[int], outputs: list[int]) -> None:
        slope = self.writer.constant(self.weight(inputs[1]).reshape(-1, 1, 1))
        self.set_value(outputs[0], self.writer.prelu(self.value(inputs[0]), slope))

    def _relu(self, _operator: Any, inputs: list[int], outputs: list[int]) -> None:
        self.set_value(outputs[0], self.writer.apply("Relu", self.value(inputs[0])))

    def _add(self, operator: Any, inputs: list[int], outputs: list[int]) -> None:
        self._elementwise("Add", _options(operator, tflite.AddOptions), inputs, outputs)

    def _multiply(self, operator: Any, inputs: list[int], outputs: list[int]) -> None:
        self._elementwise("Mul", _options(operator, tflite.MulOptions), inputs, outputs)

    def _elementwise(self, name: str, options: Any, inputs: list[int], outputs: list[int]) -> None:
        shapes = [self.shape(tensor) for tensor in inputs]
        # With unequal ranks the layouts would not line up, except for a single number.
        if len(shapes[0]) != len(shapes[1]) and 1 not in (np.prod(shapes[0]), np.prod(shapes[1])):
            raise ConversionError(f"{name} of shapes {shapes[0]} and {shapes[1]} is not supported")
        result = self.writer.apply(name, self.value(inputs[0]), self.value(inputs[1]))
        self.set_value(outputs[0], result, activation=options.FusedActivationFunction())

    def _pad(self, _operator: Any, inputs: list[int], outputs: list[int]) -> None:
        pairs = np.array(self.integers(inputs[1])).reshape(-1, 2)[list(_TO_NCHW)]
        if pairs[0].any():
            raise ConversionError(_NO_BATCH)
        amounts = self.writer.integers(*pairs[:, 0].tolist(), *pairs[:, 1].tolist())
        self.set_value(outputs[0], self.writer.apply("Pad", self.value(inputs[0]), amounts))

    def _reshape(self, _operator: Any, inputs: list[int], outputs: list[int]) -> None:
        target = self.shape(outputs[0])
        if target[0] != 1 or self.shape(inputs[0])[0] != 1:
            raise ConversionError(_NO_BATCH)
        shape = self.writer.integers(0, *target[1:])  # 0: keep the batch size of the input
        self.set_value(outputs[0], self.writer.apply("Reshape", self.value(inputs[0], "nhwc"), shape), "nhwc")

    def _concatenation(self, operator: Any, inputs: list[int], outputs: list[int]) -> None:
        options = _options(operator, tflite.ConcatenationOptions)
        axis = options.Axis() % len(self.shape(outputs[0]))
        if axis == 0:
            raise ConversionError(_NO_BATCH)
        result = self.writer.apply("Concat", *(self.value(k, "nhwc") for k in inputs), axis=axis)
        self.set_value(outputs[0], result, "nhwc", options.FusedActivationFunction())

    def _resize_bilinear(self, operator: Any, inputs: list[int], outputs: list[int]) -> None:
        options = _options(operator, tflite.ResizeBilinearOptions)
        if options.AlignCorners():
            mode = "align_corners"
        else:
            mode = "half_pixel" if options.HalfPixelCenters() else "asymmetric"
        old, new = self.shape(inputs[0]), self.shape(outputs[0])
        scales = self.writer.constant([1, 1, new[1] / old[1], new[2] / old[2]])
        result = self.writer.apply(
            "Resize", self.value(inputs[0]), "", scales, mode="linear", coordinate_transformation_mode=mode
        )
        self.set_value(outputs[0], result)

    def _depth_to_space(self, operator: Any, inputs: list[int], outputs: list[int]) -> None:
        block = _options(operator, tflite.DepthToSpaceOptions).BlockSize()
        self.set_value(
            outputs[0], self.writer.apply("DepthToSpace", self.value(inputs[0]), blocksize=block, mode="DCR")
        )

    def _strided_slice(self, operator: Any, inputs: list[int], outputs: list[int]) -> None:
        options = _options(operator, tflite.StridedSliceOptions)
        if options.ShrinkAxisMask() or options.EllipsisMask() or options.NewAxisMask():
            raise ConversionError("slices that change the rank are not supported")
        begin, end, step = (self.integers(k) for k in inputs[1:4])
        sizes = self.shape(inputs[0])
        axes = range(1, len(sizes))  # the batch axis is always taken whole
        first = [0 if options.BeginMask() >> k & 1 else begin[k] for k in axes]
        last = [sizes[k] if options.EndMask() >> k & 1 else end[k] for k in axes]
        integers = self.writer.integers
        result = self.writer.apply(
            "Slice",
            self.value(inputs[0], "nhwc"),
            integers(*first),
            integers(*last),
            integers(*axes),
            integers(*step[1:]),
        )
        self.set_value(outputs[0], result, "nhwc")


def convert_detector(data: bytes, name: str, outputs: Mapping[str, str]) -> ModelProto:
    """Convert a BlazeFace detector.

    `outputs` maps the file's output names to ours. Input `image`: float32 [N, H, W, 3]. Raises ConversionError.
    """
    converter = TfliteConverter(data)
    found = converter.convert_body("image")
    shapes: dict[str, Sequence[int]] = {}
    for theirs, ours in outputs.items():
        if theirs not in found:
            raise ConversionError(f"the file has no output {theirs}")
        converter.writer.apply("Identity", converter.value(found[theirs], "nhwc"), output=ours)
        shapes[ours] = converter.shape(found[theirs])[1:]
    return converter.writer.finish(name, {"image": converter.image_shape}, shapes)


def _options(operator: Any, kind: type[Any]) -> Any:
    """The operator's built-in options read as the table `kind`."""
    options = kind()
    stored = operator.BuiltinOptions()
    options.Init(stored.Bytes, stored.Pos)
    return options
