"""dlib's face descriptor network (`dlib_face_recognition_resnet_model_v1.dat`, public domain) -> ONNX.

The file is dlib's own serialisation: each layer starts with a tag, integers are packed (one byte with sign and length,
then little-endian), tensors are raw little-endian float32. The layer order and geometry are those of
`dnn_face_recognition_ex.cpp`; each affine layer is folded into the convolution in front of it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from worker.inference.onnx_graph import GraphWriter

CHIP: Final = 150  # pixels, height and width of the aligned face
DESCRIPTOR: Final = 128
MEAN_RGB: Final = (122.782, 117.001, 104.298)
TENSOR_VERSION: Final = 2
# Blocks from the input on: "=" keeps the size, "v" halves it.
BLOCKS: Final = "===" + "v===" + "v==" + "v==" + "v"


class DlibFormatError(ValueError):
    """The file is not the serialised network this reader knows."""


@dataclass(frozen=True)
class _Convolution:
    parameters: NDArray[np.float32]  # filters, then biases, flat
    filters: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True)
class _Features:
    """A value in the graph with its channels and side length, which the shortcuts need to know."""

    name: str
    channels: int
    side: int


def convert_descriptor(data: bytes) -> ModelProto:
    """Convert the descriptor network.

    Input `image`: float32 [N, 3, 150, 150] RGB 0..255 (mean and scale are inside the graph). Output `embedding`:
    float32 [N, 128], not normalised, compared by Euclidean distance. Raises DlibFormatError.
    """
    network = _NetworkWriter(data)
    writer = network.writer
    mean = writer.constant(np.array(MEAN_RGB).reshape(3, 1, 1))
    scaled = writer.apply("Mul", writer.apply("Sub", "image", mean), writer.constant(1 / 256))
    value = network.convolve(_Features(scaled, 3, CHIP), relu=True)
    pooled = writer.apply("MaxPool", value.name, kernel_shape=(3, 3), strides=(2, 2))
    value = _Features(pooled, value.channels, (value.side - 3) // 2 + 1)
    for block in BLOCKS:
        value = network.residual(value) if block == "=" else network.residual_down(value)
    network.expect_end()
    flat = writer.apply("Flatten", writer.apply("GlobalAveragePool", value.name))
    writer.apply("MatMul", flat, writer.constant(_read_last_layer(data, value.channels)), output="embedding")
    return writer.finish("face_descriptor", {"image": (3, CHIP, CHIP)}, {"embedding": (DESCRIPTOR,)})


class _NetworkWriter:
    def __init__(self, data: bytes) -> None:
        self.writer = GraphWriter()
        convolutions, affines = list(_read_convolutions(data)), list(_read_affines(data))
        if len(convolutions) != len(affines):
            raise DlibFormatError("convolutions and affine layers do not pair up")
        self._layers = iter(zip(convolutions, affines, strict=True))

    def convolve(self, value: _Features, relu: bool = False) -> _Features:
        try:
            layer, affine = next(self._layers)
        except StopIteration:
            raise DlibFormatError("the file ends before the network does") from None
        weights = layer.filters * value.channels * layer.kernel[0] * layer.kernel[1]
        if layer.parameters.size != weights + layer.filters or affine.size != 2 * layer.filters:
            raise DlibFormatError("a layer has not the size that its place asks for")
        weight = layer.parameters[:weights].reshape(layer.filters, value.channels, *layer.kernel)
        gain, offset = affine[: layer.filters], affine[layer.filters :]
        weight = weight * gain[:, None, None, None]
        bias = layer.parameters[weights:] * gain + offset
        name = self.writer.apply(
            "Conv",
            value.name,
            self.writer.constant(weight),
            self.writer.constant(bias),
            kernel_shape=layer.kernel,
            strides=layer.stride,
            pads=layer.padding * 2,
        )
        side = (value.side + 2 * layer.padding[0] - layer.kernel[0]) // layer.stride[0] + 1
        return _Features(self.writer.apply("Relu", name) if relu else name, layer.filters, side)

    def residual(self, value: _Features) -> _Features:
        inner = self.convolve(self.convolve(value, relu=True))
        return self._join(inner, value)

    def residual_down(self, value: _Features) -> _Features:
        inner = self.convolve(self.convolve(value, relu=True))
        pooled = self.writer.apply("AveragePool", value.name, kernel_shape=(2, 2), strides=(2, 2))
        return self._join(inner, _Features(pooled, value.channels, (value.side - 2) // 2 + 1))

    def expect_end(self) -> None:
        if next(self._layers, None) is not None:
            raise DlibFormatError("the file holds more layers than the network")

    def _join(self, inner: _Features, shortcut: _Features) -> _Features:
        """relu(a + b), the smaller one padded with zeros at the end of channels, rows and columns (dlib add_prev)."""
        channels = max(inner.channels, shortcut.channels)
        side = max(inner.side, shortcut.side)

        def padded(value: _Features) -> str:
            if (value.channels, value.side) == (channels, side):
                return value.name
            missing = side - value.side
            amounts = self.writer.integers(0, 0, 0, 0, 0, channels - value.channels, missing, missing)
            return self.writer.apply("Pad", value.name, amounts)

        total = self.writer.apply("Add", padded(inner), padded(shortcut))
        return _Features(self.writer.apply("Relu", total), channels, side)


def _read_integer(data: bytes, offset: int) -> tuple[int, int]:
    """dlib's packed integer at `offset`: the value and the offset behind it."""
    control = data[offset]
    length = control & 0x0F
    value = int.from_bytes(data[offset + 1 : offset + 1 + length], "little")
    return -value if control & 0x80 else value, offset + 1 + length


def _read_integers(data: bytes, offset: int, count: int) -> tuple[list[int], int]:
    values = []
    for _ in range(count):
        value, offset = _read_integer(data, offset)
        values.append(value)
    return values, offset


def _read_tensor(data: bytes, offset: int) -> tuple[NDArray[np.float32], int]:
    (version, *shape), offset = _read_integers(data, offset, 5)
    if version != TENSOR_VERSION:
        raise DlibFormatError(f"tensor version {version} is not supported")
    size = int(np.prod(shape))
    if size <= 0 or offset + 4 * size > len(data):
        raise DlibFormatError("a tensor does not fit into the file")
    return np.frombuffer(data, "<f4", size, offset).reshape(shape).astype(np.float32), offset + 4 * size


def _read_convolutions(data: bytes) -> Iterator[_Convolution]:
    for tag in re.finditer(rb"\x01\x05con_4", data):
        parameters, offset = _read_tensor(data, tag.end())
        (filters, rows, columns, stride_y, stride_x, pad_y, pad_x), _ = _read_integers(data, offset, 7)
        yield _Convolution(parameters.ravel(), filters, (rows, columns), (stride_y, stride_x), (pad_y, pad_x))


def _read_affines(data: bytes) -> Iterator[NDArray[np.float32]]:
    for tag in re.finditer(rb"\x01\x07affine_", data):
        yield _read_tensor(data, tag.end())[0].ravel()


def _read_last_layer(data: bytes, channels: int) -> NDArray[np.float32]:
    tag = re.search(rb"\x01\x04fc_2", data)
    if tag is None:
        raise DlibFormatError("the last layer is missing")
    _, offset = _read_integers(data, tag.end(), 2)
    matrix, _ = _read_tensor(data, offset)
    if matrix.size != channels * DESCRIPTOR:
        raise DlibFormatError("the last layer has not 128 outputs without bias")
    return matrix.reshape(channels, DESCRIPTOR)
